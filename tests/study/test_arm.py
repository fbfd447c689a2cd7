"""The arms of a study: every configuration in every variant."""

import csv
import json
from pathlib import Path

import pytest

from lit_fed.study import Run, study
from lit_fed.study.arm import Arm, arms
from lit_fed.study.figure import draw
from lit_fed.study.tuning import Tuning
from tests.federation.toy import save_toy_config


def test_a_variants_overlays_come_after_those_of_all() -> None:
    given = {"a": [Path("a.yaml")], "b": [Path("a.yaml"), Path("b.yaml")]}
    found = arms(given, [Path("all.yaml")], {"x": [Path("x.yaml")]})
    assert [arm.config for arm in found] == [Path("a.yaml")] * 2
    assert [[path.stem for path in arm.overlays] for arm in found] == [
        ["all", "x"],
        ["all", "x", "b"],
    ]
    assert [arm.name for arm in found] == ["a/variant=x", "b/variant=x"]
    assert [arm.name for arm in arms(given, [], None)] == ["a", "b"]


@pytest.mark.slow
def test_an_arm_is_named_and_has_overlays_of_its_own(tmp_path: Path) -> None:
    config, root = save_toy_config(tmp_path), tmp_path / "root"
    short = tmp_path / "short.yaml"
    short.write_text("trainer:\n  max_rounds: 1\n")
    study({"usual": [config], "short": [config, short]}, (1,), root, metrics=["val/loss"])
    with (root / "results.csv").open() as file:
        assert [row["configuration"] for row in csv.DictReader(file)] == ["usual", "short"]
    runs = [Run(config, 1, root / name / "seed_1", arm=name) for name in ("usual", "short")]
    assert [len(run.history) for run in runs] == [2, 1]


def test_arms_that_cannot_be_told_apart_are_named(tmp_path: Path) -> None:
    config, other = save_toy_config(tmp_path), tmp_path / "other" / "config.yaml"
    other.parent.mkdir()
    other.write_text(config.read_text())
    with pytest.raises(ValueError, match=r"`configs` .* are both config: name arms, \{first: "):
        study([config, other], root=tmp_path / "root")
    with pytest.raises(ValueError, match=r"`configs` are expected to name a YAML for alone"):
        study({"alone": []}, root=tmp_path / "root")
    with pytest.raises(ValueError, match=r"`configs` is expected .*\.\./evil"):
        study({"../evil": [config]}, root=tmp_path / "root")


def test_bad_variants_are_named(tmp_path: Path) -> None:
    config = save_toy_config(tmp_path)
    with pytest.raises(ValueError, match=r"`variants` is expected .*\.\./evil"):
        study([config], root=tmp_path, variants={"../evil": []})
    with pytest.raises(ValueError, match=r"`sweep` is expected to be left out .* sweeps model\.x"):
        study([config], root=tmp_path, sweep={"model.x": [1]}, variants={"plain": []})
    with pytest.raises(FileNotFoundError, match=r"absent\.yaml"):
        study([config], root=tmp_path, variants={"plain": [Path("absent.yaml")]})


def test_each_variant_is_tuned_on_its_own(tmp_path: Path) -> None:
    tune = Tuning([["--a=1"], ["--a=2"]])
    plain, rewritten = arms(
        {"own": [Path("own.yaml")]}, [], {"plain": [], "rewritten": [Path("r.yaml")]}
    )
    folders = [tune.trials(arm, tmp_path, ())[1][0].folder for arm in (plain, rewritten)]
    assert folders == [
        tmp_path / "own" / f"variant={name}" / "tuning" / "1" / "seed_1000"
        for name in ("plain", "rewritten")
    ]
    assert Tuning([["--a=1"]], own={"own": [["--b=1"]]}).of(rewritten.row) == [["--b=1"]]


@pytest.mark.slow
def test_a_study_of_two_variants(tmp_path: Path) -> None:
    config, root = save_toy_config(tmp_path), tmp_path / "root"
    still = tmp_path / "still.yaml"
    still.write_text("trainer:\n  max_rounds: 1\n")
    study([config], (1,), root, variants={"usual": [], "short": [still]}, metrics=["val/loss"])
    with (root / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["value"] for row in rows] == ["usual", "short"]
    runs = [
        Run(config, 1, root / "config" / f"variant={name}" / "seed_1", value=name)
        for name in ("usual", "short")
    ]
    assert [len(run.history) for run in runs] == [2, 1]
    told = [json.loads((run.folder / "study.json").read_text())["configurations"] for run in runs]
    assert [len(texts) for texts in told] == [1, 2]
    bars = draw(runs, ["val/loss"], "bars").axes[0]
    assert [label.get_text() for label in bars.get_xticklabels()] == [
        "usual",
        "short",
    ]


def test_an_arm_without_a_variant_has_the_configurations_name() -> None:
    assert Arm("b", Path("a.yaml")).name == "b"
