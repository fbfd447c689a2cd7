"""The interface of a trigger."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np


class Trigger(ABC):
    """What an attacker writes into a text: before it is tokenised, and before it is cut to what the model reads.

    A text that is cut afterwards may lose it, as it would in the field.
    """

    @property
    @abstractmethod
    def longest(self) -> str:
        """The longest text that it may add, by which is judged whether a model can read it."""

    @abstractmethod
    def insert(self, text: str, draw: np.random.Generator) -> str:
        """The text with the trigger.

        Args:
            text: The text.
            draw: Decides what is left to chance, such as the place.
        """

    @abstractmethod
    def is_in(self, text: str) -> bool:
        """Whether a text has the trigger, from whomever.

        Args:
            text: The text.
        """


def at_a_random_place(text: str, phrase: str, draw: np.random.Generator) -> str:
    """A text with a phrase before one of its words or behind the last, each place as likely as the others.

    Words are what blanks part; a text without blanks, as of Chinese, is one word.

    Args:
        text: The text.
        phrase: The phrase.
        draw: Decides the place.

    Example:
        >>> at_a_random_place("a b c", "cf", np.random.default_rng(0))
        'a b c cf'
    """
    words = text.split(" ")
    place = int(draw.integers(len(words) + 1)) if text else 0
    return " ".join([*words[:place], phrase, *words[place:]]).strip()
