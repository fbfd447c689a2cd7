"""Joules of a round: counters of a powercap folder that a test moves, and what is said where there are none."""

from __future__ import annotations

import importlib.util
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from lit_fed.callbacks import EnergyMeter, FederatedCallback
from lit_fed.callbacks.energy_counters import NotMeasured, NVMLCounter, RAPLCounter
from tests.federation.toy import toy_data, toy_module, toy_trainer

RANGE = 262_143_328_850  # µJ, of a package


def zone(folder: Path, path: str, name: str, microjoules: int, most: int = RANGE) -> Path:
    """A zone as the kernel shows it; the real ones are links to folders within each other."""
    made = folder / path
    made.mkdir(parents=True)
    (made / "name").write_text(f"{name}\n")
    (made / "energy_uj").write_text(f"{microjoules}\n")
    (made / "max_energy_range_uj").write_text(f"{most}\n")
    return made


def add(made: Path, microjoules: int) -> None:
    """Let a counter count, which begins anew at its range."""
    most = int((made / "max_energy_range_uj").read_text())
    now = int((made / "energy_uj").read_text()) + microjoules
    # at once, as the kernel's is: the meter may be reading
    (made / "next").write_text(f"{now % most}\n")
    (made / "next").replace(made / "energy_uj")


def test_packages_and_their_memory_are_added_up_and_nothing_twice(tmp_path: Path) -> None:
    (tmp_path / "intel-rapl").mkdir()
    first = zone(tmp_path, "intel-rapl:0", "package-0", 5)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 7)
    others = [
        zone(tmp_path, "intel-rapl:0:0", "core", 0),
        zone(tmp_path, "intel-rapl:0:1", "uncore", 0),
        zone(tmp_path, "intel-rapl:2", "psys", 0),
        zone(tmp_path, "intel-rapl-mmio:0", "package-0", 0),
        zone(tmp_path, "dtpm", "dram", 0),
    ]
    memory = zone(tmp_path, "intel-rapl:0:2", "dram", 9)
    counter = RAPLCounter(tmp_path)
    assert counter.joules() == 0
    for made, joules in ((first, 1), (second, 20), (memory, 300)):
        add(made, joules * 10**6)
    for made in others:
        add(made, 10**9)
    assert counter.joules() == 321
    assert counter.joules() == 321


