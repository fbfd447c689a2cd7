from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict

from lit_fed.data import HubSource

ROWS = Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]})


def test_saved_data_sets(tmp_path: Path) -> None:
    ROWS.save_to_disk(tmp_path / "one")
    DatasetDict({"train": ROWS, "dev": ROWS.select([1])}).save_to_disk(tmp_path / "many")
    assert HubSource(str(tmp_path / "one")).load()[:] == ROWS[:]
    assert HubSource(str(tmp_path / "many"), split="dev").load()["text"][:] == ["b"]
    with pytest.raises(
        ValueError, match=r"`split` is expected to be one of \['dev', 'train'\] .* but got 'test'"
    ):
        HubSource(str(tmp_path / "many"), split="test").load()


def test_a_folder_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "folder").mkdir()
    ROWS.to_parquet(tmp_path / "folder" / "train.parquet")
    assert HubSource(str(tmp_path / "folder")).load()[:] == ROWS[:]
    with pytest.raises(ValueError, match=r"cannot be read as a data set"):
        HubSource(str(tmp_path / "folder"), split="nope").load()


def test_what_is_not_there() -> None:
    with pytest.raises(
        FileNotFoundError,
        match=r"`path` is expected to be a folder or a data set on the hub, but 'no/such'",
    ):
        HubSource("no/such").load()


def test_one_saved_table_has_no_other_split(tmp_path: Path) -> None:
    ROWS.save_to_disk(tmp_path / "one")
    assert HubSource(str(tmp_path / "one"), split="train").load()[:] == ROWS[:]
    for split in ("test", "train[:1]"):
        with pytest.raises(ValueError, match=r"left out for .* holds one table, but got 't"):
            HubSource(str(tmp_path / "one"), split=split).load()
