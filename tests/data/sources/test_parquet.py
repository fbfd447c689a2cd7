from pathlib import Path

import pandas as pd
import pytest

from lit_fed.data import ParquetSource


def test_a_file_of_pandas(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    frame = pd.DataFrame({"text": ["a", "b", "c"], "label": pd.Categorical(["x", "y", "x"])})
    frame.iloc[[2, 0]].to_parquet(path)
    assert ParquetSource(path).load()[:] == {"text": ["c", "a"], "label": ["x", "x"]}


def test_no_parquet_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_text("text,label\n")
    with pytest.raises(ValueError, match=r"`path` is expected to be a Parquet file, but .* is not"):
        ParquetSource(path).load()
    with pytest.raises(FileNotFoundError, match=r"does not exist"):
        ParquetSource(tmp_path / "nope").load()
