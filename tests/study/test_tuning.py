"""Settings that are chosen by validation, with the same budget for all."""

import json
import sys
from pathlib import Path
from typing import Literal

import pytest

from lit_fed.study import Run, main, study
from lit_fed.study.arm import Arm
from lit_fed.study.tuning import Tuning
from tests.federation.toy import save_toy_config

RATES = ["--model.optimizer.init_args.lr=0.0", "--model.optimizer.init_args.lr=0.02"]


def ended(runs: list[Run], last: float | None) -> None:
    for run in runs:
        run.folder.mkdir(parents=True)
        (run.folder / "summary.json").write_text(json.dumps({"interrupted": last is None}))
        (run.folder / "metrics.csv").write_text(f"round,val/accuracy\n1,0.99\n2,{last}\n")


def test_the_best_mean_of_the_last_round_is_chosen_among_those_that_ended(tmp_path: Path) -> None:
    tune = Tuning([["--a=1"], ["--a=2"], ["--a=3"], ["--a=4"]], seeds=[7, 8])
    trials = tune.trials(Arm("own", Path("own.yaml")), tmp_path, ("--b=0",))
    for candidate, runs in zip(tune.candidates, trials, strict=True):
        assert [run.seed for run in runs] == [7, 8]
        assert all(run.settings == ("--b=0", *candidate) for run in runs)
    for runs, values in zip(trials, [(0.4, 0.5), (0.9, 0.3), (0.9, None), (0.6, 0.6)], strict=True):
        for run, value in zip(runs, values, strict=True):
            ended([run], value)
    assert tune.best(Arm("own", Path("own.yaml")), trials) == (
        ["--a=2"],
        pytest.approx(0.6),
    )  # the first of equals
    least = Tuning(tune.candidates, seeds=[7, 8], mode="min")
    assert least.best(Arm("own", Path("own.yaml")), trials) == (["--a=1"], pytest.approx(0.45))


def test_arms_without_a_global_model_are_tuned_by_their_own(tmp_path: Path) -> None:
    tune = Tuning(
        [["--a=1"], ["--a=2"]], seeds=[7], metric="clients/val/x", otherwise="val/accuracy"
    )
    trials = tune.trials(Arm("own", Path("own.yaml")), tmp_path, ())
    for runs, value in zip(trials, (0.4, 0.5), strict=True):
        ended(runs, value)
    assert tune.best(Arm("own", Path("own.yaml")), trials) == (["--a=2"], 0.5)


def test_an_arm_may_have_candidates_of_its_own_but_not_more() -> None:
    tune = Tuning([["--a=1"], ["--a=2"]], own={"fedadam": [["--b=1"], ["--b=2"]]})
    assert tune.of("fedadam") == [["--b=1"], ["--b=2"]]
    assert tune.of("fedavg") == tune.candidates
    with pytest.raises(ValueError, match=r"as many candidates for fedadam .* 2, but has 1"):
        Tuning([["--a=1"], ["--a=2"]], own={"fedadam": [["--b=1"]]})


def test_what_cannot_tune_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`tune` is expected to have candidates and seeds, .* 0"):
        Tuning([])
    with pytest.raises(ValueError, match=r"`tune\.metric` is expected to be of validation"):
        Tuning([["--a=1"]], metric="test/accuracy")
    with pytest.raises(ValueError, match=r"of validation, but is 'clients/test/loss/mean'"):
        Tuning([["--a=1"]], metric="val/loss", otherwise="clients/test/loss/mean")
    config = save_toy_config(tmp_path)
    with pytest.raises(ValueError, match=r"`tune\.seeds` .* none of the study's `seeds`.* holds 3"):
        study([config], seeds=(3,), root=tmp_path / "root", tune=Tuning([["--a=1"]], seeds=[3]))
    for variants, there in (
        ({"hot": [], "cold": []}, "cold, hot"),
        (None, "of which there are none"),
    ):
        with pytest.raises(
            ValueError, match=rf"`tune\.variant` .* variants, {there}, but is 'warm'"
        ):
            study(
                [config],
                root=tmp_path / "root",
                variants=variants,
                tune=Tuning([["--a=1"]], variant="warm"),
            )
    tune = Tuning([["--a=1"]])
    with pytest.raises(
        ValueError, match=r"a finite number in the last round of a trial .* no candidate has one"
    ):
        tune.best(Arm("config", config), tune.trials(Arm("config", config), tmp_path / "root", ()))


