"""A file of rows for each client."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePath

from lit_fed.data.sources.delimited import CSVSource, TSVSource
from lit_fed.data.sources.jsonl import JSONLSource
from lit_fed.data.sources.parquet import ParquetSource
from lit_fed.data.sources.source import Source

_BY_ENDING: dict[str, Callable[[str], Source]] = {
    ".csv": CSVSource,
    ".tsv": TSVSource,
    ".json": JSONLSource,
    ".jsonl": JSONLSource,
    ".parquet": ParquetSource,
}
_WILD = frozenset("*?[")


class ClientFiles:
    r"""The files that a pattern finds: each holds the rows of one client, whose name is the file's without its ending.

    Where files of several folders have the same name, as of the pattern ``wards/*/train.csv``, a client's
    name is the path from the last folder without a wildcard: ``ward-a/train``.

    Args:
        pattern: The files, with ``*``, ``?`` and ``[…]`` for parts of a name and ``**`` for any folders.
        source: What reads a file, given its path. None: what its ending says, of ``.csv``, ``.tsv``, ``.json``,
            ``.jsonl`` and ``.parquet``.

    >>> import tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "ward-b.csv").write_text("text,label\nfine,1\n")
    >>> _ = (folder / "ward-a.csv").write_text("text,label\ndull,0\n")
    >>> sources = ClientFiles(f"{folder}/*.csv").sources()
    >>> list(sources), sources["ward-b"].load()[0]
    (['ward-a', 'ward-b'], {'text': 'fine', 'label': '1'})
    """

    def __init__(self, pattern: str, source: Callable[[str], Source] | None = None) -> None:
        self.pattern = pattern
        self.source = source

    def sources(self) -> dict[str, Source]:
        """The sources by client, in the order of their names.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the pattern is a folder, two files have the same name, or an ending says nothing.
        """
        folder, wild = _divided(Path(self.pattern).expanduser())
        if (folder / wild).is_dir():
            raise ValueError(
                f"`pattern` is expected to name files, but {self.pattern!r} is a folder: write "
                f"{str(PurePath(self.pattern) / '*.csv')!r} for its CSV files"
            )
        files = sorted(p for p in folder.glob(wild) if p.is_file() and not p.name.startswith("."))
        if not files:
            raise FileNotFoundError(
                f"`pattern` is expected to name files, but there is none of {self.pattern!r}"
            )
        names = [file.stem for file in files]
        if len(set(names)) < len(files):
            names = [file.relative_to(folder).with_suffix("").as_posix() for file in files]
        if repeated := [name for name, count in Counter(names).items() if count > 1]:
            raise ValueError(
                f"`pattern` is expected to name one file for each client, but {self.pattern!r} names "
                f"several for {repeated[0]!r}"
            )
        read = self.source or _by_ending
        by_name = dict(zip(names, map(str, files), strict=True))
        return {name: read(by_name[name]) for name in sorted(by_name)}


def _divided(pattern: Path) -> tuple[Path, str]:
    """A pattern's last folder without a wildcard, and the rest."""
    parts = pattern.parts
    first = next((i for i, part in enumerate(parts) if _WILD & set(part)), len(parts) - 1)
    return Path(*parts[:first]), str(PurePath(*parts[first:]))


def _by_ending(path: str) -> Source:
    ending = PurePath(path).suffix.lower()
    if ending not in _BY_ENDING:
        raise ValueError(
            f"`source` is expected to name what reads {path!r}, whose ending is none of "
            f"{', '.join(_BY_ENDING)}"
        )
    return _BY_ENDING[ending](path)
