"""Text generator: something that answers prompts, whether or not it is a model that can be trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence


class TextGenerator(ABC):
    """Something that answers prompts by texts.

    A :class:`~lit_fed.backbones.CausalLM` is one. So is whatever has no weights to be averaged: a rule,
    a program, a service behind an address. A method whose clients only answer needs no more of them.

    >>> class Echo(TextGenerator):
    ...     def generate(self, prompts: Sequence[str]) -> list[str]:
    ...         return [prompt.upper() for prompt in prompts]
    >>> Echo().generate(["good", "bad"])
    ['GOOD', 'BAD']
    """

    @abstractmethod
    def generate(self, prompts: Sequence[str]) -> list[str]:
        """Answer prompts.

        Args:
            prompts: The texts, of any number and length.

        Returns:
            One answer for each prompt, in order, without the prompt.
        """
