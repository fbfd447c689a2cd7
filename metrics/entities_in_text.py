"""Names in a text, found by their capitals."""

from __future__ import annotations

import re
from typing import Final

_TOKEN: Final = re.compile(r"[^\W_]+(?:[-'’&][^\W_]+)*")
_SENTENCE_ENDS: Final = re.compile(r"[.!?…:][\"”’')\]]*\s|[。！？：\n\"“]|^\s*[-*•]\s")
_AFTER_A_LABEL: Final = re.compile(r"\s*[:=]")
_PRONOUNS: Final = frozenset({"I", "I'm", "I'd", "I'll", "I've"})


def entities_in(text: str) -> list[str]:
    """The names in a text by a simple rule: runs of words that have a capital and do not begin a sentence.

    A word at the beginning of a sentence, a line, a quotation or after a colon counts only if it has another
    capital after its first letter (``NASA``) and is no label (``ANSWER = 4``, ``NOTE: …``). A run ends at any sign
    between words but a blank. ``I`` is no name; a possessive ``'s`` is taken off. A heading in which every word has a
    capital is taken for a name, and scripts without capitals, such as Chinese, have none: there, a recogniser of names
    is needed.

    Args:
        text: The text.

    Returns:
        The names, each once, in order.

    Example:
        >>> entities_in("Yesterday Marie Curie's team met NASA in New York. Later they left.")
        ['Marie Curie', 'NASA', 'New York']
    """
    names: dict[str, None] = {}
    run: list[str] = []
    end = 0
    for match in _TOKEN.finditer(text):
        gap, token = text[end : match.start()], match[0].replace("’", "'")
        end = match.end()
        begins = (
            match.start() == 0
            or not text[: match.start()].strip(" \"“'(")
            or bool(_SENTENCE_ENDS.search(gap))
        )
        if run and (gap.strip(" ") or begins):
            _close(run, names)
        capital = token[0].isupper() and not begins
        inner = any(letter.isupper() for letter in token[1:])
        label = begins and token.isupper() and _AFTER_A_LABEL.match(text, end)
        if token in _PRONOUNS or label or not (capital or inner):
            _close(run, names)
            continue
        run.append(token.removesuffix("'s"))
        if token.endswith("'s"):
            _close(run, names)
    _close(run, names)
    return list(names)


def _close(run: list[str], names: dict[str, None]) -> None:
    if run:
        names[" ".join(run)] = None
        run.clear()
