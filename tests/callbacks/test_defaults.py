from lightning.pytorch import Callback

from lit_fed.callbacks import (
    FederatedCallback,
    MetricsCSV,
    RoundCheckpoint,
    RunSummary,
    default_callbacks,
)


def _names(callbacks: list[Callback]) -> list[str]:
    return [type(callback).__name__ for callback in callbacks]


def test_all_defaults_in_order() -> None:
    assert _names(default_callbacks()) == [
        "PartitionTable",
        "LearningCheck",
        "RowDefenseReport",
        "RoundProgressBar",
        "FederationCurves",
        "Hyperparameters",
        "MetricsCSV",
        "ClientMetrics",
        "RoundCheckpoint",
        "AdapterExport",
        "RunSummary",
    ]


def test_switches() -> None:
    assert _names(default_callbacks([], False, False, False)) == [
        "PartitionTable",
        "LearningCheck",
        "RowDefenseReport",
        "RunSummary",
    ]


def test_a_given_one_takes_its_default_s_place() -> None:
    class MySummary(RunSummary):
        pass

    class Audit(FederatedCallback):
        pass

    given = [MySummary(), Audit(), RoundCheckpoint(keep_last=None)]
    callbacks = default_callbacks(given)
    assert _names(callbacks)[5:] == [
        "Hyperparameters",
        "MetricsCSV",
        "ClientMetrics",
        "Audit",
        "RoundCheckpoint",
        "AdapterExport",
        "MySummary",
    ]
    assert all(one in callbacks for one in given)


def test_one_that_is_no_default_now_is_kept_if_given() -> None:
    checkpoint, table, both = RoundCheckpoint(), MetricsCSV(), [MetricsCSV(), MetricsCSV()]
    assert checkpoint in default_callbacks([checkpoint], checkpointing=False)
    assert table in default_callbacks([table], files=False)
    assert all(one in default_callbacks(both) for one in both)
