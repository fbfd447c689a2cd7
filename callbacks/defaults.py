"""The callbacks of a run whose user asks for none."""

from __future__ import annotations

from collections.abc import Sequence

from lightning.pytorch import Callback

from lit_fed.callbacks.adapter_export import AdapterExport
from lit_fed.callbacks.client_metrics import ClientMetrics
from lit_fed.callbacks.curves import FederationCurves
from lit_fed.callbacks.hyperparameters import Hyperparameters
from lit_fed.callbacks.learning_check import LearningCheck
from lit_fed.callbacks.metrics_csv import MetricsCSV
from lit_fed.callbacks.partition_table import PartitionTable
from lit_fed.callbacks.progress import RoundProgressBar
from lit_fed.callbacks.round_checkpoint import RoundCheckpoint
from lit_fed.callbacks.row_defense_report import RowDefenseReport
from lit_fed.callbacks.run_summary import RunSummary


def default_callbacks(
    given: Sequence[Callback] = (),
    progress_bar: bool = True,
    checkpointing: bool = True,
    files: bool = True,
) -> list[Callback]:
    """The callbacks of a run: the defaults, and those that a user gave.

    Args:
        given: The user's own. One of a default's class, or of a subclass, takes its place; the
            others follow the defaults, before the checkpoint: what they do in a round is in it.
        progress_bar: Whether :class:`RoundProgressBar` is a default.
        checkpointing: Whether :class:`RoundCheckpoint` is a default.
        files: Whether those that write files are defaults.

    Example:
        >>> mine = RoundCheckpoint(every_n_rounds=5)
        >>> callbacks = default_callbacks([mine], files=False)
        >>> [type(callback).__name__ for callback in callbacks]
        ['PartitionTable', 'LearningCheck', 'RowDefenseReport', 'RoundProgressBar', 'RoundCheckpoint', 'RunSummary']
        >>> callbacks[4] is mine
        True
    """
    first: list[type[Callback]] = [PartitionTable, LearningCheck, RowDefenseReport]
    last: list[type[Callback]] = []
    if progress_bar:
        first += [RoundProgressBar]
    if files:
        first += [FederationCurves, Hyperparameters, MetricsCSV, ClientMetrics]
        last += [AdapterExport]
    # The checkpoint last of all that act in a round, so that a round it holds was fully reported.
    checkpoint: list[type[Callback]] = [RoundCheckpoint] if checkpointing else []
    every = [*first, *checkpoint, *last, RunSummary]
    own = {kind: callback for kind in every for callback in given if isinstance(callback, kind)}
    others = [callback for callback in given if callback not in own.values()]

    def chosen(kinds: Sequence[type[Callback]]) -> list[Callback]:
        return [own[kind] if kind in own else kind() for kind in kinds]

    return [*chosen(first), *others, *chosen([*checkpoint, *last, RunSummary])]
