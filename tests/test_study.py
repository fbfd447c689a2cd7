import csv
import shutil
import statistics
from pathlib import Path

import pytest

from lit_fed.study import Run, study
from tests.federation.toy import save_toy_config


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_config(tmp_path_factory.mktemp("study"))


def test_runs_everything_once_and_says_what_failed(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(config.read_text().replace("text: text", "text: absent"))
    root = tmp_path / "root"
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

    # again: what has ended is left as it is, what is missing is run
    written = Run(config, 1, root / "config" / "seed_1").folder / "summary.json"
    before = written.stat().st_mtime_ns
    shutil.rmtree(root / "config" / "seed_2")
    study([config], seeds=(1, 2), root=root, jobs=1)
    assert written.stat().st_mtime_ns == before
    with (root / "results.csv").open() as file:
        assert [float(r["test/accuracy"]) for r in csv.DictReader(file)] == values


def test_a_run_broken_off_goes_on_from_its_checkpoint(config: Path, tmp_path: Path) -> None:
    study([config], seeds=(5,), root=tmp_path)
    run = tmp_path / "config" / "seed_5"
    (run / "summary.json").unlink()
    study([config], seeds=(5,), root=tmp_path)
    assert "going on from" in (run / "log.txt").read_text()
    assert (run / "summary.json").is_file()


def test_a_missing_configuration_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"`configs` are expected to be files, but there is no absent.yaml"
    ):
        study([Path("absent.yaml")], root=tmp_path)
