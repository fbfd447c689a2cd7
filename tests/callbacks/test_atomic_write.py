from pathlib import Path

import pytest

from lit_fed.callbacks.atomic_write import atomic_write


def test_replaces_the_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.csv"
    atomic_write(path, "long old text\n")
    atomic_write(path, "新\n")
    assert path.read_bytes() == "新\n".encode()
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "b.csv"
    atomic_write(path, "old")
    with pytest.raises(UnicodeEncodeError):
        atomic_write(path, "new \ud800")
    assert path.read_text() == "old"
