"""Changes of the numbers that are sent, taken as one long vector."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from lit_fed.aggregation.robust.changes import Changes, CoordinateRule, Geometry, unit_noise
from lit_fed.aggregation.weighted_average import alike, weighted_mean
from lit_fed.payload import Payload
from lit_fed.update import Update

if TYPE_CHECKING:
    from lit_fed.backbones import Backbone

# Values of all clients that are taken into float64 at a time.
_AT_A_TIME: Final = 2**22


class Coordinates(Geometry):
    r"""Δ_k = θ_k − θ_g over all floating tensors together.

    Over LoRA it warns: the change of a weight is s·B·A, and B·R with R⁻¹·A is the same change for every
    invertible R. Two clients that have learnt the same may lie far apart in these coordinates, and robust values of
    A and of B have a product that is nobody's.

    Example:
        >>> sent = [Update(n, Payload({"w": torch.tensor([x, 1.0])}), 1) for n, x in (("a", 4.0), ("b", 1.0))]
        >>> Coordinates().changes(sent, Payload({"w": torch.tensor([1.0, 1.0])})).norms()
        tensor([3., 0.], dtype=torch.float64)
    """

    def setup(self, backbone: Backbone, rule: str) -> None:
        """Warn where the coordinates are those of factors."""
        if has_factors(backbone):
            rank_zero_warn(
                f"`model.aggregation` {rule} acts on the coordinates of LoRA's factors, not on the changes s·B·A of "
                "the weights: the product of robust factors is not the robust product, and B·R with R⁻¹·A is the "
                "same change as B with A, yet other coordinates; "
                "`geometry` lit_fed.aggregation.robust.Products acts on the changes"
            )

    def changes(self, updates: Sequence[Update], previous: Payload) -> CoordinateChanges:
        """The changes of all tensors."""
        return CoordinateChanges(updates, previous)


def has_factors(backbone: Backbone) -> bool:
    """Whether an adapter has LoRA's factors among its parameters.

    Args:
        backbone: The backbone.
    """
    return any("lora_" in name for name in backbone.trainable())


class CoordinateChanges(Changes):
    """The changes of some tensors.

    Memory beyond the clients' uploads is bounded: float64 copies are made of a part of the coordinates at a time.

    Args:
        updates: At least one.
        previous: The broadcast before.
        without: Tensors that are left out.

    Raises:
        ValueError: If the clients or the broadcast hold other tensors than the first client, or tensors that are not
            of floating numbers differ.
    """

    def __init__(
        self, updates: Sequence[Update], previous: Payload, without: Collection[str] = ()
    ) -> None:
        names = [name for name in updates[0].payload.tensors if name not in without]
        self.updates = updates
        self.before = {
            name: tensor
            for name, tensor in previous.matching(
                updates[0].payload.tensors, "the broadcast before"
            ).items()
            if name in set(names)
        }
        self._sent = alike(updates)
        whole = [name for name, tensor in self.before.items() if not tensor.is_floating_point()]
        self._whole = weighted_mean(
            [Update(u.client_id, u.payload.select(whole), 1) for u in updates], [0.0] * len(updates)
        )

    def squared_norms(self) -> Tensor:
        """‖Δ_k‖², [K]."""
        total = torch.zeros(len(self.updates), dtype=torch.float64)
        for _, _, change in self._parts():
            total += change.square().sum(1)
        return total

    def inner_products(self) -> Tensor:
        """⟨Δ_j, Δ_k⟩, [K, K]."""
        count = len(self.updates)
        total = torch.zeros(count, count, dtype=torch.float64)
        for _, _, change in self._parts():
            total.addmm_(change, change.T)
        return total

    def combined(
        self,
        coefficients: Tensor,
        noise: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Payload:
        """θ_g + Σ c_k (θ_k − θ_g), as (1 − Σ c_k) θ_g + Σ c_k θ_k."""
        tensors = weighted_mean(
            [Update(u.client_id, u.payload.select(self.before), 1) for u in self.updates],
            coefficients.tolist(),
        )
        rest = 1 - float(coefficients.sum())
        for name, old in self.before.items():
            if old.is_floating_point():
                new = tensors[name].add_(old.double(), alpha=rest)
                if noise:
                    new.add_(unit_noise(new, generator), alpha=noise)
                tensors[name] = new.to(old.dtype)
        return Payload(tensors, self.updates[0].payload.strings)

    def combined_by_coordinate(self, rule: CoordinateRule) -> tuple[Payload, Tensor]:
        """θ_g + rule(θ_1 − θ_g, …), coordinate by coordinate."""
        tensors, shares, size = self.by_coordinate(rule)
        return Payload(tensors, self.updates[0].payload.strings), shares / max(size, 1)

    def by_coordinate(self, rule: CoordinateRule) -> tuple[dict[str, Tensor], Tensor, int]:
        """What :meth:`combined_by_coordinate` is made of.

        Returns:
            The tensors, the sums of the clients' weights [K], and the number of coordinates.
        """
        tensors = {
            name: self._whole[name] if name in self._whole else old.double().clone()
            for name, old in self.before.items()
        }
        shares, size = torch.zeros(len(self.updates), dtype=torch.float64), 0
        for name, part, change in self._parts():
            value, counted = rule(change)
            tensors[name].view(-1)[part] += value
            shares += counted
            size += change.shape[1]
        return {name: t.to(self.before[name].dtype) for name, t in tensors.items()}, shares, size

    def _parts(self) -> Iterator[tuple[str, slice, Tensor]]:
        """Tensor by tensor and part by part: its name, where it is in the flat tensor, and the changes [K, n]."""
        step = max(1, _AT_A_TIME // len(self.updates))
        for name, old in self.before.items():
            if not old.is_floating_point():
                continue
            flat = [sent[name].reshape(-1) for sent in self._sent]
            before = old.reshape(-1)
            for start in range(0, old.numel(), step):
                part = slice(start, start + step)
                base = before[part].double()
                yield name, part, torch.stack([one[part].double() - base for one in flat])
