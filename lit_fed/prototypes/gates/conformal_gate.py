"""Conformal gate: a row is dropped where few clean references are as strange in their classes as it is in its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from lit_fed.limits import require_inner_fraction
from lit_fed.losses.prototype_margin import prototype_cosines
from lit_fed.prototypes.gates.gate import NOT_FINITE, Gate, Judgement, nearest
from lit_fed.prototypes.prototype_set import PrototypeSet, require_finite

_MEDIANS: Final = "medians"
_TYPICAL: Final = "typical"
_SCORES: Final = "scores"


class ConformalGate(Gate):
    r"""Drops the rows that are less like their class than all but a share α of clean references.

    The class prototype :math:`M_c` is the coordinate-wise median of the embeddings of the class's references. Of a row
    with label y and vector :math:`v = (\cos(e, M_1), …, \cos(e, M_C))` the score is the distance
    :math:`s = \lVert v - \mathrm{med}_y \rVert_2` from the median of such vectors of its class, and

    .. math:: p = \frac{\#\{\text{held-out references with a score} \ge s\} + 1}{n + 1}.

    It is dropped where p ≤ α. So at most about a share α of clean rows is lost, if they are like the references, and
    if the held-out ones had no part in fitting the encoder; else it is far more. The held-out references of all
    classes are pooled: of a broad or rare class more may be lost, of others less.

    Shui et al., "ProtoGuard-SL: Prototype Consistency Based Backdoor Defense for Vertical Split Learning", 2026,
    https://arxiv.org/abs/2604.03595, for texts in the place of the passive party's embeddings.

    Args:
        alpha: α in (0, 1).

    Raises:
        ValueError: If α is out of range.

    Example:
        >>> ConformalGate(alpha=0.2).alpha
        0.2
        >>> ConformalGate(alpha=1.0)
        Traceback (most recent call last):
        ValueError: `model.gate.alpha` is expected to be above 0 and below 1, but got 1.0
    """

    def __init__(self, alpha: float = 0.1) -> None:
        self.alpha = require_inner_fraction("model.gate.alpha", alpha)

    def fit(
        self,
        states: Tensor,
        labels: Tensor,
        held_out_states: Tensor,
        held_out_labels: Tensor,
    ) -> dict[str, Tensor]:
        """Server: the classes' medians and the scores of the held-out references; see the base class.

        Raises:
            ValueError: If so few references are held out that no p can be as small as α, or a representation is not
                finite.
        """
        count, least = len(held_out_states), fewest_calibrated(self.alpha)
        if count < least:
            raise ValueError(
                f"`model.held_out` is expected to leave at least {least} references for the calibration of "
                f"`model.gate` ConformalGate, below which no p-value is as small as `model.gate.alpha` {self.alpha:g}, "
                f"but leaves {count}"
            )
        require_finite("states", states)
        require_finite("held_out_states", held_out_states)
        states, labels = states.float().cpu(), labels.cpu()
        classes = range(int(labels.max()) + 1)
        medians = torch.stack([states[labels == c].quantile(0.5, dim=0) for c in classes])
        cosines = prototype_cosines(states, medians)
        typical = torch.stack([cosines[labels == c].quantile(0.5, dim=0) for c in classes])
        scores = _scores(held_out_states, held_out_labels, medians, typical)
        return {_MEDIANS: medians, _TYPICAL: typical, _SCORES: scores.sort().values}

    def judge(
        self,
        prototypes: PrototypeSet,
        fitted: Mapping[str, Tensor],
        states: Tensor,
        labels: Tensor,
    ) -> Judgement:
        """Where p > α; see the base class."""
        assigned, similarity = nearest(prototypes, states)
        p = conformal_p_values(
            _scores(states, labels, fitted[_MEDIANS], fitted[_TYPICAL]), fitted[_SCORES]
        )
        finite = similarity.isfinite()
        kept = ((p > self.alpha) | (labels < 0)) & finite
        reasons = tuple(
            ""
            if one
            else f"p-value {value:.3g} is at most {self.alpha:g}"
            if judged
            else NOT_FINITE
            for one, value, judged in zip(kept.tolist(), p.tolist(), finite.tolist(), strict=True)
        )
        return Judgement(kept, assigned, similarity, reasons)


def fewest_calibrated(alpha: float) -> int:
    """The least n of calibration examples with which 1 / (n + 1), the smallest p-value, is at most α.

    Args:
        alpha: α in (0, 1).

    Example:
        >>> fewest_calibrated(0.05), fewest_calibrated(0.3)
        (19, 3)
    """
    return math.ceil(round(1 / alpha, 9)) - 1


def conformal_p_values(scores: Tensor, calibration: Tensor) -> Tensor:
    """(#{calibration ≥ score} + 1) / (n + 1) of each score, [N] in float64.

    Vovk et al., "Algorithmic Learning in a Random World", 2005.

    Args:
        scores: [N].
        calibration: Scores of n clean examples, ascending.

    Example:
        >>> conformal_p_values(torch.tensor([0.0, 2.0, 9.0]), torch.tensor([1.0, 2.0, 3.0])).tolist()
        [1.0, 0.75, 0.25]
    """
    below = torch.searchsorted(calibration.double(), scores.double().contiguous())
    return (len(calibration) - below + 1).double() / (len(calibration) + 1)


def _scores(states: Tensor, labels: Tensor, medians: Tensor, typical: Tensor) -> Tensor:
    """Of each row the distance of its cosines from those that are usual in its class, [N]."""
    cosines = prototype_cosines(states.float(), medians.to(states.device))
    # A class that no reference has is like none of them.
    known = labels.clamp(0, len(typical) - 1)
    apart = torch.linalg.vector_norm(cosines - typical.to(cosines)[known], dim=-1)
    return torch.where(labels < len(typical), apart, torch.inf)
