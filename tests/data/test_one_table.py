"""One table, written in every format there is, is the same table."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from datasets import Dataset

from lit_fed.data import (
    ClassificationEncoding,
    ClientFiles,
    CSVSource,
    FederatedDataModule,
    HubSource,
    JSONLSource,
    LinesSource,
    NaturalPartitioner,
    ParquetSource,
    Source,
    TSVSource,
)
from lit_fed.data.columns import ROW_ID, written_values
from lit_fed.data.digest import rows_digest

# What a guess at types would change: zeros, words for nothing, blanks at the ends, quotes, delimiters.
COLUMNS: dict[str, list[Any]] = {
    "text": ['it is, 1 "good" one', "NA", "null", "naïve  ", "None", "nan", "0x10", "ok", "1e5"],
    "code": ["250.10", "250.1", "38.00", "38.0", "250.10", "NA", "null", "None", "nan"],
    "site": ["3.1", "3.10", "007", "7", "3.1", "3.10", "007", "7", "NA"],
    "count": [1, 2, 10, 0, -3, 12345678901, 7, 8, 9],
    "share": [0.5, 1.0, 250.1, 1e-07, 1e16, 0.1, 3.0, 2.5, 0.0],
    "sure": [True, False, True, True, False, True, False, True, True],
}
NAMES = list(COLUMNS)
TYPED = Dataset.from_dict(COLUMNS)


def _text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)


WRITTEN = {name: [_text(value) for value in values] for name, values in COLUMNS.items()}


def _records() -> list[dict[str, Any]]:
    return [dict(row) for row in TYPED]


def _write_delimited(path: Path, delimiter: str, end: str = "\n", mark: str = "") -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        stream.write(mark)
        writer = csv.writer(stream, delimiter=delimiter, lineterminator=end)
        writer.writerow(NAMES)
        writer.writerows(zip(*WRITTEN.values(), strict=True))


def _sources(folder: Path) -> Mapping[str, Source | Dataset | ClientFiles]:
    _write_delimited(folder / "a.csv", ",")
    _write_delimited(folder / "marked.csv", ",", "\r\n", "\ufeff")
    _write_delimited(folder / "a.tsv", "\t")
    lines = [json.dumps(row, ensure_ascii=False) for row in _records()]
    (folder / "a.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "crlf.jsonl").write_bytes(("\ufeff" + "\r\n\r\n".join(lines)).encode())
    (folder / "a.json").write_text(json.dumps(_records(), indent=1), encoding="utf-8")
    (folder / "a.txt").write_text(
        "\n".join("|".join(row) for row in zip(*WRITTEN.values(), strict=True)), encoding="utf-8"
    )
    TYPED.to_parquet(folder / "a.parquet")
    pd.DataFrame(COLUMNS).astype({"share": "float32"}).to_parquet(folder / "pandas.parquet")
    TYPED.save_to_disk(folder / "saved")
    (folder / "files").mkdir()
    _write_delimited(folder / "files" / "train.csv", ",")
    pattern = r"\|".join(f"(?P<{name}>.*)" for name in NAMES)
    return {
        "csv": CSVSource(folder / "a.csv"),
        "csv of a spreadsheet": CSVSource(folder / "marked.csv"),
        "tsv": TSVSource(folder / "a.tsv", quote='"'),
        "jsonl": JSONLSource(folder / "a.jsonl"),
        "jsonl of Windows": JSONLSource(folder / "crlf.jsonl"),
        "json": JSONLSource(folder / "a.json"),
        "lines": LinesSource(folder / "a.txt", pattern),
        "parquet": ParquetSource(folder / "a.parquet"),
        "parquet of pandas": ParquetSource(folder / "pandas.parquet"),
        "saved data set": HubSource(str(folder / "saved")),
        "data set of CSV files": HubSource(str(folder / "files")),
        "datasets": TYPED,
    }


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    import datasets

    folder = tmp_path_factory.mktemp("tables")
    before = datasets.config.HF_DATASETS_CACHE
    datasets.config.HF_DATASETS_CACHE = folder / "cache"
    tables = _sources(folder)
    read = {name: t.load() if isinstance(t, Source) else t for name, t in tables.items()}
    datasets.config.HF_DATASETS_CACHE = before
    return read


def test_values_and_digests_are_equal(sources: Mapping[str, Dataset]) -> None:
    for name, rows in sources.items():
        for column in NAMES:
            assert written_values(rows, column, "x") == WRITTEN[column], (name, column)
        assert rows_digest(rows) == rows_digest(TYPED), name


@pytest.mark.parametrize("column", ["code", "count", "share", "sure"])
def test_labels_and_clients_are_equal(sources: Mapping[str, Dataset], column: str) -> None:
    found = {}
    for name, rows in sources.items():
        data = FederatedDataModule(
            rows,
            encoding=ClassificationEncoding("text", None, column),
            partitioner=NaturalPartitioner("site"),
            validation_fraction=0,
            seed=0,
        )
        data.setup()
        labels = data.encoding.label_ids(rows).tolist()  # type: ignore[attr-defined]
        clients = [(client.id, client.rows[ROW_ID][:]) for client in data.clients]
        found[name] = (data.encoding.names, labels, clients)
    assert len(set(map(repr, found.values()))) == 1, found
    names, labels, clients = found["csv"]
    assert sorted(client for client, _ in clients) == sorted(set(WRITTEN["site"]))
    if column == "code":
        assert names == sorted(set(WRITTEN["code"]))
        assert [names[label] for label in labels] == WRITTEN["code"]
    if column == "count":
        assert (names, labels) == (None, COLUMNS["count"])


def test_clients_with_files_of_different_formats_are_one_table(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label,price\nx,1,38.00\ny,0,2\n")
    (tmp_path / "b.jsonl").write_text('{"text": "z", "label": 1, "price": 2.5}\n')
    Dataset.from_dict({"text": ["u"], "label": [0], "price": [2]}).to_parquet(
        tmp_path / "c.parquet"
    )
    data = FederatedDataModule(
        ClientFiles(f"{tmp_path}/*.*"),
        encoding=ClassificationEncoding("text", None, weight="price"),
        validation_fraction=0,
    )
    data.setup()
    price = [client.rows["price"][:] for client in data.clients]
    assert price == [["38.00", "2"], ["2.5"], ["2"]]
    assert [data.encoding.label_ids(c.rows).tolist() for c in data.clients] == [[1, 0], [1], [0]]  # type: ignore[attr-defined]
    assert data.encoding.weights(data.clients[0].rows)["weight"].tolist() == [38.0, 2.0]


MISSING = {
    "csv": ("a,b,c\nx,1,p\n\ny,,q\n", "line 4 of"),
    "tsv": ("a\tb\tc\nx\t1\tp\ny\t \tq\n", "line 3 of"),
    "jsonl": ('{"a": "x", "b": 1, "c": "p"}\n\n{"a": "y", "b": null, "c": "q"}\n', "line 3 of"),
    "json": ('[{"a": "x", "b": 1.5, "c": "p"},\n{"a": "y", "b": NaN, "c": "q"}]', "item 1 of"),
}


@pytest.mark.parametrize("role", ["label", "client"])
@pytest.mark.parametrize("ending", [*MISSING, "parquet", "datasets"])
def test_a_missing_label_or_client_names_its_place(tmp_path: Path, ending: str, role: str) -> None:
    path = tmp_path / f"rows.{ending}"
    place = ""
    train: Any
    if ending in MISSING:
        text, place = MISSING[ending]
        path.write_text(text)
        kinds: dict[str, Any] = {"csv": CSVSource, "tsv": TSVSource}
        train = kinds.get(ending, JSONLSource)(path)
    else:
        rows = pd.DataFrame({"a": ["x", "y"], "b": [1.5, float("nan")], "c": ["p", "q"]})
        rows.to_parquet(path)
        train = ParquetSource(path) if ending == "parquet" else Dataset.from_pandas(rows)
    label, client = ("b", "c") if role == "label" else ("c", "b")
    setting = "data.encoding.label" if role == "label" else "data.partitioner.column"
    data = FederatedDataModule(
        train,
        encoding=ClassificationEncoding("a", None, label),
        partitioner=NaturalPartitioner(client),
        validation_fraction=0,
    )
    message = (
        rf"`{setting}` names column 'b', which has no value in 1 of 2 rows, the first is row 1"
    )
    with pytest.raises(ValueError, match=message + (rf" \({place} '.*rows" if place else "")):
        data.setup()


def test_values_that_differ_in_blanks_alone_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,label\nx,spam\ny,ham\nz,spam \n")
    data = FederatedDataModule(
        CSVSource(tmp_path / "rows.csv"), encoding=ClassificationEncoding("text", None)
    )
    message = (
        r"expected to differ in more than blanks, but are 'spam' and, in row 2, 'spam ' \(line 4"
    )
    with pytest.raises(ValueError, match=message):
        data.setup()
