"""Several files as one table."""

import json
from pathlib import Path

import pytest

from lit_fed.data import CSVSource, PooledFiles


def write(folder: Path) -> Path:
    (folder / "b.csv").write_text("text,label\nfine,1\nbad,0\n")
    (folder / "a.csv").write_text("text,label\ndull,0\n")
    return folder


def test_rows_are_in_the_order_of_files_with_their_names(tmp_path: Path) -> None:
    source = PooledFiles(f"{write(tmp_path)}/*.csv", column="ward")
    assert source.load().to_dict() == {
        "text": ["dull", "fine", "bad"],
        "label": ["0", "1", "0"],
        "ward": ["a", "b", "b"],
    }
    assert source.place(0) == CSVSource(tmp_path / "a.csv").place(0)
    assert source.place(2) == CSVSource(tmp_path / "b.csv").place(1)
    assert source.place(3) is None


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(
        ValueError, match=r"`column` is expected to be a new one, but 'a' of .* 'text'"
    ):
        PooledFiles(f"{tmp_path}/*.csv", column="text").load()
    (tmp_path / "c.csv").write_text("text,mark\nwell,1\n")
    with pytest.raises(ValueError, match=r"same columns, but 'c' has \['text', 'mark'\]"):
        PooledFiles(f"{tmp_path}/*.csv").load()
    for name, label in (("d", 1), ("e", [1])):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"text": "x", "label": label}))
    with pytest.raises(ValueError, match="columns of the same types, but"):
        PooledFiles(f"{tmp_path}/*.jsonl").load()
    with pytest.raises(FileNotFoundError, match="is expected to name files"):
        PooledFiles(f"{tmp_path}/*.tsv").load()
