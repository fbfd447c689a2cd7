"""Accuracy on test sets whose distribution has shifted, with GuS."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lit_fed.callbacks.chance import label_counts, majority_share
from lit_fed.callbacks.periodic_evaluation import PeriodicEvaluation
from lit_fed.callbacks.reported_index import report_index
from lit_fed.metrics import (
    above_chance,
    macro_accuracy,
    sampling_error,
    shift_ratio,
    worst_accuracy,
)

if TYPE_CHECKING:
    from lit_fed.federation.federation_view import FederationView
    from lit_fed.module import FederatedModule


class ShiftEvaluation(PeriodicEvaluation):
    """Evaluates the shifted test sets, which are all of ``data.test`` but the first, and gives GuS.

    A round's row of the history gets ``shift/accuracy/<set>``, ``index/GuS`` of Zou (2024), Table 1, and beside it
    ``index/GuS/above_chance`` (chance is the share of a set's most frequent class), ``index/GuS/worst`` and
    ``index/GuS/ratio``, for which the first set is evaluated as well; see
    :class:`~lit_fed.metrics.GeneralizationUnderShift`. Each has its standard error from the number of test rows
    as ``index/<name>/error`` (:func:`~lit_fed.metrics.sampling_error`).

    Args:
        every_n_rounds: Evaluate after every so many rounds, beside after each task. None: not.
        metric: What :meth:`~lit_fed.FederationView.test` calls the accuracy. Without a global
            model it is the mean over the clients.

    Raises:
        ValueError: If ``every_n_rounds`` is below 1; when a fit starts, if there is no shifted set.
    """

    def __init__(
        self,
        every_n_rounds: int | None = None,
        metric: str = "test/accuracy",
    ) -> None:
        super().__init__(every_n_rounds)
        self.metric = metric
        self._shifts: list[str] = []

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        """Find the shifted sets."""
        self._main, *self._shifts = trainer.datamodule.tests or [""]
        if not self._shifts:
            raise ValueError(
                "ShiftEvaluation expects `data.test` to have shifted sets beside the first, but it has "
                f"{list(trainer.datamodule.tests)}"
            )

    def on_round_evaluation(
        self, trainer: FederationView, module: FederatedModule, metrics: dict[str, float]
    ) -> None:
        """Evaluate the sets where it is due."""
        if not self.is_due(trainer):
            return
        data = trainer.datamodule
        accuracy, chance, count = [], [], []
        for name in [*self._shifts, self._main]:
            found = trainer.evaluate(data.tests[name])
            value = found.get(self.metric, found.get(f"clients/{self.metric}/mean"))
            if value is None:
                raise ValueError(
                    f"`ShiftEvaluation.metric` is expected to be one of {sorted(found)}, but got "
                    f"{self.metric!r}"
                )
            accuracy.append(value)
            rows = trainer.evaluated(data.tests[name])
            count.append(float(len(rows)))
            chance.append(majority_share(label_counts(data.encoding, rows)))
            if name != self._main:
                metrics[f"shift/accuracy/{name}"] = value
        indices: dict[str, Callable[[Tensor], Tensor]] = {
            "GuS": lambda a: macro_accuracy(a[:-1]),
            "GuS/above_chance": lambda a: macro_accuracy(above_chance(a[:-1], chance[:-1])),
            "GuS/worst": lambda a: worst_accuracy(a[:-1]),
            "GuS/ratio": lambda a: shift_ratio(a[:-1], a[-1]),
        }
        accuracies, counts = torch.tensor(accuracy), torch.tensor(count)
        for index, of in indices.items():
            report_index(metrics, index, of(accuracies), sampling_error(of, accuracies, counts))
