"""What a model has made of a prompt."""

from __future__ import annotations

from typing import NamedTuple


class Continuation(NamedTuple):
    """A continuation of a prompt.

    Attributes:
        text: Its text, without what ends it.
        tokens: How many tokens have been generated for it, the one that ends it among them.
        ended: Whether it has come to an end, by a token that ends a text or a stop string; else it is broken off.
    """

    text: str
    tokens: int
    ended: bool
