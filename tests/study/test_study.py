import csv
import json
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

import pytest

from lit_fed.study import Run, main, study
from lit_fed.study.figure import draw
from tests.federation.toy import save_toy_config


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_config(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def finished(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two seeds, to be copied; a run is a process of its own, which takes seconds to start."""
    root = tmp_path_factory.mktemp("finished") / "root"
    study([config], seeds=(1, 2), root=root, jobs=2)
    return root


@pytest.fixture
def ended(config: Path, tmp_path: Path) -> Path:
    """What a study of two seeds has left, of which no run is missing, written by hand."""
    root = tmp_path / "root"
    for seed, shift in ((1, 0.0), (2, 0.25)):
        folder = root / "config" / f"seed_{seed}"
        folder.mkdir(parents=True)
        made_of = {"configurations": [config.read_text()], "settings": []}
        (folder / "study.json").write_text(json.dumps(made_of))
        rows = [(1, 0.75 + shift, 0.5, 2.0), (2, 0.5 + shift, 0.625, 2.5)]
        lines = [",".join(map(str, row)) for row in rows]
        (folder / "metrics.csv").write_text(
            "\n".join(["round,val/loss,val/accuracy,time/round", *lines])
        )
        summary = {
            "interrupted": False,
            "seed": seed,
            "metrics": {"val/loss": 0.5 + shift, "test/accuracy": 0.625, "test/loss": 0.5 - shift},
            "bytes": {"up": 10, "down": 20},
            "seconds": {"rounds": 4.5},
        }
        (folder / "summary.json").write_text(json.dumps(summary))
    return root


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"seeds": ()}, "`seeds` is expected to have one at least"),
        ({"sweep": {"model.mu": []}}, "`sweep.model.mu` is expected to have values"),
        ({"jobs": -1}, "`jobs` is expected to be at least 0"),
    ],
)
def test_a_study_of_nothing_is_refused(given: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        study([Path("lora_fedavg")], root=tmp_path, **given)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_runs_everything_once_and_says_what_failed(
    config: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(config.read_text().replace("text: text", "text: absent"))
    root = Path(shutil.copytree(finished, tmp_path / "root"))
    with pytest.raises(SystemExit) as exit_:
        study([config, broken], seeds=(1, 2), root=root, jobs=2)
    assert exit_.value.code == 1
    shown = capsys.readouterr().out
    assert shown.count("failed: ") == 2
    assert "absent" in (root / "broken" / "seed_1" / "log.txt").read_text()

    with (root / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["seed"] for row in rows] == ["1", "2"]
    values = [float(row["test/accuracy"]) for row in rows]
    expected = f"{statistics.fmean(values):.4f}"
    table = (root / "results.md").read_text().splitlines()
    assert table[2].startswith(f"| config | 2 | {expected}")
    assert table[3].startswith("| broken | 0 | –")

    assert (root / "results.png").read_bytes().startswith(b"\x89PNG")

    # again: what has ended is left as it is, what is missing is run
    written = Run(config, 1, root / "config" / "seed_1").folder / "summary.json"
    before = written.stat().st_mtime_ns
    shutil.rmtree(root / "config" / "seed_2")
    study([config], seeds=(1, 2), root=root, jobs=1)
    assert written.stat().st_mtime_ns == before
    with (root / "results.csv").open() as file:
        assert [float(r["test/accuracy"]) for r in csv.DictReader(file)] == values


@pytest.mark.slow
def test_a_run_broken_off_goes_on_from_its_checkpoint(
    config: Path, finished: Path, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(finished, tmp_path / "root"))
    run = root / "config" / "seed_1"
    (run / "summary.json").unlink()
    # killed before its first checkpoint, when it had published something already
    early = root / "config" / "seed_2"
    (early / "summary.json").unlink()
    shutil.rmtree(early / "checkpoints")
    assert (early / "metrics.csv").is_file()
    study([config], seeds=(1, 2), root=root, jobs=2)
    assert ", after 2 finished rounds" in (run / "log.txt").read_text()
    assert (run / "summary.json").is_file()
    assert (early / "summary.json").is_file()


def test_a_missing_configuration_is_named(tmp_path: Path) -> None:
    message = r"a configuration is expected to be a file or one of `lit-fed list`, but there is no 'absent.yaml'"
    with pytest.raises(FileNotFoundError, match=message):
        study([Path("absent.yaml")], root=tmp_path)


@pytest.mark.slow
def test_a_sweep_over_an_overlay(config: Path, tmp_path: Path) -> None:
    overlay = tmp_path / "shorter.yaml"
    overlay.write_text("trainer:\n  max_rounds: 1\n")
    rates = [0.0, 0.02]
    root = tmp_path / "root"

    def run(seeds: tuple[int, ...] = (0,), setting: str = "--data.batch_size=16") -> None:
        sweep = {"model.optimizer.init_args.lr": rates}
        study([config], seeds, root, "lr", (overlay,), sweep, set=(setting,), metrics=["val/loss"])

    run()
    with (root / "lr.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["value"]) for row in rows] == rates
    assert float(rows[0]["val/loss"]) != float(rows[1]["val/loss"])
    table = (root / "lr.md").read_text().splitlines()
    assert table[2].startswith("| config | 0.0 | 1 |")
    ended = Run(config, 0, root / "config" / "lr=0.02" / "seed_0")
    assert len(ended.history) == 1
    # the same folder for other settings is another study's
    with pytest.raises(FileExistsError, match=r"other settings .*\n-.*size=16\n\+.*size=8$"):
        run(setting="--data.batch_size=8")
    # a comment changes nothing, a setting does
    overlay.write_text("# what it is for\n" + overlay.read_text())
    run()
    overlay.write_text("trainer:\n  max_rounds: 2\n")
    with pytest.raises(FileExistsError, match=r"other configurations .*\n-.*\n\+  max_rounds: 2$"):
        run()
    with pytest.raises(ValueError, match=r"`sweep` is expected to name one setting, but names"):
        study([config], root=root, sweep={"a": [1], "b": [2]})


def test_a_metric_that_no_run_has_is_refused_by_the_nearest(
    config: Path, ended: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = ended
    said = r"`metrics` is expected to name metrics of the runs, such as test/accuracy, .* got test/acc,"
    # before a run that is missing costs hours
    with pytest.raises(ValueError, match=said):
        study([config], seeds=(1, 2, 3), root=root, metrics=["test/acc"])
    assert not (root / "config" / "seed_3").exists()
    words = [f"--configs=[{config}]", "--seeds=[1,2]", f"--root={root}", "--metrics=[test/acc]"]
    monkeypatch.setattr("sys.argv", ["lit-fed-study", *words])
    with pytest.raises(SystemExit, match=said) as exit_:
        main()
    assert "\n" not in str(exit_.value)
    # in a round that there is
    study([config], (1, 2), root, metrics=["test/accuracy", "val/loss@1"])
    assert "| config | 2 | 0.6250 | 0.8750 ± 0.1768 |" in (root / "results.md").read_text()
    with pytest.raises(ValueError, match="but got val/loss@3, which none has"):
        study([config], (1, 2), root, metrics=["val/loss@3"])
    # known from the rounds alone
    study([config], (1, 2), root, figure="rounds", metrics=["time/round"])


@pytest.mark.slow
def test_a_metric_may_be_one_of_an_arm_that_has_not_run(
    config: Path, finished: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(config.read_text().replace("text: text", "text: absent"))
    root = Path(shutil.copytree(finished, tmp_path / "root"))
    with pytest.raises(ValueError, match="which none has"):
        study([config, other], seeds=(1,), root=root, metrics=["clients/test/accuracy/mean"])
    # it was tried all the same
    assert (root / "other" / "seed_1" / "log.txt").is_file()


def test_figures_show_means_and_spreads(config: Path, ended: Path) -> None:
    root = ended
    study([config], (1, 2), root, figure="rounds", metrics=["val/loss", "val/accuracy"])
    runs = [Run(config, seed, root / "config" / f"seed_{seed}") for seed in (1, 2)]
    (line,) = draw(runs, ["val/loss"], "rounds").axes[0].lines
    histories = [run.history for run in runs]
    means = [
        statistics.fmean(row["val/loss"] for row in rows) for rows in zip(*histories, strict=True)
    ]
    assert line.get_xdata().tolist() == [1, 2]
    assert line.get_ydata().tolist() == pytest.approx(means)
    (bar,) = draw(runs, ["val/loss"], "bars").axes[0].patches
    assert bar.get_height() == pytest.approx(means[-1])
    # of variants each configuration has a bar beside those of others, over the variant's name
    pairs = [("first", "a"), ("first", "b"), ("second", "b")]
    varied = [Run(Path(n), 1, runs[0].folder, value=v) for n, v in pairs]
    figure = draw(varied, ["val/loss"], "bars")
    [axis], [legend] = figure.axes, figure.legends
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["a", "b"]
    centers = [bar.get_x() + bar.get_width() / 2 for bar in axis.patches]
    assert [round(one) for one in centers] == [0, 1, 1]
    assert centers[1] - centers[0] == pytest.approx(1)
    assert centers[2] - centers[1] == pytest.approx(axis.patches[0].get_width())
    assert [text.get_text() for text in legend.get_texts()] == ["first", "second"]
    swept = [Run(r.config, r.seed, r.folder, value=v) for v, r in enumerate(runs)]
    (line,) = draw(swept, ["val/loss"], "sweep").axes[0].lines
    assert line.get_ydata().tolist() == [h[-1]["val/loss"] for h in histories]


def test_swept_values_are_written_as_they_are_given(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, tuple[str, ...]] = {}

    def execute(runs: list[Run], *_: object) -> list[Run]:
        seen.update({run.folder.parent.name: run.settings for run in runs})
        return []

    # the package has a function of the module's name
    monkeypatch.setattr(sys.modules["lit_fed.study.study"], "execute", execute)
    for words in (
        ["--sweep={trainer.clients_per_round: [1, 0.5, 2]}", "--seeds=[1]"],
        ["--sweep={data.bucketing: [true, false]}", "--seeds=[1]"],
        ["--sweep={model.weights: [size, equal]}", "--seeds=[1]"],
    ):
        given = [f"--configs=[{config}]", f"--root={tmp_path / 'root'}", *words]
        monkeypatch.setattr("sys.argv", ["lit-fed-study", *given])
        main()
    assert seen == {
        "clients_per_round=1": ("--trainer.clients_per_round=1",),
        "clients_per_round=0.5": ("--trainer.clients_per_round=0.5",),
        "clients_per_round=2": ("--trainer.clients_per_round=2",),
        "bucketing=true": ("--data.bucketing=true",),
        "bucketing=false": ("--data.bucketing=false",),
        "weights=size": ("--model.weights=size",),
        "weights=equal": ("--model.weights=equal",),
    }


def test_names_with_a_dot_and_values_that_are_no_numbers(config: Path, ended: Path) -> None:
    for name in ("alpha_0.1", "alpha_0.2"):
        study([config], (1, 2), ended, name=name, metrics=["val/loss"])
    assert {path.name for path in ended.iterdir() if path.is_file()} == {
        f"alpha_{value}.{kind}" for value in ("0.1", "0.2") for kind in ("csv", "md", "png")
    }
    runs = [
        Run(config, seed, ended / "config" / f"seed_{seed}", value=v)
        for seed, v in ((1, "size"), (2, "equal"))
    ]
    axis = draw(runs, ["val/loss"], "sweep").axes[0]
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["size", "equal"]


def test_what_is_there_twice_and_rounds_without_metrics_are_refused(
    config: Path, ended: Path
) -> None:
    with pytest.raises(ValueError, match="`seeds` is expected to have each value once, but has 1"):
        study([config], (0, 1, 1), ended)
    with pytest.raises(ValueError, match=r"`sweep.a.b` is expected .* but has 0.5 several times"):
        study([config], (1,), ended, sweep={"a.b": [0.5, 1, 0.5]})
    with pytest.raises(ValueError, match="`metrics` is expected where `figure` is rounds"):
        study([config], (1, 2), ended, figure="rounds")
    with pytest.raises(ValueError, match=r"such as .*, but got test/accuracy, which none has"):
        study([config], (1, 2), ended, figure="rounds", metrics=["test/accuracy"])
