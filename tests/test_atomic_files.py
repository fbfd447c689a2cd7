"""Files and folders written whole: a process that dies at any of its steps leaves the old or the new one."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lit_fed.atomic_files import (
    clear_leftovers,
    remove_folder,
    standing,
    whole_file,
    whole_folder,
    write_file,
)

STEPS = ("rename", "replace", "mkdir", "rmdir", "unlink", "fsync")


class Died(BaseException):
    """Stands for the end of the process: nothing that was to follow is done."""


def dies_at(step: int, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether ``act`` came to the step of that number, of those that change what is on disk; there it ends."""
    count = 0
    with monkeypatch.context() as patch:
        # what is done after an exception is not done by a process that was killed
        patch.setattr(shutil, "rmtree", lambda path, ignore_errors=False: _rmtree(path))
        for name in STEPS:
            true = getattr(os, name)

            def counted(
                *args: object, true: Callable[..., object] = true, **kwargs: object
            ) -> object:
                nonlocal count
                count += 1
                if count >= step:
                    raise Died
                return true(*args, **kwargs)

            patch.setattr(os, name, counted)
        try:
            act()
        except Died:
            return True
    return False


def _rmtree(path: Path) -> None:
    for one in sorted(Path(path).rglob("*"), reverse=True):
        os.rmdir(one) if one.is_dir() else os.unlink(one)  # noqa: PTH106, PTH108 (the patched calls)
    os.rmdir(path)  # noqa: PTH106


def write_folder(path: Path, text: str) -> None:
    with whole_folder(path) as writing:
        (writing / "a").write_text(text)
        (writing / "in").mkdir()
        (writing / "in" / "b").write_text(text)


def half_a_file(folder: Path) -> None:
    with whole_file(folder / "a" / "file") as writing:
        writing.write_text("half")
        raise OSError("full")


def half_a_folder(folder: Path) -> None:
    with whole_folder(folder / "folder") as writing:
        (writing / "a").write_text("half")
        raise OSError("full")


def content(path: Path) -> set[str]:
    return {file.read_text() for file in (path / "a", path / "in" / "b")}


def test_a_folder_is_old_or_new_whenever_the_process_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    for step in range(1, 100):
        folder = tmp_path / str(step) / "round=0001"
        write_folder(folder, "old")
        died = dies_at(step, lambda folder=folder: write_folder(folder, "new"), monkeypatch)
        found = standing(folder)
        assert found is not None
        assert content(found) in ({"old"}, {"new"})
        seen.append(*content(found))
        clear_leftovers(folder.parent)
        assert content(folder) == {seen[-1]}
        assert [path.name for path in folder.parent.iterdir()] == ["round=0001"]
        write_folder(folder, "next")
        assert content(folder) == {"next"}
        if not died:
            break
    assert not died
    assert seen == sorted(seen, reverse=True)  # old up to a step, and new from there on
    assert set(seen) == {"old", "new"}


def test_a_file_is_old_or_new_whenever_the_process_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "best.json"
    for step in range(1, 20):
        write_file(path, "old")
        died = dies_at(step, lambda: write_file(path, "new"), monkeypatch)
        assert path.read_text() in ("old", "new")
        clear_leftovers(tmp_path)
        assert list(tmp_path.iterdir()) == [path]
        if not died:
            break
    assert not died
    assert path.read_text() == "new"


def test_a_folder_is_whole_or_deleted_whenever_the_process_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in range(1, 20):
        folder = tmp_path / str(step) / "round=0001"
        write_folder(folder, "old")
        died = dies_at(step, lambda folder=folder: remove_folder(folder), monkeypatch)
        assert standing(folder) is None or content(folder) == {"old"}
        clear_leftovers(folder.parent)
        assert standing(folder) is None or content(folder) == {"old"}
        if not died:
            break
    assert not died
    assert not list(folder.parent.iterdir())


def test_an_error_leaves_the_old_ones_and_nothing_beside_them(tmp_path: Path) -> None:
    write_file(tmp_path / "a" / "file", "old")
    write_folder(tmp_path / "folder", "old")
    with pytest.raises(UnicodeEncodeError):
        write_file(tmp_path / "a" / "file", "new \ud800")
    for fill in (half_a_file, half_a_folder):
        with pytest.raises(OSError, match="full"):
            fill(tmp_path)
    assert (tmp_path / "a" / "file").read_text() == "old"
    assert content(tmp_path / "folder") == {"old"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "folder"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]


def test_texts_keep_their_line_ends(tmp_path: Path) -> None:
    write_file(tmp_path / "b.csv", "新\r\n\n")
    assert (tmp_path / "b.csv").read_bytes() == "新\r\n\n".encode()


def test_what_earlier_versions_left_is_removed_whatever_it_is(tmp_path: Path) -> None:
    (tmp_path / ".writing-best.json").write_text("{")
    (tmp_path / ".writing-round=0002").mkdir()
    (tmp_path / ".deleting-round=0001" / "clients").mkdir(parents=True)
    (tmp_path / "round=0003").mkdir()
    clear_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["round=0003"]
    clear_leftovers(tmp_path / "nowhere")
