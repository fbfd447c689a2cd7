"""What the rules share that change the frozen base: its change so far, how it grows, and how exact that is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lit_fed.aggregation.aggregation import BASE_CHANGE
from lit_fed.aggregation.lora.base_change import changes_in, grown, part_of
from lit_fed.aggregation.lora.distance import DISTANCE
from lit_fed.aggregation.lora.factors import Factors
from lit_fed.aggregation.lora.products import Product
from lit_fed.aggregation.lora.rule import LoRARule
from lit_fed.aggregation.weighting import Weighting
from lit_fed.backbones.folding import WeightChange
from lit_fed.payload import Payload

if TYPE_CHECKING:
    from lit_fed.backbones import Backbone

Terms = Callable[[Sequence[Factors], Sequence[float]], list[tuple[Tensor, Tensor]]]
"""What a round adds to the base under one weight, Σ L·R in float64, of the clients' factors and their weights."""


class FoldingRule(LoRARule):
    """A rule over LoRA that changes the frozen base.

    The sum of all rounds' changes is the broadcast's part ``base_change``, which every client downloads whole.

    Args:
        weights: What a client's weight w_k is proportional to, as in ``WeightedAverage``.
        score: The client metric used by ``validation``, larger is better.
    """

    def __init__(self, weights: Weighting = "size", score: str = "val/accuracy") -> None:
        super().__init__(weights, score)
        self._measured: dict[str, float] = {}

    def setup(self, backbone: Backbone) -> None:
        """Find the factors, and see that the weights that they change can be changed themselves.

        Raises:
            ValueError: If the backbone's adapter is no plain LoRA, or a weight under it is quantised or tied to
                another module's.
        """
        super().setup(backbone)
        backbone.require_foldable(self.layout.weights, f"`model.aggregation` {type(self).__name__}")

    def base_change(self, part: Payload) -> Mapping[str, WeightChange]:
        """The sum of all rounds' changes; see :class:`~lit_fed.aggregation.Aggregation`."""
        return changes_in(part)

    def changes(self) -> None:
        """None: the distance is measured here, since it is of what a round adds to the base."""
        return

    def metrics(self) -> dict[str, float]:
        """``server/lora_distance``; see :class:`~lit_fed.aggregation.lora.distance.LoRADistance`."""
        return dict(self._measured)

    def grow(
        self,
        previous: Payload,
        sent: Sequence[Mapping[str, Factors]],
        weights: Sequence[float],
        terms: Terms,
        kept: Mapping[str, Factors],
    ) -> Payload:
        """The part ``base_change`` of the next broadcast.

        Args:
            previous: The broadcast before, with its part.
            sent: The clients' factors by layer.
            weights: w_k, one per client.
            terms: What the round adds to the base.
            kept: The factors of the next broadcast by layer, whose products stand beside the base.
        """
        changes = changes_in(previous.parts.get(BASE_CHANGE, Payload()))
        off = of = 0.0
        for layer in self.layout.weights:
            factors, before = [one[layer] for one in sent], changes.get(layer)
            dtype = torch.promote_types(factors[0].a.dtype, torch.float32)
            after = grown(before, terms(factors, weights), dtype)
            if after is not None:
                changes[layer] = after
            missed, exact = _missed(before, after, kept.get(layer), factors, weights)
            off, of = math.hypot(off, missed), math.hypot(of, exact)
        # as the other rules: nothing is told where the clients' sum is 0 and the server's change is not
        self._measured = {} if off and not of else {DISTANCE: off / of if off else 0.0}
        return part_of(changes)


def stacked(factors: Sequence[Factors], weights: Sequence[float]) -> list[tuple[Tensor, Tensor]]:
    """Σ w_k s_k B_k A_k, weight and scale in one factor alone.

    Args:
        factors: Of the clients for one weight.
        weights: w_k, one per client.

    Returns:
        w_k s_k B_k [out, r_k] and A_k [r_k, in] of each, in float64.
    """
    return [
        (f.b.double() * (w * f.scale), f.a.double()) for f, w in zip(factors, weights, strict=True)
    ]


def _missed(
    before: WeightChange | None,
    after: WeightChange | None,
    kept: Factors | None,
    factors: Sequence[Factors],
    weights: Sequence[float],
) -> tuple[float, float]:
    """‖Δ − Σ w_k s_k B_k A_k‖ and ‖Σ w_k s_k B_k A_k‖, Δ being what a round has made of a weight and its adapter."""
    ours = [] if kept is None else [(kept.b.double() * kept.scale, kept.a.double())]
    theirs = stacked(factors, weights)
    if after is not None and after.q is None:
        exact = _dense(theirs)
        off = after.p.double() - exact
        if before is not None:
            off -= before.dense().double()
        for left, right in ours:
            off.addmm_(left, right)
        return float(torch.linalg.matrix_norm(off)), float(torch.linalg.matrix_norm(exact))
    if after is not None and after.q is not None:
        # what was there before is at the beginning, as it was
        done = 0 if before is None else before.p.shape[1]
        ours.append((after.p[:, done:].double(), after.q[done:].double()))
    mean = _product(theirs)
    return (_product(ours) - mean).norm(), mean.norm()


def _dense(terms: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    total = torch.zeros(terms[0][0].shape[0], terms[0][1].shape[1], dtype=torch.float64)
    for left, right in terms:
        total.addmm_(left, right)
    return total


def _product(terms: Sequence[tuple[Tensor, Tensor]]) -> Product:
    return Product(
        torch.cat([left for left, _ in terms], 1), torch.cat([right for _, right in terms])
    )
