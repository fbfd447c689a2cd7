"""A run's settings for its loggers, and in TensorBoard the tab HParams, in which runs compare."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from lightning.fabric.loggers import TensorBoardLogger

from lit_fed.callbacks.curves import tensorboard_writers
from lit_fed.callbacks.federated_callback import FederatedCallback

if TYPE_CHECKING:
    from lit_fed.federation.federation_view import FederationView

_DESCRIBED: Final = re.compile(r"model\.([\w.]*\.)?backbone\.(config|frozen weights|tokenizer)\b.*")
_FIRST: Final = frozenset(
    {
        "model",
        "model.aggregation",
        "model.optimizer.lr",
        "data.num_clients",
        "trainer.attachments.0",
        "trainer.local_epochs",
    }
)
# MLflow takes no other characters in the name of a parameter.
_REFUSED: Final = re.compile(r"[^\w./ :-]")
# What a run ends with, as far as it tells how good or how dear it was.
_RESULTS: Final = re.compile(
    r"(test|index|fairness|backdoor|shift|task)/.*|val/[^/]+|bytes/total|clients/(test|val)/[^/]+/mean"
)


def settings_of(identity: Mapping[str, Any]) -> dict[str, Any]:
    """All that a run was made with, by names in YAML in which there is nothing that a logger refuses.

    Args:
        identity: The run's.

    Example:
        >>> settings_of({"model.lr_factors.ward, north": 2.0, "model.backbone.config.label2id.<b>": 1})
        {'model.lr_factors.ward_ north': 2.0}
    """
    return {_REFUSED.sub("_", k): v for k, v in identity.items() if ".config.label2id" not in k}


def columns_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a run's settings that make a column of a table: single values, without the inside of its models.

    Args:
        settings: All of them.

    Example:
        >>> columns_of({"model": "FedAvg", "model.backbone.config.vocab_size": 9, "data.tasks": None, "a": [1]})
        {'model': 'FedAvg'}
    """
    return {
        name: value
        for name, value in settings.items()
        if isinstance(value, bool | int | float | str)
        and not _DESCRIBED.fullmatch(name)
        and not str(value).endswith(
            " entries"
        )  # a mapping, whose entries have columns of their own
    }


def results_of(metrics: Mapping[str, float]) -> list[str]:
    """The names of metrics that a table of runs shows.

    Args:
        metrics: Those of the last round and of the test.

    Example:
        >>> results_of({"val/accuracy": 0.5, "time/round": 1.0, "test/accuracy": 0.5, "index/RSI/error": 0.1})
        ['test/accuracy', 'val/accuracy']
    """
    shown = [
        name
        for name, value in metrics.items()
        if _RESULTS.fullmatch(name) and not name.endswith("/error") and math.isfinite(value)
    ]
    return sorted(shown, key=lambda name: (not name.startswith("test/"), name))


class Hyperparameters(FederatedCallback):
    """Gives a run's settings to its loggers when it starts, and to TensorBoard's tab *HParams* with how it ended.

    Every logger of Lightning gets all of them, by their names in YAML, such as ``model.optimizer.lr``; what W&B and
    MLflow make of them is theirs. TensorBoard's tab has a column for each setting that is a single value, and one for
    each metric of the test and each that an evaluation reports at the end, so that runs under one ``--logdir``
    compare. A run that is broken off is there with the settings alone.
    """

    def __init__(self) -> None:
        self._ended = False

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        """Tell the settings."""
        self._ended = False
        if trainer.fast_dev_run or not trainer.is_global_zero:
            return
        settings = settings_of(trainer.identity)
        for logger in trainer.loggers:
            if not isinstance(logger, TensorBoardLogger):
                with suppress(NotImplementedError):  # Fabric's CSVLogger takes none
                    logger.log_hyperparams(settings)
        self._write(trainer, (), started=True)

    def on_fit_end(self, trainer: Any, module: Any) -> None:
        """Tell which metrics the run has ended with."""
        history = trainer.federation.history
        metrics = {**(history[-1] if history else {}), **trainer.final_metrics}
        self._write(trainer, results_of(metrics), started=False)

    @staticmethod
    def _write(trainer: FederationView, results: Sequence[str], started: bool) -> None:
        """Write the session's start, or its end with the columns that the tab has."""
        writers = tensorboard_writers(trainer)
        if not writers:
            return
        from torch.utils.tensorboard.summary import hparams

        further = {
            "trainer.max_rounds": trainer.max_rounds,
            "data.num_clients": len(trainer.datamodule.clients),
        }
        columns = columns_of({**settings_of(trainer.identity), **further})
        experiment, start, end = hparams(columns, dict.fromkeys(results, 0.0))
        _put_first(experiment)
        for writer in writers:
            for one in (start,) if started else (experiment, end):
                writer._get_file_writer().add_summary(one)


def _put_first(summary: Any) -> None:
    """Let the tab begin with the columns by which most runs differ: until others are ticked it shows five."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    held = summary.value[0].metadata.plugin_data
    data = HParamsPluginData.FromString(held.content)
    for info in data.experiment.hparam_infos:
        info.differs = info.name in _FIRST  # by which TensorBoard sorts them
    held.content = data.SerializeToString()
