"""Parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lit_fed.data.sources.source import Source, dataset_of, existing_file

if TYPE_CHECKING:
    from datasets import Dataset


class ParquetSource(Source):
    """A Parquet file.

    Args:
        path: The file.

    >>> import tempfile, pathlib, pyarrow, pyarrow.parquet
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "train.parquet"
    >>> pyarrow.parquet.write_table(pyarrow.table({"text": ["a"], "label": [1]}), file)
    >>> ParquetSource(file).load()[0]
    {'text': 'a', 'label': 1}
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path

    def load(self) -> Dataset:
        """Read the file.

        Raises:
            FileNotFoundError: If it does not exist.
            ValueError: If it is no Parquet file.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        file = existing_file(self.path)
        try:
            table = pq.read_table(file)
            # pandas writes categories as dictionaries, and its index as an extra column.
            for i, field in enumerate(table.schema):
                if pa.types.is_dictionary(field.type):
                    values = table.column(i).cast(field.type.value_type)
                    table = table.set_column(i, field.name, values)
            extra = [name for name in table.column_names if name.startswith("__index_level_")]
            table = table.drop_columns(extra).replace_schema_metadata()
            # that texts are UTF-8, among others
            table.validate(full=True)
        # damaged files make Arrow raise whatever it likes
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(
                f"`path` is expected to be a Parquet file, but {str(file)!r} is not: {reason}"
            ) from None
        return dataset_of(table, file)
