"""Agreement gate: a row is trained on where its label is the class of its nearest prototype."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from lit_fed.prototypes.gates.gate import NOT_FINITE, Gate, Judgement, class_name, nearest
from lit_fed.prototypes.prototype_set import NO_CLASS, PrototypeSet


class AgreementGate(Gate):
    """Drops the rows whose label is not the class of the nearest prototype.

    It is as good as the encoder: what the encoder takes for another class is lost, and what it takes for the class
    that an attacker wants comes through.

    Example:
        >>> import torch
        >>> classes = counts = torch.tensor([0, 1])
        >>> axes = PrototypeSet(torch.eye(2), classes, counts, 0, "a1b2", labels=("bad", "good"))
        >>> said = AgreementGate().judge(axes, {}, torch.eye(2), torch.tensor([0, 0]))
        >>> said.kept.tolist(), said.reasons[1]
        ([True, False], "nearest prototype 1 is of class 'good'")
    """

    def check(self, prototypes: PrototypeSet) -> None:
        """Every prototype has to have a class, and every class a prototype; see the base class."""
        if bool((prototypes.classes == NO_CLASS).any()):
            raise ValueError(
                f"`model.gate` {type(self).__name__} expects prototypes with a class, hence references with labels, "
                f"but {int((prototypes.classes == NO_CLASS).sum())} of {len(prototypes)} have none"
            )
        there = set(prototypes.classes.tolist())
        if lacking := [name for n, name in enumerate(prototypes.labels) if n not in there]:
            raise ValueError(
                f"`model.gate` {type(self).__name__} expects a prototype of each class, since it drops the rows of "
                f"others, but of {lacking[0]!r} there is none: raise `model.num_prototypes`, or see `model.supervised`"
            )

    def judge(
        self,
        prototypes: PrototypeSet,
        fitted: Mapping[str, Tensor],
        states: Tensor,
        labels: Tensor,
    ) -> Judgement:
        """Where the classes agree; see the base class."""
        assigned, similarity = nearest(prototypes, states)
        classes = prototypes.classes.to(assigned.device)[assigned]
        finite = similarity.isfinite()
        kept = ((classes == labels) | (labels < 0)) & finite
        reasons = tuple(
            ""
            if one
            else f"nearest prototype {place} is of class {class_name(prototypes, own)!r}"
            if judged
            else NOT_FINITE
            for one, place, own, judged in zip(
                kept.tolist(), assigned.tolist(), classes.tolist(), finite.tolist(), strict=True
            )
        )
        return Judgement(kept, assigned, similarity, reasons)
