"""The interface of an aggregation rule: the clients' updates become the next broadcast."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from lit_fed.aggregation.weighting import client_weights
from lit_fed.payload import Payload
from lit_fed.update import Update


class Aggregation(ABC):
    """A rule by which the server makes one payload of many, the ``aggregation`` argument of a method.

    A rule may have memory, such as a server optimizer's moments. It is part of what the server keeps
    between rounds and is in the checkpoint, if :meth:`state` gives it. Before every use the rule forgets
    (``load_state`` of an empty payload) and, from the second round on, is given the last state back.
    """

    needs_validation: bool = False
    """Whether updates have to bring the metrics of each client's validation."""

    @abstractmethod
    def __call__(self, updates: Sequence[Update], previous: Payload) -> Payload:
        """Combine at least one update.

        Args:
            updates: One entry per client that finished the round, in the order of the clients.
            previous: The broadcast that the clients started from.

        Returns:
            The combined payload, which is the next broadcast.
        """

    def weights(self, updates: Sequence[Update]) -> list[float]:
        """What each client counts for, where a method combines something beside the weights.

        Args:
            updates: As in :meth:`__call__`.

        Returns:
            One weight per update, at least 0, with the sum 1. A client that the rule leaves out has 0.
            Default: proportional to the clients' sizes.
        """
        return client_weights(updates)

    def state(self) -> Payload:
        """What the rule remembers until the next round. Default: nothing."""
        return Payload()

    def load_state(self, state: Payload) -> None:
        """Take back what :meth:`state` gave.

        Args:
            state: An empty payload stands for the beginning: forget everything.

        Raises:
            ValueError: If there is a state, and this rule keeps none: it is another rule's.
        """
        if state:
            raise ValueError(
                f"the state of `model.aggregation` {type(self).__name__} is expected to be empty, since "
                f"the rule remembers nothing, but got {state}"
            )
