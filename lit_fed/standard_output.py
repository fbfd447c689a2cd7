"""Standard output for tables: as wide as the terminal or, where there is none, wide enough for names of metrics."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console

_COLUMNS: Final = 120
"""Of a file or a pipe, which have no width of their own."""


def console() -> Console:
    """What prints tables and coloured lines to standard output.

    Example:
        >>> import contextlib, io
        >>> with contextlib.redirect_stdout(io.StringIO()):
        ...     width = console().width
        >>> width == int(os.environ.get("COLUMNS", 120))
        True
    """
    from rich.console import Console

    found = Console()
    told = found.is_terminal or "COLUMNS" in os.environ
    return found if told else Console(width=_COLUMNS)
