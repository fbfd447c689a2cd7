"""One run at a time keeps its files in a folder, and no run leaves the folder that it is named for."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback

from lit_fed.callbacks.adapter_export import folder_names
from lit_fed.federation.run import run_folder
from lit_fed.federation.run.run_folder import claim_run_folder, why_unwritable
from lit_fed.federation.run.run_lock import FolderOccupied, RunLock
from tests.federation.toy import toy_data, toy_module, toy_trainer

HOLDS = """
import os, sys, time
from pathlib import Path
from lit_fed.federation.run.run_lock import RunLock
lock = RunLock(Path(sys.argv[1]))
worker = os.fork() if len(sys.argv) > 2 else 1
print("held" if worker else "", flush=True)
time.sleep(600)
"""


def holder(folder: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLDS, str(folder), *more]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert child.stdout is not None
    while child.stdout.readline() != "held\n":
        assert child.poll() is None
    return child


@pytest.mark.slow
def test_a_second_process_is_refused_and_told_who_is_there_until_it_is_killed(
    tmp_path: Path,
) -> None:
    # with a worker that lives on, as a data loader's does for a while
    child = holder(tmp_path, "forks")
    try:
        said = rf"no run is under way, but in {tmp_path} that of process {child.pid} on .* since 20"
        with pytest.raises(FolderOccupied, match=said) as error:
            RunLock(tmp_path)
        assert "\n" not in str(error.value)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        RunLock(tmp_path).release()
    finally:
        os.killpg(child.pid, signal.SIGKILL)


def test_runs_that_start_at_once_have_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    context = multiprocessing.get_context("fork")
    looked, taken = context.Barrier(8), context.Queue()

    def claim() -> None:
        # all have looked which number is free before any of them takes one
        first = iter([True])

        def meet(folder: Path) -> str | None:
            if next(first, False):
                looked.wait(timeout=60)
            return why_unwritable(folder)

        run_folder.why_unwritable = meet
        claimed = claim_run_folder(None, None, "x")
        taken.put(str(claimed.folder))
        time.sleep(60)

    children = [context.Process(target=claim) for _ in range(8)]
    for child in children:
        child.start()
    try:
        folders = {taken.get(timeout=60) for _ in children}
    finally:
        for child in children:
            child.kill()
            child.join()
    assert folders == {f"runs/x/version_{n}" for n in range(8)}


def test_a_run_is_refused_in_a_folder_where_another_is_under_way(
    toy_model: Path, tmp_path: Path
) -> None:
    refused = []

    class Second(Callback):
        def on_train_start(self, trainer: Any, module: Any) -> None:
            before = sorted(tmp_path.rglob("*"))
            for ckpt_path in (None, "last"):
                with pytest.raises(FolderOccupied) as error:
                    toy_trainer(tmp_path / "run").fit(toy_module(toy_model), data, ckpt_path)
                refused.append(str(error.value))
            assert sorted(tmp_path.rglob("*")) == before

    data = toy_data()
    trainer = toy_trainer(tmp_path / "run", max_rounds=1, callbacks=[Second()])
    with pytest.warns(UserWarning, match="has no checkpoint yet"):
        trainer.fit(toy_module(toy_model), toy_data())
    assert len(refused) == 2
    assert all(f"process {os.getpid()} on" in said for said in refused)
    # it has ended
    toy_trainer(tmp_path / "run", max_rounds=1).fit(toy_module(toy_model), data, "last")


def test_what_is_refused_leaves_no_folder(tmp_path: Path) -> None:
    claim_run_folder(None, tmp_path / "a" / "b", "x").release()
    assert not list(tmp_path.iterdir())
    claimed = claim_run_folder(None, tmp_path / "a" / "b", "x")
    (claimed.folder / "metrics.csv").write_text("round")
    claimed.release()
    with pytest.raises(FileExistsError, match=r"a folder without a run, but .*b holds metrics.csv"):
        claim_run_folder(None, tmp_path / "a" / "b", "x")


@pytest.mark.parametrize(
    "name",
    ["../../evil", "/evil", "a/b", "a\\b", "..", ".", "", "  ", "a\0b", "a\nb", "x" * 300],
)
def test_a_name_that_leaves_its_folder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^`trainer.name` is expected to be the name of a folder"):
        toy_trainer(tmp_path, name=name)


@pytest.mark.parametrize("path", ["", " ", "a\0b"])
def test_a_path_that_is_none_is_refused(path: str, toy_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^`trainer.default_root_dir` is expected to be a path"):
        toy_trainer(tmp_path, default_root_dir=path)
    with pytest.raises(ValueError, match=r"^`ckpt_path` is expected to be a path"):
        toy_trainer(tmp_path).test(toy_module(toy_model), toy_data(), ckpt_path=path)


def test_clients_of_any_name_have_folders_of_their_own(tmp_path: Path) -> None:
    clients = ["", " ", ".", "..", "../a", "/a", "a\0", "\ud800", "a", "A"]
    names = folder_names(clients)
    assert len({name.lower() for name in names}) == len(clients)
    for name in names:
        (tmp_path / name).mkdir()
        assert (tmp_path / name).resolve().parent == tmp_path.resolve()
