"""How each next token is chosen: the likeliest one, or one that is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

import torch

from lit_fed.limits import require_at_least, require_non_negative, require_none_or_at_least

WORDS: Final = frozenset({"do_sample", "temperature", "top_k", "top_p"})
"""What transformers calls the settings of sampling."""


@dataclass(frozen=True)
class Sampling:
    """How each next token is chosen: the likeliest one or, above temperature 0, one that is drawn.

    What a row is given depends on the seed and the row alone, not on the rows beside it, their order or the size of
    batches; so it does not on what is generated before. Rows of the same prompt have the same answer unless they are
    given keys.

    Args:
        temperature: What the logits are divided by before the softmax; 0: the likeliest token is taken.
        top_k: Tokens that may be drawn, the likeliest ones. None: all.
        top_p: Share of the probability of which tokens may be drawn, the fewest that reach it (nucleus sampling,
            Holtzman et al., "The Curious Case of Neural Text Degeneration", 2020,
            https://arxiv.org/abs/1904.09751). None: all.
        seed: Seed of the drawing.

    Raises:
        ValueError: If a number is out of range, or something is restricted that is not drawn.

    Example:
        >>> Sampling().greedy, Sampling(temperature=0.7, top_p=0.9).greedy
        (True, False)
        >>> Sampling(temperature=0.7, top_p=1.5)
        Traceback (most recent call last):
        ValueError: `sampling.top_p` is expected to be above 0 and at most 1, but got 1.5
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        require_non_negative("sampling.temperature", self.temperature)
        require_none_or_at_least("sampling.top_k", self.top_k, 1)
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(
                f"`sampling.top_p` is expected to be above 0 and at most 1, but got {self.top_p!r}"
            )
        require_at_least("sampling.seed", self.seed, 0)
        if self.greedy and (self.top_k is not None or self.top_p is not None):
            raise ValueError(
                f"`sampling.temperature` is expected to be above 0 where `sampling.top_k` or `sampling.top_p` is set, "
                f"but got {self.temperature!r}, with which the likeliest token is taken"
            )

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken."""
        return self.temperature == 0

    @property
    def told(self) -> Mapping[str, Any]:
        """What decides answers, by name."""
        return {} if self.greedy else asdict(self)

    @classmethod
    def in_words_of_transformers(cls, settings: Mapping[str, Any]) -> Self:
        """The sampling of ``do_sample``, ``temperature``, ``top_k`` and ``top_p``, as of a ``GenerationConfig``.

        The seed is drawn by torch's own generator, so that it follows ``torch.manual_seed`` as in transformers.

        Args:
            settings: These words; where ``do_sample`` is not there or false, the likeliest token is taken.
        """
        if not settings.get("do_sample"):
            return cls()
        temperature = settings.get("temperature")
        return cls(
            1.0 if temperature is None else temperature,
            settings.get("top_k") or None,  # there 0 is none
            settings.get("top_p"),
            int(torch.randint(2**62, ())),
        )