@pytest.mark.slow
def test_a_study_runs_with_what_was_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config, root = save_toy_config(tmp_path), tmp_path / "root"
    tune = {
        "candidates": [[rate] for rate in RATES],
        "seeds": [100],
        "metric": "val/loss",
        "mode": "min",
        "set": ["--trainer.limit_test_batches=0"],
        "variant": "plain",
    }
    (tmp_path / "seeded.yaml").write_text("seed_everything: 7\n")
    given = {"configs": [str(config)], "seeds": [1], "root": str(root), "tune": tune}
    given["variants"] = {"plain": [], "other": [str(tmp_path / "seeded.yaml")]}
    (tmp_path / "study.yaml").write_text(json.dumps(given))
    monkeypatch.setattr(
        sys, "argv", ["lit-fed-study", "--config", str(tmp_path / "study.yaml"), "--jobs=2"]
    )
    main()
    assert (
        "| config/variant=plain | `--model.optimizer.init_args.lr=0.02` | "
        in capsys.readouterr().out
    )
    table = (root / "results.tuned.md").read_text()
    assert "lr=0.02" in table
    assert "other" not in table
    assert not (root / "config" / "variant=other" / "tuning").exists()
    for variant in ("plain", "other"):
        run = root / "config" / f"variant={variant}" / "seed_1"
        assert json.loads((run / "study.json").read_text())["settings"] == [RATES[1]]
        assert "test/loss" in json.loads((run / "summary.json").read_text())["metrics"]
    tried = root / "config" / "variant=plain" / "tuning" / "1" / "seed_100"
    metrics = json.loads((tried / "summary.json").read_text())["metrics"]
    assert not [name for name in metrics if "test" in name]


@pytest.mark.parametrize("mode", ["min", "max"])
def test_what_is_no_number_is_never_chosen(mode: Literal["min", "max"], tmp_path: Path) -> None:
    tune = Tuning([["--a=1"], ["--a=2"], ["--a=3"]], seeds=[7], mode=mode)
    trials = tune.trials(Arm("own", Path("own.yaml")), tmp_path, ())
    for runs, value in zip(trials, (float("nan"), 0.5, float("inf")), strict=True):
        ended(runs, value)
    assert tune.best(Arm("own", Path("own.yaml")), trials) == (["--a=2"], 0.5)


def test_a_candidate_that_failed_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, root = save_toy_config(tmp_path), tmp_path / "root"
    good = [RATES[1], "--trainer.max_rounds=1"]
    tune = Tuning([good, ["--trainer.max_rounds=none"]], metric="val/loss", mode="min")
    for run in tune.trials(Arm("config", config), root, ())[0]:
        ended([run], 0.5)
        (run.folder / "metrics.csv").write_text("round,val/loss\n1,0.5\n")
        write_identity(run)
    final = Run(config, 1, root / "config" / "seed_1", (), tuple(good))
    ended([final], 0.5)
    summary = {"interrupted": False, "metrics": {"test/accuracy": 0.5}}
    summary |= {"bytes": {"up": 1, "down": 2}, "seconds": {"rounds": 3.0}}
    (final.folder / "summary.json").write_text(json.dumps(summary))
    write_identity(final)
    study([config], seeds=(1,), root=root, metrics=["test/accuracy"], tune=tune)
    assert "(1 of 2 candidates failed)" in (root / "results.tuned.md").read_text()
    assert f"failed: {root / 'config' / 'tuning' / '1' / 'seed_1000'}" in capsys.readouterr().out


def write_identity(run: Run) -> None:
    made_of = {"configurations": [run.config.read_text()], "settings": list(run.settings)}
    (run.folder / "study.json").write_text(json.dumps(made_of))
