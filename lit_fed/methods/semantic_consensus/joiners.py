"""Joiners and selectors of emoji: characters that nobody sees, and that change those beside them, where they belong."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

_NON_JOINER: Final = "\u200c"
_JOINER: Final = "\u200d"
_SELECTORS: Final = "\ufe0e\ufe0f"
_ANY: Final = re.compile(f"[{_NON_JOINER}{_JOINER}{_SELECTORS}]")
# Unicode's property Emoji; beyond the first plane the blocks that have it.
_EMOJI: Final = re.compile(
    "[\u00a9\u00ae\u203c\u2049\u2122\u2139\u2194-\u2199\u21a9\u21aa\u231a\u231b\u2328\u23cf\u23e9-\u23f3\u23f8-\u23fa"
    "\u24c2\u25aa\u25ab\u25b6\u25c0\u25fb-\u25fe\u2600-\u2604\u260e\u2611\u2614\u2615\u2618\u261d\u2620\u2622\u2623"
    "\u2626\u262a\u262e\u262f\u2638-\u263a\u2640\u2642\u2648-\u2653\u265f\u2660\u2663\u2665\u2666\u2668\u267b\u267e"
    "\u267f\u2692-\u2697\u2699\u269b\u269c\u26a0\u26a1\u26a7\u26aa\u26ab\u26b0\u26b1\u26bd\u26be\u26c4\u26c5\u26c8"
    "\u26ce\u26cf\u26d1\u26d3\u26d4\u26e9\u26ea\u26f0-\u26f5\u26f7-\u26fa\u26fd\u2702\u2705\u2708-\u270d\u270f\u2712"
    "\u2714\u2716\u271d\u2721\u2728\u2733\u2734\u2744\u2747\u274c\u274e\u2753-\u2755\u2757\u2763\u2764\u2795-\u2797"
    "\u27a1\u27b0\u27bf\u2934\u2935\u2b05-\u2b07\u2b1b\u2b1c\u2b50\u2b55\u3030\u303d\u3297\u3299\U0001f000-\U0001faff]"
)
_KEYCAP: Final = "\u20e3"
_KEYS: Final = frozenset("0123456789#*")
# Arabic and its relatives, Mongolian, and the scripts of India and its neighbours.
_JOINING: Final = re.compile(
    "[\u0600-\u0dff\u1000-\u109f\u1780-\u18af\u1b00-\u1bff\ua800-\ua9ff\uaa60-\uaaff\uabc0-\uabff\U00010a00-\U00011fff]"
)


def idle_places(text: str) -> frozenset[int]:
    r"""Where joiners and selectors of emoji stand without a meaning, so that they can but hide something.

    A selector (U+FE0E, U+FE0F) means something right behind an emoji, or between a digit and a keycap; a joiner
    (U+200D) between two emoji, or behind a letter or mark of a script that joins; a non-joiner (U+200C) between two of
    these. Of several one behind the other the first one does that can.

    Args:
        text: The text.

    Example:
        >>> sorted(idle_places("Paris\ufe0f \u2764\ufe0f\ufe0f"))
        [5, 9]
    """
    if not _ANY.search(text):
        return frozenset()
    following = [""]
    for one in reversed(text[1:]):
        following.append(following[-1] if _ANY.match(one) else one)
    idle, kept = set(), list[str]()
    for place, (one, after) in enumerate(zip(text, reversed(following), strict=True)):
        if _ANY.match(one) and not _means_something(one, kept, after):
            idle.add(place)
        else:
            kept.append(one)
    return frozenset(idle)


def without_idle_ones(text: str) -> str:
    r"""A text without joiners and selectors that mean nothing.

    Args:
        text: The text.

    Example:
        >>> without_idle_ones("Pa\u200dris\ufe0f")
        'Paris'
    """
    idle = idle_places(text)
    return "".join(one for place, one in enumerate(text) if place not in idle) if idle else text


def _means_something(one: str, before: Sequence[str], after: str) -> bool:
    """Whether a joiner or selector does, by what is kept before it, and what is seen first after it."""
    last = before[-1] if before else ""
    if one in _SELECTORS:
        return bool(_EMOJI.match(last)) or (last in _KEYS and after == _KEYCAP)
    if one == _NON_JOINER:
        return _joins(last) and _joins(after)
    pictured = before[-2] if len(before) > 1 and last in _SELECTORS else last
    return _joins(last) or bool(_EMOJI.match(pictured) and _EMOJI.match(after))


def _joins(one: str) -> bool:
    """Whether it is a letter or mark of a script in which these join, and no other joiner."""
    return bool(_JOINING.match(one)) and unicodedata.category(one)[0] in "LM"
