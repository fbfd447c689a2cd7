"""Limits of what settings give: each returns the value, or raises in one clear line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar

Kind = TypeVar("Kind")


def is_number(value: object) -> bool:
    """Whether something is a number; a truth value, which Python takes for one, is none.

    Args:
        value: Anything.

    Example:
        >>> is_number(0.5), is_number(True), is_number("0.5")
        (True, False, False)
    """
    return isinstance(value, Real) and not isinstance(value, bool)


def require_at_least(setting: str, value: int, least: int) -> int:
    """A count that is a whole number and large enough.

    Args:
        setting: The setting, as in YAML.
        value: What it gives.
        least: The smallest number allowed.

    Raises:
        ValueError: If it is smaller, or none that counts something.

    Example:
        >>> require_at_least("data.num_clients", 3, 1)
        3
        >>> require_at_least("data.num_clients", 0, 1)
        Traceback (most recent call last):
        ValueError: `data.num_clients` is expected to be at least 1, but got 0
    """
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise ValueError(
            f"`{setting}` is expected to be a whole number of at least {least}, but got {value!r:.80}"
        )
    if value < least:
        raise ValueError(f"`{setting}` is expected to be at least {least}, but got {value!r}")
    return value


def require_none_or_at_least(setting: str, value: int | None, least: int) -> int | None:
    """A count that is large enough, where there is one; see :func:`require_at_least`.

    Args:
        setting: The setting, as in YAML.
        value: What it gives. None: it is left out.
        least: The smallest number allowed.

    Raises:
        ValueError: If there is one that is smaller, or that counts nothing.

    Example:
        >>> require_none_or_at_least("data.num_clients", None, 1)
        >>> require_none_or_at_least("data.num_clients", 3, 1)
        3
    """
    return None if value is None else require_at_least(setting, value, least)


def require_distinct(setting: str, values: Sequence[Any]) -> None:
    """Values of which each is there once.

    Args:
        setting: The setting, as in YAML.
        values: What it gives.

    Raises:
        ValueError: If one is there again.

    Example:
        >>> require_distinct("seeds", [0, 1, 1])
        Traceback (most recent call last):
        ValueError: `seeds` is expected to have each value once, but has 1 several times
    """
    for place, value in enumerate(values):
        if value in values[:place]:
            raise ValueError(
                f"`{setting}` is expected to have each value once, but has {value!r} several times"
            )


def require_non_negative(setting: str, value: float) -> float:
    """A number that is at least 0 and finite.

    Args:
        setting: The setting, as in YAML.
        value: What it gives.

    Raises:
        ValueError: If it is not.

    Example:
        >>> require_non_negative("model.lambda_distill", -1.0)
        Traceback (most recent call last):
        ValueError: `model.lambda_distill` is expected to be finite and at least 0, but got -1.0
    """
    if not is_number(value) or not math.isfinite(value) or value < 0:
        raise ValueError(f"`{setting}` is expected to be finite and at least 0, but got {value!r}")
    return value


def require_positive(setting: str, value: float) -> float:
    """A number that is above 0 and finite.

    Args:
        setting: The setting, as in YAML.
        value: What it gives.

    Raises:
        ValueError: If it is not.

    Example:
        >>> require_positive("data.partitioner.alpha", -1.0)
        Traceback (most recent call last):
        ValueError: `data.partitioner.alpha` is expected to be finite and above 0, but got -1.0
    """
    if not is_number(value) or not math.isfinite(value) or value <= 0:
        raise ValueError(f"`{setting}` is expected to be finite and above 0, but got {value!r}")
    return value


def require_fraction(setting: str, value: float) -> float:
    """A fraction that leaves something: at least 0 and below 1.

    Args:
        setting: The setting, as in YAML.
        value: What it gives.

    Raises:
        ValueError: If it is below 0, or 1 or more.

    Example:
        >>> require_fraction("data.validation_fraction", 1.0)
        Traceback (most recent call last):
        ValueError: `data.validation_fraction` is expected to be at least 0 and below 1, but got 1.0
    """
    if not is_number(value) or not 0 <= value < 1:
        raise ValueError(f"`{setting}` is expected to be at least 0 and below 1, but got {value!r}")
    return value


def require_inner_fraction(setting: str, value: float) -> float:
    """A fraction that leaves something and takes something: above 0 and below 1.

    Args:
        setting: The setting, as in YAML.
        value: What it gives.

    Raises:
        ValueError: If it is out of range.

    Example:
        >>> require_inner_fraction("model.gate.alpha", 0.0)
        Traceback (most recent call last):
        ValueError: `model.gate.alpha` is expected to be above 0 and below 1, but got 0.0
    """
    if not is_number(value) or not 0 < value < 1:
        raise ValueError(f"`{setting}` is expected to be above 0 and below 1, but got {value!r}")
    return value


def require_share(setting: str, value: float) -> float:
    """A share, of which nothing and all are two: from 0 to 1.

    Args:
        setting: The setting, as in YAML.
        value: What it gives.

    Raises:
        ValueError: If it is out of range.

    Example:
        >>> require_share("model.eta", 1.5)
        Traceback (most recent call last):
        ValueError: `model.eta` is expected to be from 0 to 1, but got 1.5
    """
    if not is_number(value) or not 0 <= value <= 1:
        raise ValueError(f"`{setting}` is expected to be from 0 to 1, but got {value!r}")
    return value


def require_path(setting: str, value: str | None) -> Path | None:
    """A path, where there is one, that file systems can take; ``~`` stands for the user's folder.

    Args:
        setting: The setting, as in YAML.
        value: What it gives.

    Raises:
        ValueError: If it is empty or has a NUL.

    Example:
        >>> require_path("trainer.default_root_dir", "runs/mine").name
        'mine'
        >>> require_path("trainer.default_root_dir", "")
        Traceback (most recent call last):
        ValueError: `trainer.default_root_dir` is expected to be a path, but got ''
    """
    if value is None:
        return None
    if not str(value).strip() or "\0" in str(value):
        raise ValueError(f"`{setting}` is expected to be a path, but got {value!r}")
    return Path(value).expanduser()


def require_folder_name(setting: str, value: str | None) -> str | None:
    """A name, where there is one, of a folder: it stays below the folder in which it is made.

    Args:
        setting: The setting, as in YAML.
        value: What it gives.

    Raises:
        ValueError: If it is empty, has a slash, a backslash or a control character, is ``.`` or ``..``, or takes
            more than 200 bytes.

    Example:
        >>> require_folder_name("trainer.name", "ddg, 3rd try")
        'ddg, 3rd try'
        >>> require_folder_name("trainer.name", "../../elsewhere")
        Traceback (most recent call last):
        ValueError: `trainer.name` is expected to be the name of a folder, without slashes, but got '../../elsewhere'
    """
    if value is None:
        return None
    name = str(value)
    encoded = name.encode(errors="surrogatepass")
    if (
        not name.strip(". ")
        or any(sign in "/\\" or ord(sign) < 32 or "\ud800" <= sign <= "\udfff" for sign in name)
        or len(encoded) > 200
    ):
        raise ValueError(
            f"`{setting}` is expected to be the name of a folder, without slashes, but got {value!r:.300}"
        )
    return name


def require_instance(setting: str, value: Kind, kind: type[Any]) -> Kind:
    """An object of a class, where there is one: the class itself is easily given instead.

    Args:
        setting: The setting, as in YAML.
        value: What it gives.
        kind: The class.

    Raises:
        TypeError: If it is something else.

    Example:
        >>> require_instance("data.num_clients", 3, int)
        3
        >>> require_instance("data.num_clients", int, int)
        Traceback (most recent call last):
        TypeError: `data.num_clients` is expected to be an instance of int, but got the class int: write int(…)
    """
    if value is None or isinstance(value, kind):
        return value
    came = f"an instance of {type(value).__name__}"
    if isinstance(value, type):
        came = f"the class {value.__name__}" + f": write {value.__name__}(…)" * issubclass(
            value, kind
        )
    raise TypeError(f"`{setting}` is expected to be an instance of {kind.__name__}, but got {came}")
