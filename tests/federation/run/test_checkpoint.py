"""Checkpoints are written whole, in place of nothing but a checkpoint."""

from pathlib import Path

import pytest

from lit_fed import Payload, atomic_files
from lit_fed.federation import FederationState
from lit_fed.federation.run.checkpoint import checkpoints, load_checkpoint, save_checkpoint


def state(number: int) -> FederationState:
    return FederationState(number, Payload(strings={"made": [str(number)]}))


def test_what_is_no_checkpoint_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(
        FileExistsError, match=r"a new folder or in place of another one, but .* is none"
    ):
        save_checkpoint(tmp_path, state(1), {})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    (tmp_path / "new").mkdir()
    for number in (1, 2):
        save_checkpoint(tmp_path / "new", state(number), {})
        assert load_checkpoint(tmp_path / "new").round == number


def test_an_old_checkpoint_is_there_until_the_new_one_is(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints" / "round=0001"
    save_checkpoint(folder, state(1), {})
    # as a process leaves it that is killed between the two renames
    folder.rename(folder.with_name(".replaced-round=0001"))
    found = checkpoints(tmp_path)[1]
    assert load_checkpoint(found).round == 1
    atomic_files.clear_leftovers(tmp_path / "checkpoints")
    assert checkpoints(tmp_path) == {1: folder}
