"""A file that is there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def atomic_write(path: Path, text: str) -> None:
    """Write a text file under a temporary name beside it and rename it when it is complete.

    Args:
        path: The file's final name; its folder is made. A file that is there is replaced.
        text: What to write, as UTF-8.

    Raises:
        OSError: If the folder cannot be written to; the old file is then untouched.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "run" / "metrics.csv"
        >>> atomic_write(path, "round,val/loss")
        >>> path.read_text(), [p.name for p in path.parent.iterdir()]
        ('round,val/loss', ['metrics.csv'])
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    writing = path.with_name(f".writing-{path.name}")
    with writing.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    writing.replace(path)
