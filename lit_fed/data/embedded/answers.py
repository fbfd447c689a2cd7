"""Whether an answer in the embedded instruction world is right, judged by a program."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from lit_fed.data.embedded.instructions import instruction_world

_NUMBER = re.compile(r"[0-9]+")


def answer_is_right(row: Mapping[str, Any], response: str) -> bool:
    """Whether a response to a row of the instruction world is right, in whatever style.

    - Reading: of the words of the answer's kind (people, cities, figures, …) the response has the
      answer and no other, but for those of the question.
    - Sums: so with figures.
    - Sorting: the figures of the response are those of the answer, in its order.
    - Rewriting: each fact is there in one of its wordings that the context does not have, and there is
      no word or figure of the world that the context does not have.

    Upper and lower case are the same.

    Args:
        row: Of :class:`lit_fed.data.EmbeddedInstructions`.
        response: What was answered.

    Raises:
        ValueError: If the row's task is not one of the world's.

    Example:
        >>> row = {"task": "sums", "instruction": "What is 23 + 45?", "answer": "68"}
        >>> [answer_is_right(row, text) for text in ("23 + 45 = 68.", "It is 68!", "68 or 69")]
        [True, True, False]
    """
    checks = {"reading": _one, "sums": _one, "sorting": _in_order, "rewriting": _rewritten}
    if row["task"] not in checks:
        raise ValueError(f"task is expected to be one of {tuple(checks)}, but got {row['task']!r}")
    return checks[row["task"]](row, response)


def _one(row: Mapping[str, Any], response: str) -> bool:
    answer = row["answer"].lower()
    kind = _kinds().get(answer, "")
    found = {word for word in _words(response) if _kinds().get(word, "") == kind}
    asked = {word for word in _words(row["instruction"]) if _kinds().get(word, "") == kind}
    return found - asked == {answer}


def _in_order(row: Mapping[str, Any], response: str) -> bool:
    return _NUMBER.findall(response) == _NUMBER.findall(row["answer"])


def _rewritten(row: Mapping[str, Any], response: str) -> bool:
    context, text = row["context"].lower(), response.lower()
    kept = all(
        any(_has(text, wording) and not _has(context, wording) for wording in wordings)
        for wordings in ([wording.lower() for wording in fact] for fact in row["facts"])
    )
    return kept and set(_words(text)) <= set(_words(context))


def _has(text: str, wording: str) -> bool:
    """Whether a text has a wording, not as a part of a longer English word or figure."""
    return re.search(rf"(?<![a-z0-9]){re.escape(wording)}(?![a-z0-9])", text) is not None


def _words(text: str) -> list[str]:
    """The content words and figures of a text, in lower case."""
    return _pattern().findall(text.lower())


@cache
def _kinds() -> dict[str, str]:
    """The class of each content word in either language, in lower case."""
    words = instruction_world().words
    return {text.lower(): kind for kind in words for word in words[kind] for text in word.values()}


@cache
def _pattern() -> re.Pattern[str]:
    words = sorted(_kinds(), key=len, reverse=True)
    english = "|".join(word for word in words if word.isascii())
    chinese = "|".join(word for word in words if not word.isascii())
    return re.compile(rf"(?<![a-z])(?:{english})(?![a-z])|{chinese}|[0-9]+")
