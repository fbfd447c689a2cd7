"""Texts that are given to metrics, refused in one clear line where they are none or do not fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def require_texts(name: str, value: Any) -> list[str]:
    """Gives texts as a list.

    Args:
        name: The argument's name, for the message.
        value: A sequence of texts, which may be empty.

    Raises:
        TypeError: If it is one text, or has something else than texts.

    Example:
        >>> require_texts("preds", ("a", "b"))
        ['a', 'b']
    """
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError(
            f"`{name}` is expected to be a sequence of texts, but got {type(value).__name__}"
        )
    for place, text in enumerate(value):
        if not isinstance(text, str):
            raise TypeError(
                f"`{name}` is expected to have texts only, but has {type(text).__name__} {text!r:.60} in place {place}"
            )
    return list(value)


def require_pairs(
    preds: Any, other: Any, name: str, setting: str = ""
) -> tuple[list[str], list[str]]:
    """Gives predictions and the texts that they are compared with as two lists of one length.

    Args:
        preds: The predictions.
        other: The texts beside them; None where the caller has none.
        name: The name of ``other``, for the message.
        setting: What asks for ``other``, for the message.

    Raises:
        TypeError: If one of them is no sequence of texts.
        ValueError: If ``other`` is not there, or they differ in length.

    Example:
        >>> require_pairs(["a"], ["b", "c"], "target")
        Traceback (most recent call last):
        ValueError: `target` is expected to have a text for each of the 1 of `preds`, but has 2
    """
    texts = require_texts("preds", preds)
    if other is None:
        asked = f" with {setting}" if setting else ""
        raise ValueError(f"`{name}` is expected{asked}, but was not given")
    beside = require_texts(name, other)
    require_same_length(len(texts), len(beside), name)
    return texts, beside


def require_same_length(preds: int, other: int, name: str, what: str = "a text") -> None:
    """Refuses what does not have one entry for each prediction.

    Args:
        preds: How many predictions there are.
        other: How many entries there are.
        name: The name of what has the entries.
        what: What an entry is.

    Raises:
        ValueError: If the numbers differ.
    """
    if preds != other:
        raise ValueError(
            f"`{name}` is expected to have {what} for each of the {preds} of `preds`, but has {other}"
        )
