"""Digests of a folder's files: written last, and compared when a file is read."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final

NAME: Final = "SHA256SUMS"
"""The file of the digests, which ``sha256sum --check SHA256SUMS`` understands."""

_LINE: Final = re.compile(r"([0-9a-f]{64})  (.+)")


def digest_of(data: bytes) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits.

    Example:
        >>> digest_of(b"")[:8]
        'e3b0c442'
    """
    return hashlib.sha256(data).hexdigest()


def write_digests(folder: Path) -> None:
    """Write the digests of all files in a folder and in those below it to the folder's ``SHA256SUMS``.

    Args:
        folder: The folder.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "state.json").write_bytes(b"")
        >>> write_digests(folder)
        >>> list(read_digests(folder))
        ['state.json']
    """
    lines = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / NAME:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            lines.append(f"{found}  {path.relative_to(folder).as_posix()}\n")
    (folder / NAME).write_text("".join(lines), encoding="utf-8")


def read_digests(folder: Path) -> dict[str, str]:
    """The digests of a folder's files by their names.

    Args:
        folder: What :func:`write_digests` was given.

    Raises:
        OSError: If they cannot be read.
        ValueError: If they are damaged.
    """
    digests = {}
    for line in (folder / NAME).read_bytes().decode().removesuffix("\n").split("\n"):
        if (match := _LINE.fullmatch(line)) is None:
            raise ValueError(
                f"{NAME}: a line is expected to be a digest and a name, but is {line!r:.80}"
            )
        digests[match[2]] = match[1]
    return digests
