"""A round of LoRA as an aggregation rule is given it, and what a rule is expected to make of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

_A: Final = ".lora_A.weight"
_B: Final = ".lora_B.weight"
_DENSE: Final = ".weight"


@dataclass(frozen=True)
class LoRARound:
    """What the clients of a round have sent.

    A rule is any callable that takes this and returns tensors by their names, of any of these kinds:

    - ``<layer>.lora_A.weight`` [r, in] and ``<layer>.lora_B.weight`` [out, r], of any r: the new global factors, whose
      product is multiplied by ``scale``. Without one of the two, that of ``previous`` stays.
    - ``<layer>.weight``: a change that is added to the frozen weight, in the shape in which the model stores it: of the
      layers in ``transposed`` that is [in, out], of the others [out, in].
    - whatever else the clients train, such as a head, by its own name.

    Where a layer has factors and a change, both count.

    Attributes:
        updates: Each client's tensors, by the names in peft's files.
        weights: w_k, with the sum 1.
        scales: s_k, which multiplies a client's product B·A: alpha / r or, rank-stabilised, alpha / √r.
        alphas: Each client's alpha, for rules that compute s_k themselves.
        scale: That of the global adapter.
        rank: r of the global adapter.
        previous: The global adapter's tensors before the round; B is 0.
        transposed: Layers whose weight is stored as [in, out], such as GPT-2's ``Conv1D``.

    Example:
        >>> round = LoRARound(
        ...     [{"q.lora_A.weight": torch.tensor([[1.0, 2.0]]), "q.lora_B.weight": torch.tensor([[3.0]])}],
        ...     weights=[1.0], scales=[2.0], alphas=[2.0], scale=2.0, rank=1, previous={},
        ... )
        >>> round.layers, round.exact()["q"]
        (['q'], tensor([[ 6., 12.]], dtype=torch.float64))
    """

    updates: Sequence[Mapping[str, Tensor]]
    weights: Sequence[float]
    scales: Sequence[float]
    alphas: Sequence[float]
    scale: float
    rank: int
    previous: Mapping[str, Tensor]
    transposed: frozenset[str] = frozenset()

    @property
    def layers(self) -> list[str]:
        """Those whose weights the factors change."""
        return [name.removesuffix(_A) for name in self.updates[0] if name.endswith(_A)]

    @property
    def others(self) -> list[str]:
        """Names of what is no factor, such as a head."""
        return [name for name in self.updates[0] if not name.endswith((_A, _B))]

    def reordered(self, order: Sequence[int]) -> LoRARound:
        """The same with its clients in another order."""
        return replace(
            self,
            updates=[self.updates[k] for k in order],
            weights=[self.weights[k] for k in order],
            scales=[self.scales[k] for k in order],
            alphas=[self.alphas[k] for k in order],
        )

    def exact(self) -> dict[str, Tensor]:
        """Σ w_k s_k B_k A_k of each layer, [out, in], in float64, and the weighted mean of what is no factor."""
        sums: dict[str, Tensor] = {}
        for update, weight, scale in zip(self.updates, self.weights, self.scales, strict=True):
            for layer in self.layers:
                a, b = update[layer + _A].double(), update[layer + _B].double()
                sums[layer] = sums.get(layer, 0.0) + weight * scale * (b @ a)
        return sums | self._means(self.others)

    def nearest(self) -> dict[str, Tensor]:
        """The best approximation of :meth:`exact` whose rank is that of the global adapter."""
        changes = self.exact()
        for layer in self.layers:
            u, s, vh = torch.linalg.svd(changes[layer], full_matrices=False)
            changes[layer] = u[:, : self.rank] * s[: self.rank] @ vh[: self.rank]
        return changes

    def mean_of_factors(self) -> dict[str, Tensor] | None:
        """s·(Σ w_k B_k)(Σ w_k A_k) of each layer; None where the clients' factors or scales differ in kind."""
        if len(set(self.scales)) > 1 or any(
            update[name].shape != tensor.shape
            for update in self.updates
            for name, tensor in self.updates[0].items()
        ):
            return None
        means = self._means(list(self.updates[0]))
        changes = {
            layer: self.scales[0] * (means[layer + _B] @ means[layer + _A]) for layer in self.layers
        }
        return changes | {name: means[name] for name in self.others}

    def result(self, returned: Mapping[str, Tensor]) -> LoRAResult:
        """What a rule has returned, as changes of the weights.

        Raises:
            TypeError: If it is no mapping of tensors.
            ValueError: If something is missing, of another shape, not finite or of no layer.
        """
        tensors = _tensors(returned)
        known = {
            *self.others,
            *(f"{layer}{end}" for layer in self.layers for end in (_A, _B, _DENSE)),
        }
        if unknown := sorted(tensors.keys() - known):
            raise ValueError(
                f"a rule is expected to return factors, changes and what else was sent, but returned {unknown[0]!r}"
            )
        if missing := [name for name in self.others if name not in tensors]:
            raise ValueError(f"a rule is expected to return {missing[0]!r}, but did not")
        changes = {name: tensors[name] for name in self.others}
        for layer in self.layers:
            parts = [self._dense(layer, tensors), self._product(layer, tensors)]
            there = [part for part in parts if part is not None]
            if not there:
                raise ValueError(
                    f"a rule is expected to return factors or a change of {layer}, but returned neither"
                )
            changes[layer] = torch.stack(there).sum(0)
        return LoRAResult(changes)

    def _shape(self, layer: str) -> tuple[int, int]:
        first = self.updates[0]
        return first[layer + _B].shape[0], first[layer + _A].shape[1]

    def _dense(self, layer: str, tensors: Mapping[str, Tensor]) -> Tensor | None:
        if layer + _DENSE not in tensors:
            return None
        change, (out, width) = tensors[layer + _DENSE], self._shape(layer)
        stored = (width, out) if layer in self.transposed else (out, width)
        if change.shape != stored:
            raise ValueError(
                f"the change of {layer} is expected to have its weight's shape {list(stored)}, but got "
                f"{list(change.shape)}"
            )
        return change.T if layer in self.transposed else change

    def _product(self, layer: str, tensors: Mapping[str, Tensor]) -> Tensor | None:
        if not {layer + _A, layer + _B} & tensors.keys():
            return None
        held = {**self.previous, **tensors}
        a, b = held[layer + _A].double(), held[layer + _B].double()
        if (b.shape[0], a.shape[-1]) != self._shape(layer) or b.shape[1:] != a.shape[:1]:
            raise ValueError(
                f"the factors of {layer} are expected to be of a change {list(self._shape(layer))}, but B is "
                f"{list(b.shape)} and A {list(a.shape)}"
            )
        return self.scale * (b @ a)

    def _means(self, names: Sequence[str]) -> dict[str, Tensor]:
        return {
            name: torch.stack(
                [w * u[name].double() for u, w in zip(self.updates, self.weights, strict=True)]
            ).sum(0)
            for name in names
        }


@dataclass(frozen=True)
class LoRAResult:
    """What a rule has made of a round.

    Attributes:
        changes: Of each layer the change of its weight, [out, in], and whatever else was sent by its name; in float64.
    """

    changes: Mapping[str, Tensor]

    def distance(self, expected: Mapping[str, Tensor]) -> float:
        """‖found − expected‖ / ‖expected‖, Frobenius, over everything together.

        Example:
            >>> LoRAResult({"q": torch.tensor([[3.0, 0.0]])}).distance({"q": torch.tensor([[2.0, 0.0]])})
            0.5
        """
        off = sum(float((self.changes[n] - e).square().sum()) for n, e in expected.items())
        size = sum(float(e.square().sum()) for e in expected.values())
        return float((off / size) ** 0.5)


def _tensors(returned: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if not isinstance(returned, Mapping) or not all(
        isinstance(tensor, Tensor) for tensor in returned.values()
    ):
        raise TypeError(
            f"a rule is expected to return tensors by their names, but returned {type(returned).__name__}"
        )
    for name, tensor in returned.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(
                f"a rule is expected to return finite numbers, but {name!r} has others"
            )
    return {name: tensor.detach().double() for name, tensor in returned.items()}
