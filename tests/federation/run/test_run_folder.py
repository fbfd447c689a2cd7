"""What is wrong with a run's folder or its checkpoints is one line before training, and leaves nothing behind."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lit_fed.checkpoint_files import DamagedCheckpoint, is_whole
from lit_fed.federation import last_checkpoint
from lit_fed.federation.run.checkpoint import load_checkpoint
from lit_fed.federation.run.run_folder import find_checkpoint, why_unwritable
from tests.federation.toy import toy_data, toy_module, toy_trainer, without_times


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    """Change a bit near the end, where the numbers are."""
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "half a state": lambda folder: cut(folder / "state.json"),
    "no JSON object": lambda folder: (folder / "state.json").write_text("[1]"),
    "a state without rounds": lambda folder: (folder / "state.json").write_text(
        json.dumps(
            {
                k: v
                for k, v in json.loads((folder / "state.json").read_text()).items()
                if k != "round"
            }
        )
    ),
    "half a broadcast": lambda folder: cut(folder / "broadcast.safetensors"),
    "no server": lambda folder: (folder / "server.safetensors").unlink(),
    "half a client": lambda folder: cut(next((folder / "clients").iterdir())),
    "no state": lambda folder: (folder / "state.json").unlink(),
    "no digests": lambda folder: (folder / "SHA256SUMS").unlink(),
    "a bit of a client": lambda folder: flip(next((folder / "clients").iterdir())),
    "a digit of a digest": lambda folder: flip(folder / "SHA256SUMS"),
}


@pytest.fixture(scope="module")
def two_rounds(toy_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("two") / "run"
    trainer = toy_trainer(run, max_rounds=2, keep_optimizer_state=True)
    trainer.fit(toy_module(toy_model), toy_data())
    return run


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_one_line_with_the_command_that_goes_on(
    damage: str, toy_model: Path, tmp_path: Path, two_rounds: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(two_rounds, run)
    DAMAGE[damage](run / "checkpoints" / "round=0002")
    before = sorted(run.rglob("*"))
    data = toy_data()
    said = (
        r"^checkpoint .*round=0002 is expected to be whole, but is damaged \(.*(state.json|safetensors|SHA256SUMS|"
        r"no 'round').*\); go on from the newest one that is whole by --ckpt_path (.*round=0001)$"
    )
    with pytest.raises(ValueError, match=said) as error:
        toy_trainer(run, keep_optimizer_state=True).fit(toy_module(toy_model), data, "last")
    assert "\n" not in str(error.value)
    assert sorted(run.rglob("*")) == before
    if damage in ("half a state", "a bit of a client", "no state"):
        named = str(error.value).partition("--ckpt_path ")[2]
        again = toy_trainer(run, keep_optimizer_state=True, max_rounds=2)
        again.fit(toy_module(toy_model), data, named)
        assert again.log_dir == run
        assert is_whole(run / "checkpoints" / "round=0002")
        whole = load_checkpoint(two_rounds / "checkpoints" / "round=0002")
        assert without_times(again.federation.history) == without_times(whole.history)
        assert again.federation.broadcast == whole.broadcast


def test_a_damaged_checkpoint_is_not_tested_and_where_none_is_whole_it_says_so(
    toy_model: Path, tmp_path: Path, two_rounds: Path
) -> None:
    shutil.copytree(two_rounds, tmp_path / "run")
    for number in (1, 2):
        flip(tmp_path / "run" / "checkpoints" / f"round=000{number}" / "broadcast.safetensors")
    with pytest.raises(
        DamagedCheckpoint, match=r"broadcast.*; there is no other one that is whole"
    ):
        toy_trainer(tmp_path / "run").test(toy_module(toy_model), toy_data(), ckpt_path="last")


def test_a_folder_that_cannot_be_written_is_named_before_training(
    toy_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "run", Path("/proc/lit_fed/run")):
        with pytest.raises(OSError, match=r"`trainer.default_root_dir` is expected to be a folder"):
            toy_trainer(root).fit(toy_module(toy_model), toy_data())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_was_made_of_an_unwritable_folder_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(dir: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    assert "No space left" in str(why_unwritable(tmp_path / "a" / "b"))
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    assert why_unwritable(tmp_path / "a" / "b") is None


def test_a_run_that_is_refused_leaves_no_folder(toy_model: Path, tmp_path: Path) -> None:
    toy_trainer(tmp_path / "one", max_rounds=1).fit(toy_module(toy_model), toy_data())
    kept = last_checkpoint(tmp_path / "one").rename(tmp_path / "kept")
    with pytest.raises(ValueError, match=r"`data.batch_size`"):
        toy_trainer(tmp_path / "two").fit(
            toy_module(toy_model), toy_data(batch_size=4), ckpt_path=str(kept)
        )
    assert not (tmp_path / "two").exists()


def test_what_ckpt_path_may_be(tmp_path: Path) -> None:
    def find(ckpt_path: str) -> Path | None:
        return find_checkpoint(ckpt_path, tmp_path / "run", "x")

    assert find("last") is None
    with pytest.raises(FileNotFoundError, match=r"'best', which expects .*best.json; RoundCheck"):
        find("best")
    for number in (1, 2):
        folder = tmp_path / "run" / "checkpoints" / f"round=000{number}"
        folder.mkdir(parents=True)
        (folder / "state.json").write_text("{}")
    (tmp_path / "run" / "checkpoints" / "best.json").write_text('{"checkpoint": "round=0001"}')
    best = tmp_path / "run" / "checkpoints" / "round=0001"
    assert find("best") == find(str(best)) == best
    assert find("last") == find(str(tmp_path / "run")) == folder
    (tmp_path / "rows.csv").write_text("a,b")
    for wrong, what in (("rows.csv", "a file"), ("absent", "not there"), (".", "which holds none")):
        with pytest.raises(FileNotFoundError, match=f"`ckpt_path` is expected .*, {what}$"):
            find(str(tmp_path / wrong))
    (tmp_path / "run" / "checkpoints" / "best.json").write_text("{")
    with pytest.raises(ValueError, match=r"best.json is expected to be whole, but is damaged"):
        find("best")


def test_a_copy_of_a_checkpoint_is_no_part_of_a_run(
    toy_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    toy_trainer(run, max_rounds=1).fit(toy_module(toy_model), toy_data())
    kept = tmp_path / "home" / "keep" / "round=0001"
    shutil.copytree(run / "checkpoints" / "round=0001", kept)
    new = tmp_path / "new"
    again = toy_trainer(new, max_rounds=2)
    again.fit(toy_module(toy_model), toy_data(), ckpt_path=str(kept))
    assert again.current_round == 2
    assert (new / "checkpoints" / "round=0002").is_dir()
    assert [path.name for path in kept.parent.parent.iterdir()] == ["keep"]
    # by a name alone, beside it or in the run's own folder
    monkeypatch.chdir(kept.parent)
    other = tmp_path / "other"
    toy_trainer(other, max_rounds=2).fit(toy_module(toy_model), toy_data(), ckpt_path="round=0001")
    assert (other / "checkpoints" / "round=0002").is_dir()
    monkeypatch.chdir(run / "checkpoints")
    toy_trainer(tmp_path / "unused", max_rounds=2).fit(
        toy_module(toy_model), toy_data(), ckpt_path="round=0001"
    )
    assert (run / "checkpoints" / "round=0002").is_dir()
