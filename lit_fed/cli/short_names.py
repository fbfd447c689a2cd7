"""Short names of classes on the command line, such as ``--model.selector DawidSkene``."""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterator, Sequence
from importlib import import_module
from types import ModuleType

import lit_fed


def import_short_names(words: Sequence[str]) -> None:
    """Import the public classes that a command line names without a path.

    The parser knows a class by its name alone where it is a subclass that has been imported, and packages import theirs
    when they are first asked for.

    Args:
        words: Those of the command line.

    Example:
        >>> import_short_names(["fit", "--model.selector=DawidSkene"])
        >>> from lit_fed.methods.semantic_consensus import Selector
        >>> "DawidSkene" in {one.__name__ for one in Selector.__subclasses__()}
        True
    """
    values = (word.partition("=")[2] if word.startswith("-") else word for word in words)
    names = {value for value in values if re.fullmatch(r"[A-Z]\w*", value)}
    for package in _packages() if names else ():
        for name in names.intersection(getattr(package, "__all__", ())):
            getattr(package, name)


def _packages() -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(lit_fed.__path__, "lit_fed."):
        if found.ispkg:
            yield import_module(found.name)
