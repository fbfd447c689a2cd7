"""Data sets of the Hugging Face libraries, from a folder or the hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lit_fed.data.sources.source import Source

if TYPE_CHECKING:
    from datasets import Dataset

_SPLIT: Final = "train"


class HubSource(Source):
    """A Hugging Face data set.

    Columns of CSV files are text, as those of :class:`CSVSource`, unless the data set says what they are.

    Args:
        path: A folder written by ``save_to_disk``, a folder of data files, or a name on the hub.
        name: The configuration, where the data set has several.
        split: The split. Slices such as ``train[:100]`` work for data files and the hub.
        revision: The version on the hub: a branch, tag or commit.

    >>> import tempfile
    >>> from datasets import Dataset
    >>> folder = tempfile.mkdtemp()
    >>> Dataset.from_dict({"text": ["a"]}).save_to_disk(folder)
    >>> HubSource(folder).load()[0]
    {'text': 'a'}
    """

    def __init__(
        self, path: str, name: str | None = None, split: str = _SPLIT, revision: str | None = None
    ) -> None:
        self.path = path
        self.name = name
        self.split = split
        self.revision = revision

    def load(self) -> Dataset:
        """Read the data set, from the hub's cache where it is there.

        Raises:
            FileNotFoundError: If there is no such folder or data set, or the hub cannot be reached.
            ValueError: If it has no such split or configuration, or is damaged.
        """
        import datasets

        folder = Path(self.path).expanduser()
        if any((folder / file).is_file() for file in ("state.json", "dataset_dict.json")):
            try:
                found = datasets.load_from_disk(str(folder))
            # damaged files make datasets raise whatever it likes
            except Exception as error:
                reason = " ".join(str(error).split())
                raise ValueError(
                    f"`path` {self.path!r} cannot be read as a data set: {reason:.200}"
                ) from None
            if isinstance(found, datasets.Dataset):
                if self.split not in (_SPLIT, str(found.split)):
                    raise ValueError(
                        f"`split` is expected to be left out for {self.path!r}, which holds one table, but got "
                        f"{self.split!r}"
                    )
                return found
            if self.split not in found:
                raise ValueError(
                    f"`split` is expected to be one of {sorted(found)} for {self.path!r}, but got "
                    f"{self.split!r}"
                )
            return found[self.split]
        try:
            rows = self._loaded(str(folder) if folder.is_dir() else self.path)
        except (FileNotFoundError, ConnectionError) as error:
            reason = str(error).splitlines()[0]
            raise FileNotFoundError(
                f"`path` is expected to be a folder or a data set on the hub, but {self.path!r} is "
                f"not: {reason}"
            ) from None
        except (ValueError, datasets.exceptions.DatasetsError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"`path` {self.path!r} cannot be read as a data set: {reason}"
            ) from None
        if not isinstance(rows, datasets.Dataset):
            raise ValueError(
                f"`split` of {self.path!r} is expected to be one split, but got {self.split!r}"
            )
        return rows

    def _loaded(self, path: str) -> Any:
        """What datasets makes of files, those of CSV as text: it would lose zeros and take NA for nothing."""
        import datasets
        from datasets.packaged_modules.csv.csv import CsvConfig

        kept: dict[str, Any] = {}
        config = datasets.load_dataset_builder(path, self.name, revision=self.revision).config
        if isinstance(config, CsvConfig) and config.features is None:
            whole = re.match(r"\w*", self.split)
            first = datasets.load_dataset(
                path,
                self.name,
                split=whole and whole[0],
                revision=self.revision,
                streaming=True,
            )
            names: dict[str, Any] = next(iter(first), {})
            text = datasets.Features({name: datasets.Value("string") for name in names})
            kept = {"features": text, "na_filter": False} if names else {}
        return datasets.load_dataset(
            path, self.name, split=self.split, revision=self.revision, **kept
        )
