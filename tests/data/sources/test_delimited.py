from pathlib import Path

import pytest

from lit_fed.data import CSVSource, TSVSource


def written(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "rows.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_quotes_line_ends_blank_lines_and_byte_order_mark(tmp_path: Path) -> None:
    path = written(tmp_path, '\ufefftext,label\r\n"a, ""b""\nc",1\r\n\r\nd,0\r\n')
    rows = CSVSource(path).load()
    assert rows[:] == {"text": ['a, "b"\nc', "d"], "label": ["1", "0"]}


def test_everything_is_text_as_it_is_written(tmp_path: Path) -> None:
    path = written(tmp_path, "a,b,c,d,e\n007,1,0.5,NA,1e5\n8,-2,1.0,null,\n")
    assert CSVSource(path).load()[:] == {
        "a": ["007", "8"],
        "b": ["1", "-2"],
        "c": ["0.5", "1.0"],
        "d": ["NA", "null"],
        "e": ["1e5", ""],
    }


def test_no_header_and_names_instead_of_a_header(tmp_path: Path) -> None:
    path = written(tmp_path, "x;y\n1;2\n")
    assert CSVSource(path, ";", header=False, columns=["p", "q"]).load()["p"][:] == ["x", "1"]
    assert CSVSource(path, ";", columns=["p", "q"]).load()[:] == {"p": ["1"], "q": ["2"]}


def test_quotes_are_text_in_tsv_unless_set(tmp_path: Path) -> None:
    path = written(tmp_path, 'text\tlabel\n"open\t1\n"it" is\t0\n')
    assert TSVSource(path).load()["text"][:] == ['"open', '"it" is']
    path = written(tmp_path, 'text\tlabel\n"a\tb"\t1\n')
    assert TSVSource(path, quote='"').load()["text"][:] == ["a\tb"]


def test_unbalanced_quotes_do_not_swallow_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, 'text,label\n"open,1\nb,0\n')
    with pytest.raises(ValueError, match=r"rows.csv' is not well-formed: .*set `quote: null`"):
        CSVSource(path).load()


def test_long_fields(tmp_path: Path) -> None:
    path = written(tmp_path, f"text\n{'a' * 200_000}\n")
    assert len(CSVSource(path).load()[0]["text"]) == 200_000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n3\n", r"line 3 of .* has 1 fields where 2 are expected \(delimiter ','\)"),
        ("", "is empty"),
        ("a,a\n1,2\n", r"`columns` of .* are expected to differ"),
        (
            b"a,b\n1,caf\xe9\n",
            r"expected to be a text file in UTF-8, but .* is not \(byte 0xe9 in line 2\)",
        ),
    ],
)
def test_bad_files(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CSVSource(written(tmp_path, text)).load()


def test_bad_settings(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"`path` is expected to be a file, but '.*nope' does not exist"
    ):
        CSVSource(tmp_path / "nope").load()
    with pytest.raises(ValueError, match=r"is a folder"):
        CSVSource(tmp_path).load()
    with pytest.raises(
        ValueError, match=r"`columns` is expected to name the columns where `header` is false"
    ):
        CSVSource("x", header=False)
    with pytest.raises(
        ValueError, match=r"`delimiter` is expected to be one character, but got ', '"
    ):
        CSVSource("x", delimiter=", ")
    with pytest.raises(ValueError, match=r"`quote` is expected to be one character or null"):
        CSVSource("x", quote="''")
    with pytest.raises(ValueError, match=r"`columns` is expected to name the 2 columns"):
        CSVSource(written(tmp_path, "a,b\n"), columns=["a"]).load()
