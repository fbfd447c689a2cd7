"""The interface of a trigger."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lit_fed.data import FederatedDataModule
    from lit_fed.module import FederatedModule


class Trigger(ABC):
    """What an attacker writes into a text: before it is tokenised, and before it is cut to what the model reads.

    A text that is cut afterwards may lose it, as it would in the field.
    """

    @property
    @abstractmethod
    def texts(self) -> Sequence[str]:
        """What it may add: whether a model can read it is judged by the text that has most tokens."""

    # Not abstract: most triggers are what they were built.
    def attach(  # noqa: B027
        self, module: FederatedModule, data: FederatedDataModule, target: int | None
    ) -> None:
        """Make ready before anything trains, for a trigger that is chosen by the data. Default: nothing.

        Args:
            module: The method.
            data: The clients' data.
            target: The number of the label that the attacker wants. None: it is no label.

        Raises:
            ValueError: If there is nothing to choose by.
        """

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
