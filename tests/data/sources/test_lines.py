from pathlib import Path

import pytest

from lit_fed.data import LinesSource


def test_groups_are_columns(tmp_path: Path) -> None:
    path = tmp_path / "test.tsv"
    path.write_text("0 no movement\n\n1 a \x85 b \n", encoding="utf-8")
    rows = LinesSource(path, r"(?P<label>\d) (?P<sentence>.*?)(?P<mark>!)?").load()
    assert rows[:] == {
        "label": ["0", "1"],
        "sentence": ["no movement", "a \x85 b "],
        "mark": [None, None],
    }


def test_a_line_that_does_not_match(tmp_path: Path) -> None:
    path = tmp_path / "test.tsv"
    path.write_text("0 fine\nlabel sentence\n")
    with pytest.raises(
        ValueError, match=r"line 2 of .* does not match `pattern` .*: 'label sentence'"
    ):
        LinesSource(path, r"(?P<label>\d) (?P<sentence>.*)").load()


def test_bad_settings(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`pattern` is expected to be a regular expression"):
        LinesSource("x", "(")
    with pytest.raises(ValueError, match=r"`pattern` is expected to have named groups"):
        LinesSource("x", "(.*)")
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(ValueError, match=r"is expected to be a file with lines"):
        LinesSource(tmp_path / "empty", "(?P<a>.*)").load()
