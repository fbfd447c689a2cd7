"""Texts of others as Markdown that shows them and does nothing else."""

from __future__ import annotations

import re
from typing import Final
from unicodedata import category

from lit_fed.methods.semantic_consensus.bounding import UNSEEN
from lit_fed.methods.semantic_consensus.joiners import idle_places

_MOST: Final = 10_000
_UNSEEN: Final = re.compile(f"[{UNSEEN}]")
_MARKUP: Final = str.maketrans({sign: f"&#{ord(sign)};" for sign in r"\`*_{}[]()<>&|!#~" + "\"'"})


def visible(text: str, keep: str = "") -> str:
    r"""A text of which every character is seen: those that are not are written as Python escapes them.

    That goes for control characters, such as those of terminals, for marks that turn the direction of the text or have
    no width, for fillers and selectors of variants, which can carry a text of their own, and for halves of surrogate
    pairs, which no file could hold. Blanks of all widths stay, and so does a selector right behind an emoji.

    Args:
        text: The text.
        keep: Characters that stay as they are all the same.

    Example:
        >>> print(visible("a\x1b[31m\u202eb\ud800\n", keep="\n"), end="")
        a\x1b[31m\u202eb\ud800
    """
    idle = idle_places(text)
    if idle or not text.isprintable():
        text = "".join(
            one
            if place not in idle and (one.isprintable() or one in keep or category(one) == "Zs")
            else one.encode("unicode_escape").decode("ascii")
            for place, one in enumerate(text)
        )
    # some of what is not seen is printable, as letters and marks
    return _UNSEEN.sub(lambda found: ascii(found[0])[1:-1], text)


def shortened(text: str, most: int = _MOST) -> str:
    """The beginning of a text, and how much more there was.

    Args:
        text: The text.
        most: Characters that are left.

    Example:
        >>> shortened("abcdef", 4)
        'abcd … and 2 more characters'
    """
    left = len(text) - most
    return text if left <= 0 else f"{text[:most]} … and {left:,} more characters"


def table_cell(text: str, most: int = _MOST) -> str:
    r"""A text as a cell of a Markdown table: on one line, without markup, links, images, HTML or columns of its own.

    Args:
        text: The text, of whatever client.
        most: Characters of it that are shown.

    Example:
        >>> table_cell("a | b\n<img src=x>")
        'a &#124; b&#92;n&#60;img src=x&#62;'
    """
    return visible(shortened(text, most)).translate(_MARKUP)


def code_block(text: str, most: int = _MOST) -> str:
    r"""A text as an indented block of code of Markdown, with the lines that it has.

    Args:
        text: The text.
        most: Characters of it that are shown.

    Example:
        >>> code_block("# one\n![two](x)\r<b>")
        '    # one\n    ![two](x)\\r<b>'
    """
    # carriage returns are line ends to Markdown as well, which would end the block
    lines = visible(shortened(text, most), keep="\n\t").split("\n")
    return "\n".join(f"    {line}" for line in lines)
