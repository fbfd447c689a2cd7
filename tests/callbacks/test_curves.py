import csv
import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.fabric.loggers import CSVLogger
from lightning.fabric.loggers import TensorBoardLogger as FabricLogger
from lightning.pytorch.loggers import TensorBoardLogger as PyTorchLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2

import lit_fed
from lit_fed.callbacks import FederationCurves
from lit_fed.callbacks.curves import curves_layout, drift
from lit_fed.payload import Payload
from lit_fed.update import Update
from tests.federation.toy import toy_data, toy_module, toy_rows, toy_trainer

ROW = {
    "val__accuracy": 0.5,
    "val__loss": 0.7,
    "clients__train__loss__mean": 0.5,
    "clients__train__loss__std": 0.1,
    "clients__train__loss__min": 0.4,
    "clients__train__loss__max": 0.6,
    "bytes__up": 100,
    "bytes__down": 200,
    "bytes__total": 300,
    "clients__sampled": 2,
    "clients__failed": 0,
    "time__round": 1.5,
}


def _updates() -> list[Update]:
    return [
        Update("a", Payload({"lora": torch.tensor([0.0, 0.0])}), 10, 1, {"train/loss": 0.4}),
        Update("b", Payload({"lora": torch.tensor([6.0, 8.0])}), 30, 1, {"train/loss": 0.6}),
    ]


def _fit(trainer: Any, callback: FederationCurves, rounds: int = 2) -> EventAccumulator:
    trainer.call([callback], "on_fit_start")
    for _ in range(rounds):
        trainer.call([callback], "on_round_start", [])
        trainer.call([callback], "on_aggregate_end", _updates())
        row: dict[str, float] = {}
        trainer.call([callback], "on_round_evaluation", row)
        trainer.finish_round([callback], **ROW, **row)
    for logger in trainer.loggers:
        logger.finalize("success")
    events = EventAccumulator(str(trainer.log_dir), {"histograms": 0})
    events.Reload()
    return events


@pytest.mark.parametrize("kind", [FabricLogger, PyTorchLogger])
def test_writes_layout_and_spread(trainer: Any, kind: Any) -> None:
    trainer.loggers = [
        CSVLogger(str(trainer.log_dir / "csv")),
        kind(str(trainer.log_dir), name="", version=""),
    ]
    events = _fit(trainer, FederationCurves())

    (config,) = events.Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout()
    layout.ParseFromString(config.tensor_proto.string_val[0])
    assert [category.title for category in layout.category] == [
        "Global model",
        "Clients: mean, least, most",
        "Communication",
        "Participation",
        "Time",
    ]
    margins = {c.title: c.margin.series[0] for c in layout.category[1].chart}
    assert set(margins) == {"train/loss", "drift"}
    loss = margins["train/loss"]
    assert (loss.value, loss.lower, loss.upper) == tuple(
        f"clients/train/loss/{part}" for part in ("mean", "min", "max")
    )

    assert [event.step for event in events.Histograms("clients/train/loss")] == [1, 2]
    rows = events.Histograms("clients/num_samples")[0].histogram_value
    assert (rows.num, rows.min, rows.max) == (2, 10, 30)
    sent = events.Histograms("clients/bytes/up")[0].histogram_value
    assert sent.min == sent.max == 8
    for row in trainer.federation.history:
        drifts = [row[f"clients/drift/{part}"] for part in ("mean", "std", "min", "max")]
        assert drifts == [5.0, 0.0, 5.0, 5.0]


@pytest.mark.parametrize("loggers", [True, False])
def test_drift_is_in_the_table_and_in_tensorboard(
    toy_model: Path, tmp_path: Path, loggers: bool
) -> None:
    trainer = toy_trainer(tmp_path, max_rounds=2, loggers=loggers, test_at_end=False)
    trainer.fit(toy_module(toy_model), toy_data(train=toy_rows(48, 0)))
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    in_table = [float(row["clients/drift/mean"]) for row in rows]
    assert len(in_table) == 2
    assert min(in_table) > 0
    if loggers:
        events = EventAccumulator(str(tmp_path))
        events.Reload()
        drawn = [event.value for event in events.Scalars("clients/drift/mean")]
        assert drawn == pytest.approx(in_table)


def test_no_band_is_of_a_name_with_which_others_begin() -> None:
    """TensorBoard finds the numbers of a band by how their names begin, and shows none where others begin alike."""
    sources = Path(lit_fed.__path__[0]).rglob("*.py")
    bands = {name for path in sources for name in re.findall(r'"(train/[\w/]+)"', path.read_text())}
    assert "train/alpha_min" in bands
    assert [(one, other) for one in bands for other in bands if other.startswith(f"{one}/")] == []


