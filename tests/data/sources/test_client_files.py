from pathlib import Path

import pytest

from lit_fed.data import ClientFiles, CSVSource


def write(path: Path, text: str = "text,label\na,1\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_each_file_is_a_client_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b 2.csv", "A.csv", "a.csv", "病房.csv", ".hidden.csv"):
        write(tmp_path / name)
    (tmp_path / "folder.csv").mkdir()
    assert list(ClientFiles(f"{tmp_path}/*.csv").sources()) == ["A", "a", "b 2", "病房"]


def test_endings_say_how_files_are_read(tmp_path: Path) -> None:
    write(tmp_path / "a.csv")
    write(tmp_path / "b.TSV", 'text\tlabel\n"a\t1\n')
    write(tmp_path / "c.jsonl", '{"text": "a", "label": 1}\n')
    sources = ClientFiles(f"{tmp_path}/*").sources()
    texts = [source.load()["text"][:] for source in sources.values()]
    assert texts == [["a"], ['"a'], ["a"]]
    write(tmp_path / "d.xlsx")
    with pytest.raises(ValueError, match=r"`source` is expected to name what reads '.*d.xlsx'"):
        ClientFiles(f"{tmp_path}/*").sources()


def test_a_source_of_ones_own(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "text;label\nx,y;1\n")
    sources = ClientFiles(f"{tmp_path}/*.txt", lambda path: CSVSource(path, ";")).sources()
    assert sources["a"].load()[0] == {"text": "x,y", "label": "1"}


def test_files_of_one_name_are_called_by_their_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for ward in ("a", "b"):
        write(tmp_path / "wards" / ward / "train.csv")
    monkeypatch.chdir(tmp_path)
    for pattern in ("wards/*/train.csv", "wards/**/*.csv"):
        assert list(ClientFiles(pattern).sources()) == ["a/train", "b/train"]
    write(tmp_path / "wards" / "a" / "train.jsonl")
    with pytest.raises(ValueError, match=r"'wards/.*' names several for 'a/train'"):
        ClientFiles("wards/**/train.*").sources()


def test_what_names_no_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is none of .*\*.csv"):
        ClientFiles(f"{tmp_path}/*.csv").sources()
    with pytest.raises(FileNotFoundError, match=r"there is none of .*absent.csv"):
        ClientFiles(f"{tmp_path}/absent/absent.csv").sources()
    with pytest.raises(ValueError, match=r"is a folder: write '.*\*.csv'"):
        ClientFiles(str(tmp_path)).sources()
