"""Text pairs: single texts or pairs of texts, in the form in which a tokenizer takes them."""

from __future__ import annotations

from collections.abc import Iterable


def split_pairs(texts: Iterable[str | tuple[str, str]]) -> tuple[list[str], list[str] | None]:
    """The texts, or the first ones of pairs, and the second ones; None where they are no pairs.

    Args:
        texts: Texts, or pairs of texts.

    Raises:
        ValueError: If one is no text and no pair, some are pairs and others not, or one has a lone surrogate, half of
            a sign, which no tokenizer can read.

    Example:
        >>> split_pairs(["a film"]), split_pairs([("a film", "ein Film")])
        ((['a film'], None), (['a film'], ['ein Film']))
        >>> split_pairs(["a film", ("a film", "ein Film")])
        Traceback (most recent call last):
        ValueError: `texts` are expected to be all texts or all pairs of texts, but number 1, counted from 0, is a pair
    """
    found: list[tuple[str, ...]] = []
    for number, one in enumerate(texts):
        parts = (one,) if isinstance(one, str) else one
        what = f"number {number}, counted from 0,"
        if not isinstance(parts, (tuple, list)) or not all(isinstance(t, str) for t in parts):
            raise ValueError(
                f"`texts` are expected to be texts or pairs of texts, but {what} is {one!r:.60}"
            )
        if len(parts) > 2 or not parts:
            raise ValueError(
                f"`texts` are expected to be texts or pairs of texts, but {what} has {len(parts)} texts"
            )
        if found and len(found[0]) != len(parts):
            kind = "a pair" if len(parts) == 2 else "a text"
            raise ValueError(
                f"`texts` are expected to be all texts or all pairs of texts, but {what} is {kind}"
            )
        if any("\ud800" <= sign <= "\udfff" for text in parts for sign in text):
            raise ValueError(
                f"`texts` are expected to be writable in UTF-8, but {what} has a lone surrogate, half of a sign"
            )
        found.append(tuple(parts))
    if found and len(found[0]) == 2:
        return [first for first, _ in found], [second for _, second in found]
    return [text for (text,) in found], None