def test_no_chart_of_seconds_has_many_lines() -> None:
    phases = ["round", "download", "data", "teacher", "forward", "backward", "optimizer", "upload"]
    phases += ["aggregation", "evaluation", "checkpoint", "prepare"]
    charts = curves_layout([f"time/{phase}" for phase in phases])["Time"]
    assert sum(len(tags) for _, tags in charts.values()) == len(phases)
    assert max(len(tags) for _, tags in charts.values()) <= 6
    assert charts["seconds of a round"] == ["Multiline", ["^time/round$"]]


def test_drift_can_be_left_out(trainer: Any) -> None:
    trainer.loggers = [FabricLogger(str(trainer.log_dir), name="", version="")]
    events = _fit(trainer, FederationCurves(drift=False))
    assert "clients/drift/mean" not in trainer.federation.history[0]
    assert "clients/drift" not in events.Tags()["histograms"]


def test_a_round_without_updates_shows_nothing_of_the_last_one(trainer: Any) -> None:
    trainer.loggers = [FabricLogger(str(trainer.log_dir), name="", version="")]
    callback = FederationCurves()
    _fit(trainer, callback, rounds=1)
    trainer.call([callback], "on_round_start", [])
    trainer.finish_round([callback], **ROW)
    events = EventAccumulator(str(trainer.log_dir), {"histograms": 0})
    events.Reload()
    assert len(events.Histograms("clients/num_samples")) == 1


def test_a_value_that_is_not_finite_is_not_drawn(trainer: Any) -> None:
    trainer.loggers = [FabricLogger(str(trainer.log_dir), name="", version="")]
    callback = FederationCurves()
    update = Update("a", Payload(), 1, 1, {"val/f1": math.nan})
    trainer.call([callback], "on_aggregate_end", [update])
    trainer.finish_round([callback], **ROW)
    trainer.loggers[0].finalize("success")
    events = EventAccumulator(str(trainer.log_dir), {"histograms": 0})
    events.Reload()
    assert set(events.Tags()["histograms"]) == {"clients/num_samples", "clients/bytes/up"}


@pytest.mark.parametrize("setting", [{"fast_dev_run": 1}, {"is_global_zero": False}])
def test_no_files_in_a_fast_dev_run_or_on_other_processes(
    trainer: Any, setting: dict[str, Any], tmp_path: Path
) -> None:
    trainer.loggers = [FabricLogger(str(tmp_path / "board"), name="", version="")]
    for name, value in setting.items():
        setattr(trainer, name, value)
    callback = FederationCurves()
    trainer.call([callback], "on_aggregate_end", _updates())
    trainer.finish_round([callback], **ROW)
    assert not (tmp_path / "board").exists()


def test_tags_of_lines_are_anchored_and_escaped() -> None:
    layout = curves_layout(["val/loss", "val/loss.x", "train/loss", "test/accuracy/far"])
    assert layout == {
        "Global model": {
            "loss": ["Multiline", ["^val/loss$", "^train/loss$"]],
            "loss.x": ["Multiline", [r"^val/loss\.x$"]],
            "accuracy": ["Multiline", ["^test/accuracy/far$"]],
        }
    }


def test_a_mean_without_bounds_is_no_margin() -> None:
    assert curves_layout(["clients/f1/mean", "round"]) == {}


def test_drift_matches_numpy_norms_and_ignores_a_common_shift() -> None:
    generator = torch.Generator().manual_seed(0)
    sent = [
        {"A": torch.randn(3, 2, generator=generator), "b": torch.randn((), generator=generator)}
        for _ in range(4)
    ]
    updates = [Update(str(i), Payload(tensors), 1) for i, tensors in enumerate(sent)]
    flat = torch.stack([torch.cat([t["A"].flatten(), t["b"].flatten()]) for t in sent]).numpy()
    expected = (((flat - flat.mean(0)) ** 2).sum(1)) ** 0.5
    assert drift(updates) == pytest.approx(expected.tolist(), rel=1e-5)
    shifted = [
        Update(str(i), Payload({name: t + 3 for name, t in tensors.items()}), 1)
        for i, tensors in enumerate(sent)
    ]
    assert drift(shifted) == pytest.approx(expected.tolist(), rel=1e-5)


def test_drift_of_uploads_with_nothing_in_common() -> None:
    strings = SimpleNamespace(payload=Payload(strings={"answer": ["a"]}))
    assert drift([]) == []
    assert drift([strings, strings]) == []  # type: ignore[list-item]
    different = [
        Update("a", Payload({"w": torch.zeros(2), "n": torch.tensor([1])}), 1),
        Update("b", Payload({"w": torch.zeros(3), "n": torch.tensor([2])}), 1),
    ]
    assert drift(different) == []
