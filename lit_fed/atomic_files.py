"""Files and folders that are there whole or not at all, whenever the process that writes them dies."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

# A name of its own for each kind: what is looked for as a file must never find a folder.
_WRITING_FILE: Final = ".writing-file-"
_WRITING_FOLDER: Final = ".writing-folder-"
_REPLACED: Final = ".replaced-"
_DELETING: Final = ".deleting-"


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write a file at, which gets its name when it is complete.

    Args:
        path: The file's final name; its folder is made. A file that is there is replaced.

    Yields:
        A path beside it, for whatever writes files by their path.

    Raises:
        OSError: If it cannot be written; the old file is then untouched.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "rows.csv"
        >>> with whole_file(path) as writing:
        ...     _ = writing.write_text("round,val/loss")
        ...     path.exists()
        False
        >>> path.read_text(), [p.name for p in path.parent.iterdir()]
        ('round,val/loss', ['rows.csv'])
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    writing = path.with_name(f"{_WRITING_FILE}{path.name}")
    try:
        yield writing
        flush(writing)
        writing.replace(path)
    except BaseException:
        writing.unlink(missing_ok=True)
        raise
    flush(path.parent)


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all.

    Args:
        path: The file's final name; its folder is made. A file that is there is replaced.
        content: Bytes, or a text for UTF-8, whose line ends stay as they are.

    Raises:
        OSError: If it cannot be written; the old file is then untouched.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "run" / "metrics.csv"
        >>> write_file(path, "round,val/loss")
        >>> path.read_text()
        'round,val/loss'
    """
    data = content.encode() if isinstance(content, str) else content
    with whole_file(path) as writing:
        writing.write_bytes(data)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to write in, which gets its name when it is complete.

    A folder of that name is moved aside before, and deleted after: whenever the process dies, one of both is there,
    and :func:`standing` finds it.

    Args:
        path: The folder's final name.

    Yields:
        A new, empty folder beside it.

    Raises:
        OSError: If it cannot be written; the old folder is then untouched.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "adapter"
        >>> for text in ("old", "new"):
        ...     with whole_folder(path) as writing:
        ...         _ = (writing / "weights").write_text(text)
        >>> (path / "weights").read_text(), [p.name for p in path.parent.iterdir()]
        ('new', ['adapter'])
    """
    writing = path.with_name(f"{_WRITING_FOLDER}{path.name}")
    aside = path.with_name(f"{_REPLACED}{path.name}")
    _delete(writing)
    try:
        writing.mkdir(parents=True)
        yield writing
        for one in [*writing.rglob("*"), writing]:
            flush(one)
        if path.exists():
            _delete(aside)
            path.rename(aside)
        writing.rename(path)
    except BaseException:
        shutil.rmtree(writing, ignore_errors=True)
        if not path.exists() and aside.exists():
            aside.rename(path)
        raise
    flush(path.parent)
    _delete(aside)


def standing(path: Path) -> Path | None:
    """Where the content of a folder is: under its name or, where it was being replaced, aside; None if there is none.

    Args:
        path: A folder that :func:`whole_folder` has written.

    Example:
        >>> import tempfile
        >>> run = Path(tempfile.mkdtemp())
        >>> (run / ".replaced-round=0002").mkdir()
        >>> standing(run / "round=0002").name
        '.replaced-round=0002'
        >>> standing(run / "round=0003") is None
        True
    """
    aside = path.with_name(f"{_REPLACED}{path.name}") if path.name else path
    return next((one for one in (path, aside) if one.is_dir()), None)


def standing_names(folder: Path) -> set[str]:
    """The names of the folders in a folder, those included that were being replaced.

    Args:
        folder: The folder. It need not exist.
    """
    found = {path.name for path in folder.glob("*") if path.is_dir()}
    aside = {name.removeprefix(_REPLACED) for name in found if name.startswith(_REPLACED)}
    return {name for name in found if not name.startswith(".")} | aside


def remove_folder(path: Path) -> None:
    """Delete a folder that must not look whole when the process dies half-way.

    Args:
        path: The folder.
    """
    doomed = path.with_name(f"{_DELETING}{path.name}")
    _delete(doomed)
    path.rename(doomed)
    _delete(doomed)


def clear_leftovers(folder: Path) -> None:
    """Remove what a process that was killed has left half written or half deleted, and give back what it moved aside.

    Nobody else may be writing in the folder.

    Args:
        folder: The folder, whose subfolders are not searched. It need not exist.

    Example:
        >>> import tempfile
        >>> run = Path(tempfile.mkdtemp())
        >>> for name in (".writing-folder-round=0003", ".deleting-round=0001", ".replaced-round=0002"):
        ...     (run / name).mkdir()
        >>> _ = (run / ".writing-file-best.json").write_text("{")
        >>> clear_leftovers(run)
        >>> [path.name for path in run.iterdir()]
        ['round=0002']
    """
    for aside in folder.glob(f"{_REPLACED}*"):
        path = aside.with_name(aside.name.removeprefix(_REPLACED))
        if path.exists():
            _delete(aside)
        else:
            aside.rename(path)
    # without the kind: earlier versions had one name for both
    for pattern in (".writing-*", f"{_DELETING}*"):
        for left in folder.glob(pattern):
            _delete(left)


def flush(path: Path) -> None:
    """Wait until a file or a folder's entries are on disk.

    Args:
        path: The file or folder.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
