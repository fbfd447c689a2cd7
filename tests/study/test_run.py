"""What a run is made of, and its process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lit_fed.study.run import Run, environment


@pytest.mark.parametrize(("told", "used"), [(None, 3), ("1", 1)])
def test_threads_that_the_environment_tells_are_kept(
    monkeypatch: pytest.MonkeyPatch, told: str | None, used: int
) -> None:
    if told is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", told)
    command = [sys.executable, "-c", "import os; print(os.environ['OMP_NUM_THREADS'])"]
    child = subprocess.run(command, env=environment(3), capture_output=True, text=True, check=True)
    assert int(child.stdout) == used


def test_runs_of_other_rows_are_no_run_of_the_study(tmp_path: Path) -> None:
    rows, more, config = tmp_path / "rows.csv", tmp_path / "more_1.csv", tmp_path / "mine.yaml"
    rows.write_text("text,label\na,b\n")
    more.write_text("text,label\nc,d\n")
    config.write_text(f"data: {{train: {{init_args: {{path: {rows}}}}}}}\n")
    pattern = f"--data.test.pattern={tmp_path}/more_*.csv"
    run = Run(config, 0, tmp_path / "run", settings=("--trainer.max_rounds=1", pattern))
    run.folder.mkdir()
    (run.folder / "study.json").write_text(json.dumps(run.made_of))
    assert set(run.made_of["files"]) == {str(rows), str(more)}
    run.check()
    for file in (rows, more):
        before = file.read_text()
        file.write_text("text,label\na,d\n")
        with pytest.raises(FileExistsError, match=f"another content of {file}: runs of different"):
            run.check()
        file.write_text(before)
    run.check()
    # of records from elsewhere, and from before files were kept, nothing is known
    made_of = {key: value for key, value in run.made_of.items() if key != "files"}
    (run.folder / "study.json").write_text(json.dumps(made_of))
    rows.write_text("text,label\na,d\n")
    run.check()
