"""Entries of a table of contents whose pages need not be there: a pattern that nothing matches is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sphinx.application import Sphinx


def without_missing(text: str, folder: Path, root: Path) -> str:
    r"""A page without the lines that are patterns, such as ``methods/inde[x]``, and match no page.

    Args:
        text: The page.
        folder: The folder that it is in.
        root: The folder of all pages, from which a pattern with a slash at its beginning goes.

    Example:
        >>> without_missing("README\nnever/inde[x]\nquickstart", Path(), Path())
        'README\nquickstart'
    """

    def is_there(line: str) -> bool:
        pattern = line.strip()
        if "[" not in pattern or not set(pattern) <= _OF_A_PATTERN:
            return True
        base = root if pattern.startswith("/") else folder
        return any(base.glob(f"{pattern.lstrip('/')}.*"))

    return "\n".join(line for line in text.split("\n") if is_there(line))


_OF_A_PATTERN = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-/[]*")


def _read(app: Sphinx, name: str, source: list[str]) -> None:
    if name == app.config.root_doc:
        folder = Path(app.env.doc2path(name)).parent
        source[0] = without_missing(source[0], folder, Path(app.srcdir))


def setup(app: Sphinx) -> dict[str, Any]:
    """Look at the first page before it is parsed, as Sphinx asks of an extension.

    Args:
        app: The application.
    """
    app.connect("source-read", _read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
