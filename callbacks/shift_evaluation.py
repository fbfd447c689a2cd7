"""Accuracy on test sets whose distribution has shifted, with GuS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from lit_fed.callbacks.periodic_evaluation import PeriodicEvaluation
from lit_fed.metrics import GeneralizationUnderShift

if TYPE_CHECKING:
    from lit_fed.federation.federation_view import FederationView
    from lit_fed.module import FederatedModule


class ShiftEvaluation(PeriodicEvaluation):
    """Evaluates the shifted test sets, which are all of ``data.test`` but the first, and gives GuS.

    A round's row of the history gets ``shift/accuracy/<set>`` and ``index/GuS``, of Zou (2024), Table 1.

    Args:
        every_n_rounds: Evaluate after every so many rounds, beside after each task. None: not.
        mode: See :class:`~lit_fed.metrics.GeneralizationUnderShift`.
        metric: What :meth:`~lit_fed.FederationView.test` calls the accuracy. Without a global
            model it is the mean over the clients.

    Raises:
        ValueError: If ``every_n_rounds`` is below 1; when a fit starts, if there is no shifted set.
    """

    def __init__(
        self,
        every_n_rounds: int | None = None,
        mode: Literal["macro", "worst", "ratio"] = "macro",
        metric: str = "test/accuracy",
    ) -> None:
        super().__init__(every_n_rounds)
        self.mode: Literal["macro", "worst", "ratio"] = mode
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
        index = GeneralizationUnderShift(self._shifts, self.mode)
        for name in self._shifts if self.mode != "ratio" else [*self._shifts, self._main]:
            found = trainer.evaluate(trainer.datamodule.tests[name])
            accuracy = found.get(self.metric, found.get(f"clients/{self.metric}/mean"))
            if accuracy is None:
                raise ValueError(
                    f"`ShiftEvaluation.metric` is expected to be one of {sorted(found)}, but got "
                    f"{self.metric!r}"
                )
            metrics[f"shift/accuracy/{name}"] = accuracy
            index.update(accuracy, None if name == self._main else name)
        metrics["index/GuS"] = float(index.compute())
