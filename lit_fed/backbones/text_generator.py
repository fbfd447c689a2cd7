"""Text generator: something that answers prompts, whether or not it is a model that can be trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence


class TextGenerator(ABC):
    """Something that answers prompts by texts.

    A :class:`~lit_fed.backbones.CausalLM` is one. So is whatever has no weights to be averaged: a rule or
    a program (:class:`~lit_fed.backbones.CallableGenerator`), a service behind an address
    (:class:`~lit_fed.backbones.HTTPGenerator`). A method whose clients only answer needs no more of them.

    >>> class Echo(TextGenerator):
    ...     def generate(self, prompts: Sequence[str]) -> list[str]:
    ...         return [prompt.upper() for prompt in prompts]
    >>> Echo().generate(["good", "bad"])
    ['GOOD', 'BAD']
    """

    @abstractmethod
    def generate(self, prompts: Sequence[str]) -> Sequence[str | None]:
        """Answer prompts.

        Args:
            prompts: The texts, of any number and length.

        Returns:
            One answer for each prompt, in order, without the prompt; None where it has none, which a service may fail
            to give and a model that generates never does.
        """

    @property
    def failures(self) -> Counter[str]:
        """How many prompts of the last call have no answer, by what went wrong. Default: none."""
        return Counter()

    def check(self) -> None:  # noqa: B027
        """Say before training what is wrong with its settings, as by trying it. Default: nothing.

        Afterwards what it cannot answer costs its answers alone.

        Raises:
            UnreachableError: If it does not answer now, as where a service is not there: a run that goes on from a
                checkpoint is warned of that alone.
            ConfigurationError: If no prompt could be answered by its settings.
        """
