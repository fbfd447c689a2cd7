"""No gate: every row is trained on."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lit_fed.prototypes.gates.gate import Gate, Judgement, nearest
from lit_fed.prototypes.prototype_set import PrototypeSet


class NoGate(Gate):
    """Keeps all rows: the defence of the paper, which is the prototype margin alone.

    Example:
        >>> zero = torch.tensor([0])
        >>> east = PrototypeSet(torch.tensor([[1.0, 0.0]]), zero, zero, version=0, encoder="a1b2")
        >>> NoGate().judge(east, {}, -torch.ones(1, 2), torch.tensor([5])).kept.tolist()
        [True]
    """

    def judge(
        self,
        prototypes: PrototypeSet,
        fitted: Mapping[str, Tensor],
        states: Tensor,
        labels: Tensor,
    ) -> Judgement:
        """All rows are; see the base class."""
        assigned, similarity = nearest(prototypes, states)
        kept = torch.ones(len(states), dtype=torch.bool)
        return Judgement(kept, assigned, similarity, ("",) * len(states))
