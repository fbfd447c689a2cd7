"""Public names of a package that are imported when they are first asked for, see PEP 562."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any


def lazy_names(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The ``__getattr__`` and ``__dir__`` of a package whose ``__init__`` imports for type checkers only.

    Where a name is from stands once, in the imports under ``if TYPE_CHECKING:``, which type checkers
    follow and which are read here when a name is asked for. Submodules are found as well, so
    ``import lit_fed; lit_fed.data`` works. A name that is also a submodule's (a function in a file of
    its own name) cannot be lazy: importing the submodule sets it.

    Args:
        package: The package, its ``__name__``.

    Example:
        >>> import lit_fed.aggregation
        >>> lit_fed.aggregation.WeightedAverage.__module__
        'lit_fed.aggregation.weighted_average'
        >>> lit_fed.aggregation.Median
        Traceback (most recent call last):
        AttributeError: module 'lit_fed.aggregation' has no attribute 'Median'
    """
    face = sys.modules[package]

    @cache
    def modules() -> dict[str, str]:
        return type_checking_imports(face.__loader__.get_source(package))  # type: ignore[union-attr]  # of a source file

    def get(name: str) -> Any:
        if name in modules():
            value = getattr(import_module(modules()[name]), name)
            setattr(face, name, value)
            return value
        submodule = f"{package}.{name}"
        if not name.startswith("_") and find_spec(submodule) is not None:
            return import_module(submodule)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return get, lambda: sorted({*vars(face), *modules()})


def type_checking_imports(source: str) -> dict[str, str]:
    r"""The names that a module imports under ``if TYPE_CHECKING:``, and the module each is from.

    Args:
        source: The module's text.

    Example:
        >>> type_checking_imports("if TYPE_CHECKING:\n    from lit_fed.stage import Stage")
        {'Stage': 'lit_fed.stage'}
    """
    blocks = [
        node.body
        for node in ast.parse(source).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    return {
        alias.name: statement.module
        for block in blocks
        for statement in block
        if isinstance(statement, ast.ImportFrom) and statement.module is not None
        for alias in statement.names
    }
