import json
from pathlib import Path

import pytest

from lit_fed.callbacks import RoundProfiler
from tests.federation.toy import save_toy_model, toy_data, toy_module, toy_trainer


@pytest.mark.slow
def test_profiles_one_round_under_its_phases(tmp_path: Path) -> None:
    model = save_toy_model(tmp_path / "model")
    trainer = toy_trainer(tmp_path / "run", max_rounds=2, callbacks=[RoundProfiler()])
    trainer.fit(toy_module(model), toy_data())
    folder = tmp_path / "run" / "profile"
    assert sorted(path.name for path in folder.iterdir()) == ["round=0002.json", "round=0002.txt"]
    phases = ("forward", "backward", "optimizer", "aggregation", "evaluation")
    events = json.loads((folder / "round=0002.json").read_text())["traceEvents"]
    names = [event.get("name") for event in events]
    steps = sum(state.steps for state in trainer.federation.clients.values())
    assert 0 < names.count("lit_fed/backward") < steps
    assert all(f"lit_fed/{phase}" in names for phase in phases)
    assert "aten::addmm" in (folder / "round=0002.txt").read_text()


def test_the_phases_make_up_a_round(tmp_path: Path) -> None:
    model = save_toy_model(tmp_path / "model")
    trainer = toy_trainer(tmp_path / "run", max_rounds=2)
    trainer.fit(toy_module(model), toy_data())
    row = trainer.federation.history[-1]
    times = {name.removeprefix("time/"): v for name, v in row.items() if name.startswith("time/")}
    whole = times.pop("round")
    times.pop("checkpoint")  # of the round before, in a thread of its own
    assert {"data", "forward", "backward", "optimizer", "upload"} <= times.keys()
    assert all(seconds >= 0 for seconds in times.values())
    assert 0.7 * whole < sum(times.values()) < 1.05 * whole


def test_a_round_before_the_first_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`RoundProfiler.round` is expected to be at least 1"):
        RoundProfiler(round=0)
