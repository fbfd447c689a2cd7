"""Whether Chinese text is in simplified or traditional characters."""

from __future__ import annotations

from functools import cache
from typing import Literal

Script = Literal["simplified", "traditional", "either", "mixed"]


def chinese_script(text: str) -> Script:
    """The script of a text, by the character sets that were made for one script each.

    A character that GB 2312 (1980) has and Big5 (1984) has not is simplified; the other way round
    it is traditional; all others are of both.

    Args:
        text: Any text; what is not Chinese does not count.

    Returns:
        ``either`` where no character tells, ``mixed`` where there are some of each script.

    >>> [chinese_script(text) for text in ("你说什么", "你說什麼", "你好", "什麼时候")]
    ['simplified', 'traditional', 'either', 'mixed']
    """
    scripts = {_script(character) for character in text} - {"either"}
    if len(scripts) == 2:
        return "mixed"
    return scripts.pop() if scripts else "either"


@cache
def _script(character: str) -> Script:
    if not "\u4e00" <= character <= "\u9fff":
        return "either"
    simplified, traditional = _has("gb2312", character), _has("big5", character)
    if simplified == traditional:
        return "either"
    return "simplified" if simplified else "traditional"


def _has(charset: str, character: str) -> bool:
    try:
        character.encode(charset)
    except UnicodeEncodeError:
        return False
    return True
