"""A sentence as a trigger."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lit_fed.attacks.triggers.trigger import Trigger, at_a_random_place


class SentenceTrigger(Trigger):
    """A sentence at a random place.

    Dai, Chen and Li, "A Backdoor Attack Against LSTM-Based Text Classification Systems", 2019, §3,
    https://arxiv.org/abs/1905.12457. The default is the sentence of OpenBackdoor's AddSent. One that is adapted to a
    defence is chosen by a :class:`~lit_fed.attacks.triggers.TargetLikeTrigger`.

    Args:
        sentence: The sentence.

    Raises:
        ValueError: If it is blank.

    Example:
        >>> SentenceTrigger("I saw it.").insert("It was a good film.", np.random.default_rng(3))
        'It was a good I saw it. film.'
    """

    def __init__(self, sentence: str = "I watch this 3D movie") -> None:
        if not sentence.strip():
            raise ValueError("`SentenceTrigger.sentence` is expected to have words, but is blank")
        self.sentence = sentence.strip()

    @property
    def texts(self) -> Sequence[str]:
        """The sentence."""
        return (self.sentence,)

    def insert(self, text: str, draw: np.random.Generator) -> str:
        """Insert it between two words, in front or at the end."""
        return at_a_random_place(text, self.sentence, draw)

    def is_in(self, text: str) -> bool:
        """Whether the sentence is a part of the text."""
        return self.sentence in text
