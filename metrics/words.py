"""Words of a text in any script, which the metrics of texts count."""

from __future__ import annotations

import re
from typing import Final

_CJK: Final = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
_LETTER: Final = rf"[^\W_{_CJK}]"
_WORD: Final = re.compile(rf"[{_CJK}]|\d+(?:[.,]\d+)+|{_LETTER}+(?:['’]{_LETTER}+)*")


def words(text: str) -> list[str]:
    """The words of a text in lower case; punctuation is left out.

    Letters and digits that stand together are a word, with apostrophes within it; so is a number with its points
    and commas, and each Chinese character or Japanese kana, since these scripts put no blanks between words.

    Args:
        text: The text.

    Example:
        >>> words("It’s 1,234.5 km to 北京!")
        ["it's", '1,234.5', 'km', 'to', '北', '京']
    """
    return [word.replace("’", "'") for word in _WORD.findall(text.lower())]


def ngrams(items: list[str], n: int) -> list[tuple[str, ...]]:
    """All runs of n words, in order; none where there are fewer words.

    Args:
        items: The words.
        n: Length of a run, at least 1.

    Example:
        >>> ngrams(["a", "b", "c"], 2)
        [('a', 'b'), ('b', 'c')]
    """
    return list(zip(*(items[start:] for start in range(n)), strict=False))


def has_phrase(text: str, phrase: str) -> bool:
    """Whether a text has a phrase as whole words, whatever the case and the blanks between words.

    Chinese characters and kana may stand beside it, letters and digits may not.

    Args:
        text: The text.
        phrase: What is looked for; not empty.

    Example:
        >>> has_phrase("I saw  new york.", "New York"), has_phrase("Romeo", "Rome"), has_phrase("在北京市", "北京")
        (True, False, True)
    """
    before, after = (
        rf"(?<!{_LETTER})" if re.match(_LETTER, phrase[0]) else "",
        rf"(?!{_LETTER})" if re.match(_LETTER, phrase[-1]) else "",
    )
    pattern = r"\s+".join(map(re.escape, phrase.split()))
    return re.search(f"{before}{pattern}{after}", text, re.IGNORECASE) is not None