def test_a_counter_that_begins_anew_goes_on(tmp_path: Path) -> None:
    made = zone(tmp_path, "intel-rapl:0", "package-0", RANGE - 3 * 10**6)
    counter = RAPLCounter(tmp_path)
    add(made, 5 * 10**6)
    assert int((made / "energy_uj").read_text()) == 2 * 10**6
    assert counter.joules() == 5
    for turn in range(1, 6):  # more than the range in all
        add(made, RANGE // 2)
        assert counter.joules() == pytest.approx(5 + turn * (RANGE // 2) / 1e6, rel=1e-12)


def test_the_platform_is_taken_where_there_are_no_packages(tmp_path: Path) -> None:
    made = zone(tmp_path, "intel-rapl:0", "psys", 0)
    counter = RAPLCounter(tmp_path)
    add(made, 10**6)
    assert counter.joules() == 1


def test_what_cannot_be_read_is_not_measured(tmp_path: Path) -> None:
    with pytest.raises(NotMeasured, match=r"no RAPL counters in .*gone: No such file"):
        RAPLCounter(tmp_path / "gone")
    with pytest.raises(NotMeasured, match=r"there are no RAPL counters in"):
        RAPLCounter(tmp_path)
    made = zone(tmp_path, "intel-rapl:0", "package-0", 0)
    (made / "energy_uj").unlink()
    with pytest.raises(NotMeasured, match=r"energy_uj cannot be read"):
        RAPLCounter(tmp_path)


class Works(FederatedCallback):
    """Lets the processor take 2.5 J a round, in which the counter may go."""

    def __init__(self, made: Path, gone_in: int | None = None) -> None:
        self.made = made
        self.gone_in = gone_in

    def on_aggregate_end(self, trainer: Any, *args: Any) -> None:
        if trainer.current_round + 1 == self.gone_in:
            (self.made / "energy_uj").unlink()
        elif (self.made / "energy_uj").exists():
            add(self.made, 2_500_000)


def fit(model: Path, root: Path, callbacks: list[Any], rounds: int = 2, **more: Any) -> Any:
    trainer = toy_trainer(root, callbacks=callbacks, max_rounds=rounds)
    trainer.fit(toy_module(model), toy_data(), **more)
    summary = json.loads((root / "summary.json").read_text("utf-8"))
    return trainer.federation.history, summary


class Waits(FederatedCallback):
    """Lets the processor take more than the counter's range between two batches."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def on_aggregate_end(self, trainer: Any, *args: Any) -> None:
        for _ in range(3):
            add(self.made, RANGE // 2)
            time.sleep(0.2)


def test_a_counter_is_read_also_while_nothing_is_trained(
    toy_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lit_fed.callbacks.energy_meter._SECONDS", 0.02)
    power = tmp_path / "powercap"
    made = zone(power, "intel-rapl:0", "package-0", 0)
    meter = EnergyMeter(str(power))
    history, _ = fit(toy_model, tmp_path / "run", [Waits(made), meter], rounds=1)
    assert history[0]["energy/cpu"] == pytest.approx(3 * (RANGE // 2) / 1e6, rel=1e-9)
    assert not [one for one in threading.enumerate() if type(one).__name__ == "_Watch"]


def test_rounds_and_the_summary_have_their_joules_also_after_a_run_goes_on(
    toy_model: Path, tmp_path: Path
) -> None:
    power, root = tmp_path / "powercap", tmp_path / "run"
    made = zone(power, "intel-rapl:0", "package-0", RANGE - 4 * 10**6)
    history, summary = fit(toy_model, root, [Works(made), EnergyMeter(str(power))])
    assert [row["energy/cpu"] for row in history] == [2.5, 2.5]
    assert summary["energy"] == {"cpu": {"joules": 5.0, "rounds": 2}}
    assert not any(name.startswith("energy/") for name in summary["metrics"])
    phases = summary["seconds"]["phases"]
    assert {"forward", "backward", "evaluation"} <= phases.keys()
    assert phases["forward"] == pytest.approx(sum(row["time/forward"] for row in history))

    callbacks = [Works(made, gone_in=4), EnergyMeter(str(power))]
    history, summary = fit(toy_model, root, callbacks, 5, ckpt_path="last")
    assert [row.get("energy/cpu") for row in history] == [2.5, 2.5, 2.5, None, None]
    told = summary["energy"]["cpu"]
    assert (told["joules"], told["rounds"]) == (7.5, 3)
    assert "not measured" in told["of the others"]
    assert "energy_uj cannot be read" in told["of the others"]


def test_without_a_counter_nothing_is_guessed(toy_model: Path, tmp_path: Path) -> None:
    history, summary = fit(toy_model, tmp_path / "run", [EnergyMeter(str(tmp_path / "none"))], 1)
    assert not any(name.startswith("energy/") for name in history[0])
    assert summary["energy"]["cpu"].startswith("not measured: there are no RAPL counters in")
    with pytest.raises(ValueError, match=r"`EnergyMeter\.powercap` is expected to be a path"):
        EnergyMeter("")


@pytest.mark.skipif(importlib.util.find_spec("pynvml") is not None, reason="pynvml is installed")
def test_without_pynvml_a_gpu_is_not_measured() -> None:
    with pytest.raises(NotMeasured, match="pip install nvidia-ml-py"):
        NVMLCounter(torch.device("cuda"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpus_joules_grow_with_its_work() -> None:
    pytest.importorskip("pynvml")
    counter = NVMLCounter(torch.device("cuda"))
    matrix = torch.randn(4096, 4096, device="cuda")
    for _ in range(500):
        matrix = torch.tanh(matrix @ matrix)
    torch.cuda.synchronize()
    assert counter.joules() > 1
