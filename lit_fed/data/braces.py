"""Texts with columns in braces, which a row's values take the place of."""

from __future__ import annotations

from string import Formatter
from typing import Final

PLAIN: Final = "plain columns such as {text} in braces"


def columns_in(text: str, setting: str, asks: str = PLAIN) -> tuple[list[tuple[str, str]], str]:
    r"""Take a text with columns in braces apart.

    Args:
        text: The text; ``{{`` and ``}}`` are braces themselves.
        setting: The setting that gives it, for messages.
        asks: What it is expected to have, for messages.

    Returns:
        Pairs of literal text and the column after it, in order, and the text after the last column.

    Raises:
        ValueError: If it is not well-formed, or has something else than plain columns, such as ``{text!r}``.

    Example:
        >>> columns_in("Q: {question}\nA: {answer}.", "template")
        ([('Q: ', 'question'), ('\nA: ', 'answer')], '.')
    """
    try:
        parsed = list(Formatter().parse(text))
    except ValueError as error:
        raise ValueError(f"`{setting}` is not well-formed: {error}, in {text!r}") from None
    found: list[tuple[str, str]] = []
    literals = ""
    for literal, name, spec, conversion in parsed:
        literals += literal
        if name is None:
            continue
        if not name or spec or conversion:
            raise ValueError(f"`{setting}` is expected to have {asks}, but got {text!r}")
        found.append((literals, name))
        literals = ""
    return found, literals
