"""Where an error comes from, where it is not the library that has found words for it."""

from __future__ import annotations

import os
import sysconfig
import traceback
from pathlib import Path
from typing import Final

_LIBRARY: Final = f"{Path(__file__).parents[1]}{os.sep}"
_INSTALLED: Final = tuple(
    {f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "purelib", "platlib")}
)


def with_place(error: BaseException) -> str:
    """What an error says and, where somebody's own code is behind it, its class and the line of that code.

    An error that the library raises itself says what is to be done, and needs no line.

    Args:
        error: What was raised, with its traceback, or what stands for it, without one.

    Example:
        >>> with_place(ValueError("no luck"))
        'no luck'
    """
    files = traceback.extract_tb(error.__traceback__)
    if not files or files[-1].filename.startswith(_LIBRARY):
        return str(error)
    own = [f for f in files if not f.filename.startswith((_LIBRARY, *_INSTALLED, "<"))]
    if not own:
        return str(error)
    place = f"{Path(own[-1].filename).name}, line {own[-1].lineno}"
    return f"{error} ({type(error).__name__} in {place})"
