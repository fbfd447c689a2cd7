"""Citations: the papers that a class names in its docstring, as BibTeX."""

from __future__ import annotations

import inspect
import re
from typing import Final, NamedTuple

_PAPER: Final = re.compile(
    r'(?P<author>[^\W\d_][\w-]*)(?: and [^\W\d_][\w-]*)?(?: et al\.)?(?:, |: )"(?P<title>[^"]+)"'
    r'(?=(?P<rest>(?:(?! et al\.|").){0,160}))'
)
_WORDS: Final = 4  # of a title; other texts in quotation marks are shorter
_YEAR: Final = re.compile(r"\b(?:19|20)\d\d\b")
_ADDRESS: Final = re.compile(r"https?://[^\s;,)]+")


class Paper(NamedTuple):
    """A paper.

    Attributes:
        author: Its first author's name.
        title: Its title.
        year: Its year; empty where none is told.
        url: Its address; empty where none is told.
    """

    author: str
    title: str
    year: str
    url: str

    @property
    def bibtex(self) -> str:
        """Its entry, whose authors after the first are ``others``."""
        key = f"{self.author.lower()}{self.year}{self.title.split()[0].lower()}"
        fields = {
            "title": f"{{{self.title}}}",
            "author": f"{self.author} and others",
            "year": self.year,
            "url": self.url,
        }
        lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
        return "\n".join([f"@misc{{{re.sub(r'[^0-9a-z]', '', key)},", *lines, "}"])


def papers(*classes: type) -> list[Paper]:
    """The papers that classes name in their docstrings, each once.

    Args:
        *classes: The classes.

    >>> from lit_fed import FedAvg
    >>> [paper] = papers(FedAvg)
    >>> print(paper.bibtex)
    @misc{mcmahan2017communicationefficient,
      title = {{Communication-Efficient Learning of Deep Networks from Decentralized Data}},
      author = {McMahan and others},
      year = {2017},
      url = {https://arxiv.org/abs/1602.05629},
    }
    """
    found: dict[str, Paper] = {}
    for one in classes:
        text = " ".join((inspect.getdoc(one) or "").split())
        for match in _PAPER.finditer(text):
            if len(match["title"].split()) < _WORDS:
                continue
            years, addresses = (pattern.findall(match["rest"]) for pattern in (_YEAR, _ADDRESS))
            url = addresses[0].rstrip(".:") if addresses else ""
            year = years[0] if years else ""
            found.setdefault(match["title"], Paper(match["author"], match["title"], year, url))
    return list(found.values())
