import json
import shutil
from pathlib import Path

import pytest

from lit_fed.study import Run, study
from lit_fed.study.records import restore_records, save_records


def ended(root: Path, name: str, seed: int, accuracy: float, text: str = "model: {}\n") -> Run:
    """A run that has ended, as `lit-fed fit` leaves it."""
    config = root.parent / f"{name}.yaml"
    config.write_text(text)
    run = Run(config, seed, root / name / f"seed_{seed}")
    run.folder.mkdir(parents=True)
    made_of = {"configurations": [text], "settings": []}
    (run.folder / "study.json").write_text(json.dumps(made_of))
    (run.folder / "metrics.csv").write_text(f"round,test/accuracy\n0,\n1,{accuracy}\n")
    summary = {"interrupted": False, "metrics": {"test/accuracy": accuracy}}
    summary |= {"bytes": {"up": 1, "down": 2}, "seconds": {"rounds": 3.0}}
    (run.folder / "summary.json").write_text(json.dumps(summary))
    return run


def test_runs_come_back_as_far_as_tables_need_them(tmp_path: Path) -> None:
    root, file = tmp_path / "there", tmp_path / "records.jsonl"
    runs = [ended(root, "fedavg", seed, 0.5 + seed / 10) for seed in (0, 1)]
    runs.append(ended(root, "fedprox", 0, 0.25, "model: {mü: 0.1}\n"))
    broken_off = Run(tmp_path / "fedavg.yaml", 2, root / "fedavg" / "seed_2")
    save_records(file, [*runs, broken_off], root)

    restore_records(file, tmp_path / "here")
    for run in runs:
        again = Run(run.config, run.seed, tmp_path / "here" / run.folder.relative_to(root))
        assert again.summary == run.summary
        assert again.history == run.history
        again.check()
    assert not (tmp_path / "here" / "fedavg" / "seed_2").exists()
    # each text once
    assert len(file.read_text().splitlines()) == 3 + 2


def test_a_file_grows_by_the_runs_of_other_machines(tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    first, second = tmp_path / "first", tmp_path / "second"
    save_records(file, [ended(first, "fedavg", 0, 0.5)], first)
    before = file.read_text().splitlines()
    save_records(file, [ended(second, "fedavg", 1, 0.75)], second)
    assert set(before) < set(file.read_text().splitlines())
    restore_records(file, tmp_path / "both")
    seeds = sorted(path.name for path in (tmp_path / "both" / "fedavg").iterdir())
    assert seeds == ["seed_0", "seed_1"]


def test_a_run_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    file, root = tmp_path / "records.jsonl", tmp_path / "root"
    run = ended(root, "fedavg", 0, 0.5)
    save_records(file, [run], root)
    shutil.rmtree(run.folder)
    other = ended(root, "fedavg", 0, 0.75)
    restore_records(file, root)
    assert other.summary is not None
    assert other.summary["metrics"]["test/accuracy"] == 0.75


def test_a_study_takes_what_has_ended_from_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, root = tmp_path / "records.jsonl", tmp_path / "root"
    runs = [ended(root, "fedavg", seed, 0.5 + seed / 10) for seed in (0, 1)]
    save_records(file, runs, root)
    shutil.rmtree(root)
    study([runs[0].config], seeds=(0, 1), root=root, metrics=["test/accuracy"], records=file)
    assert "| fedavg | 2 | 0.5500 ± 0.0707 |" in capsys.readouterr().out

    runs[0].config.write_text("model: {other: 1}\n")
    with pytest.raises(FileExistsError, match=r"seed_0 was made with other configurations"):
        study([runs[0].config], seeds=(0, 1), root=tmp_path / "elsewhere", records=file)


def test_a_study_keeps_what_has_ended_before(tmp_path: Path) -> None:
    file, root = tmp_path / "records.jsonl", tmp_path / "root"
    run = ended(root, "fedavg", 0, 0.5)
    study([run.config], seeds=(0,), root=root, metrics=["test/accuracy"], records=file)
    restore_records(file, tmp_path / "here")
    assert (tmp_path / "here" / "fedavg" / "seed_0" / "summary.json").is_file()


@pytest.mark.parametrize(
    "line",
    [
        "[1, 2",
        "[]",
        '{"run": "fedavg/seed_0"}',
        '{"run": "../evil", "made_of": {"configurations": []}, "files": {"summary.json": "", "metrics.csv": ""}}',
        '{"run": "/evil", "made_of": {"configurations": []}, "files": {"summary.json": "", "metrics.csv": ""}}',
        '{"run": "a", "made_of": {"configurations": ["1f"]}, "files": {"summary.json": "", "metrics.csv": ""}}',
        '{"run": "a", "made_of": {"configurations": []}, "files": {"summary.json": "", "metrics.csv": 1}}',
    ],
)
def test_another_file_is_told_by_its_line(line: str, tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    file.write_text(f'{{"digest": "0a", "text": ""}}\n{line}\n')
    with pytest.raises(ValueError, match=r"`records` .* line 2 of .*records\.jsonl is none"):
        restore_records(file, tmp_path / "root")
    assert not (tmp_path / "root").exists()


def test_texts_may_be_alike_and_hold_any_line_end(tmp_path: Path) -> None:
    root, file = tmp_path / "there", tmp_path / "records.jsonl"
    run = ended(root, "fedavg", 0, 0.5, "model: {said: 'a\u2028b\u0085c'}\n")
    made_of = json.loads((run.folder / "study.json").read_text())
    twice = made_of | {"configurations": made_of["configurations"] * 2}
    (run.folder / "study.json").write_text(json.dumps(twice))
    save_records(file, [run], root)
    restore_records(file, tmp_path / "here")
    again = json.loads((tmp_path / "here" / "fedavg" / "seed_0" / "study.json").read_text())
    assert again == twice
