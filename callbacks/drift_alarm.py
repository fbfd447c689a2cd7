"""Drift alarm: whether inputs lie farther from the prototypes than held-out clean rows do, after each round."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lit_fed.callbacks.periodic_evaluation import PeriodicEvaluation, require_own_names
from lit_fed.callbacks.prototype_view import (
    prototypes_of,
    require_prototypes,
    require_row_vectors,
    row_vectors,
)
from lit_fed.data.columns import require_column
from lit_fed.data.sources.source import Source
from lit_fed.defenses.drift import alarm_count, drift_windows
from lit_fed.limits import require_at_least

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.federation.federation_view import FederationView
    from lit_fed.module import FederatedModule


class DriftAlarm(PeriodicEvaluation):
    """Compares inputs with validation rows by their distance to the nearest prototype.

    :func:`~lit_fed.defenses.drift_windows` does so for any stream after deployment; this callback logs it after rounds.
    Without ``stream`` every second validation row is a reference and the others are the inputs, so that there is an
    alarm in a share ``alpha`` of the windows at most. A round's row gets ``drift/share`` (of all inputs beyond the
    margin), ``drift/expected`` (of the references), ``drift/threshold`` (the share from which on a window is an alarm),
    ``drift/windows`` and ``drift/alarms``, and ``drift/distance``, the mean of 1 − cosine to the nearest prototype.

    Args:
        stream: A table of inputs with the columns of the data, such as those of last week. None: validation rows.
        margin: Distance 1 − cosine beyond which an input is far. None: the one that 5 % of the references exceed.
        window: Inputs of a window; at most as many as there are.
        alpha: Share of windows that may be false alarms, above 0 and below 1.
        every_n_rounds: Evaluate after every so many rounds, beside the last. None: not.

    Raises:
        ValueError: If a number is out of range; when a fit starts, if there are no validation rows, or fewer inputs
            than a window has.
        TypeError: When a fit starts, if the method has no prototypes, or cannot embed rows of several texts.

    Example:
        >>> DriftAlarm(alpha=2.0)
        Traceback (most recent call last):
        ValueError: `alpha` is expected to be above 0 and below 1, but got 2.0
    """

    prefix = "drift"

    def __init__(
        self,
        stream: Source | None = None,
        margin: float | None = None,
        window: int = 50,
        alpha: float = 0.01,
        every_n_rounds: int | None = 1,
    ) -> None:
        super().__init__(every_n_rounds)
        self.window = require_at_least("DriftAlarm.window", window, 1)
        alarm_count(0, 1, window, alpha)
        if margin is not None and not np.isfinite(margin):
            raise ValueError(f"`DriftAlarm.margin` is expected to be finite, but got {margin!r}")
        self.stream = stream
        self.margin = margin
        self.alpha = alpha
        self._references: Dataset
        self._inputs: Dataset

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        """Read the rows, and say now where there is nothing to compare."""
        require_own_names(self, trainer)
        require_prototypes(module, type(self).__name__)
        validation = trainer.datamodule.validation
        if validation is None or not len(validation):
            raise ValueError(
                "`DriftAlarm` expects validation rows as clean references, but `data.validation` has none"
            )
        encoding = trainer.datamodule.encoding
        require_row_vectors(module, encoding, validation, type(self).__name__)
        if self.stream is None:
            # in an order that says nothing, whatever that of the table says
            order = np.random.default_rng(0).permutation(len(validation))
            self._references = validation.select(order[0::2])
            self._inputs = validation.select(order[1::2])
        else:
            # of rows without labels, which are not looked at, each gets one, so that they are read like others
            self._references = validation
            self._inputs, _ = encoding.answered(self.stream.load(), validation)
            for setting, column in encoding.columns.items():
                if column not in (encoding.answer_column, encoding.weight):
                    require_column(
                        self._inputs, column, f"data.encoding.{setting}", "DriftAlarm.stream"
                    )
        if len(self._inputs) < self.window:
            raise ValueError(
                f"`DriftAlarm.window` is expected to be at most the {len(self._inputs)} inputs that there are, but got "
                f"{self.window}"
            )

    def on_round_evaluation(
        self, trainer: FederationView, module: FederatedModule, metrics: dict[str, float]
    ) -> None:
        """Add what was found, where there are prototypes by now."""
        prototypes = prototypes_of(module)
        if prototypes is None or not self.is_due(trainer):
            return
        encoding = trainer.datamodule.encoding

        def nearest(rows: Dataset) -> list[float]:
            vectors = row_vectors(module, encoding, rows)
            found: list[float] = prototypes.similarities(vectors).amax(-1).tolist()
            return found

        references, inputs = nearest(self._references), nearest(self._inputs)
        windows = list(drift_windows(inputs, references, self.margin, self.window, self.alpha))
        # a window of all of them tells what share of the references lies beyond the same margin
        whole = len(references)
        (held_out,) = drift_windows(references, references, self.margin, whole, self.alpha)
        seen = sum(one.size for one in windows)
        metrics |= {
            "drift/share": sum(one.beyond for one in windows) / seen,
            "drift/expected": held_out.share,
            "drift/threshold": windows[0].threshold / self.window,
            "drift/windows": float(len(windows)),
            "drift/alarms": float(sum(one.alarm for one in windows)),
            "drift/distance": 1.0 - float(np.mean(inputs)),
        }
