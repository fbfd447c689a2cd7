"""Which of Lightning's callbacks and loggers a federation refuses, and what there is instead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from lightning.fabric.loggers import Logger
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import (
    BaseFinetuning,
    BasePredictionWriter,
    BatchSizeFinder,
    DeviceStatsMonitor,
    LearningRateFinder,
    LearningRateMonitor,
    ModelCheckpoint,
    ModelPruning,
    OnExceptionCheckpoint,
    ProgressBar,
    SpikeDetection,
    StochasticWeightAveraging,
    ThroughputMonitor,
    WeightAveraging,
)

REFUSED: Final[dict[type[Callback], str]] = {
    BaseFinetuning: (
        "what a client trains is chosen by `model.backbone`, `model.aggregation` (`Aggregation.trains`) or the "
        "method's `start_stage`"
    ),
    BasePredictionWriter: "`FederatedTrainer.predict` returns every batch's predictions with its rows' `index`",
    BatchSizeFinder: "the size of a client's batches is `data.batch_size`",
    DeviceStatsMonitor: "lit_fed.callbacks.PeakMemory logs memory for each round",
    LearningRateFinder: "every client has an optimizer of its own, whose rate is that of `model.optimizer`",
    LearningRateMonitor: "lit_fed.callbacks.ClientLearningRate logs the clients' rates for each round",
    ModelCheckpoint: "lit_fed.callbacks.RoundCheckpoint(monitor=...) keeps the last and the best round",
    ModelPruning: "what clients exchange has no masks; weights are combined by `model.aggregation`",
    OnExceptionCheckpoint: (
        "lit_fed.callbacks.RoundCheckpoint keeps the last finished round, however the run ends"
    ),
    ProgressBar: "lit_fed.callbacks.RoundProgressBar shows rounds and clients",
    SpikeDetection: (
        "losses of different clients are no sequence; a client whose loss is not finite is left out of its round"
    ),
    StochasticWeightAveraging: "weights are averaged by the server, with `model.aggregation`",
    ThroughputMonitor: "every round has its seconds as `time/...`, and lit_fed.callbacks.RoundProfiler the details",
    WeightAveraging: "weights are averaged by the server, with `model.aggregation`",
}
"""Lightning's callbacks (and what extends them) that need a single optimizer, a checkpoint file or a loop of
batches, which a federation does not have; and what there is instead."""

_FILE_HOOKS: Final = ("on_save_checkpoint", "on_load_checkpoint")


def check_callbacks(callbacks: Sequence[Any]) -> None:
    """Refuse callbacks that cannot act in a federation.

    Args:
        callbacks: The user's own.

    Raises:
        ValueError: If one cannot act, naming what there is instead.

    Example:
        >>> check_callbacks([ModelCheckpoint(monitor="val/loss")])
        Traceback (most recent call last):
        ValueError: `trainer.callbacks` ModelCheckpoint has no place in a federation: \
lit_fed.callbacks.RoundCheckpoint(monitor=...) keeps the last and the best round
    """
    for callback in callbacks:
        name = type(callback).__name__
        for kind, instead in REFUSED.items():
            if isinstance(callback, kind):
                raise ValueError(
                    f"`trainer.callbacks` {name} has no place in a federation: {instead}"
                )
        for hook in _FILE_HOOKS:
            if _overrides(callback, hook):
                raise ValueError(
                    f"`trainer.callbacks` {name} has `{hook}`, which a federation does not call: its checkpoints "
                    "hold what `state_dict` returns"
                )


def check_loggers(setting: Any) -> None:
    """Refuse what is no logger, and loggers that are to upload Lightning's checkpoints.

    Args:
        setting: The trainer's ``loggers``.

    Raises:
        TypeError: If one is no logger, for instance a class instead of an object.
        ValueError: If one is to upload checkpoints.
    """
    if isinstance(setting, bool):
        return
    for logger in [setting] if not isinstance(setting, list | tuple) else setting:
        if not isinstance(logger, Logger):
            raise TypeError(
                "`trainer.loggers` is expected to be true, false or Lightning's loggers, but got "
                f"{logger!r:.80}"
            )
        # of Weights & Biases, MLflow and LitLogger, which wait for a ModelCheckpoint
        if getattr(logger, "_log_model", False):
            raise ValueError(
                f"`trainer.loggers` {type(logger).__name__} is expected to have `log_model` false, since a round's "
                "checkpoint is a folder that lit_fed.callbacks.RoundCheckpoint keeps"
            )


def _overrides(callback: Callback, hook: str) -> bool:
    own = getattr(callback, hook)
    return getattr(own, "__func__", own) is not getattr(Callback, hook)
