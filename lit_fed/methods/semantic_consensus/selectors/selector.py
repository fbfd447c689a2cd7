"""Selector: what makes one label a prompt of the clients' answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Self

from lit_fed.backbones import Backbone
from lit_fed.methods.semantic_consensus.ballots import Ballots
from lit_fed.methods.semantic_consensus.consensus import Consensus

if TYPE_CHECKING:
    from lit_fed.methods.semantic_consensus.randomized_response import RandomizedResponse


class Selector(ABC):
    """Makes the clients' answers to each prompt one label with a confidence, or abstains.

    Attributes:
        knows_confidence: Whether its confidence says how sure it is.
        response: The randomised response that it takes the answers to come from. None: it counts what was sent.
    """

    knows_confidence: ClassVar[bool] = True
    response: RandomizedResponse | None = None

    # Not abstract: most selectors need no backbone.
    def setup(self, backbones: Sequence[Backbone]) -> None:  # noqa: B027
        """Receive the run's backbones, once, before the first consensus. Default: nothing.

        Args:
            backbones: Each of the run's different backbones.

        Raises:
            ValueError: If they do not fit the selector's encoder.
        """

    def __deepcopy__(self, memo: object) -> Self:
        """Itself: it keeps nothing of a client, and an encoder may be large."""
        return self

    @abstractmethod
    def __call__(self, ballots: Ballots, seed: int) -> Consensus:
        """The consensus on all prompts.

        Args:
            ballots: The clients' answers and the weights of their votes.
            seed: Of the round's randomness, for a selector that has some.
        """
