"""Links to folders of the repository: a site has no page for one, so that its name alone is left."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

_LINK = re.compile(r"\[([^\]\n]+)\]\(([^)#:\s]+)\)")


def without_folder_links(text: str, folder: Path) -> str:
    """A page of Markdown in which links to folders have become their texts.

    Args:
        text: The page.
        folder: The folder that it is in, from which its links go.

    Example:
        >>> without_folder_links("see [`docs`](docs) and [it](docs/index.md)", Path())
        'see `docs` and [it](docs/index.md)'
    """
    return _LINK.sub(lambda link: link[1] if (folder / link[2]).is_dir() else link[0], text)


def _read(app: Sphinx, name: str, source: list[str]) -> None:
    path = Path(app.env.doc2path(name))
    if path.suffix == ".md":
        source[0] = without_folder_links(source[0], path.parent)


def setup(app: Sphinx) -> dict[str, Any]:
    """Look at each page before it is parsed, as Sphinx asks of an extension.

    Args:
        app: The application.
    """
    app.connect("source-read", _read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
