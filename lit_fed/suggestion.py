"""The nearest name to one that there is not, as the end of an error message."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """``; did you mean 'x'?`` with the nearest of the names, or nothing where none is near.

    Args:
        name: The name that came.
        names: The names that there are.

    Example:
        >>> did_you_mean("max_round", ["max_rounds", "min_clients"])
        "; did you mean 'max_rounds'?"
        >>> did_you_mean("epochs", ["seed"])
        ''
    """
    near = get_close_matches(name, list(names), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""
