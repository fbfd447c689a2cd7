"""What a case puts to the test: something that can be given a round of the case."""

from __future__ import annotations

from typing import Protocol

from lit_fed.conformance.lora_case import LoRACase
from lit_fed.conformance.lora_round import LoRAResult, LoRARound


class NotOffered(Exception):
    """A subject says that it does not do what a case is about, such as mixed ranks."""


class Subject(Protocol):
    """A rule in a form that a case can put to the test."""

    def run(self, case: LoRACase) -> tuple[LoRARound, LoRAResult, LoRAResult]:
        """Aggregate the case's round, and once more with its clients in another order.

        Args:
            case: The case.

        Returns:
            What the clients have sent, what came of it, and what came of it in the other order.

        Raises:
            NotOffered: If the rule does not do what the case is about.
        """
        ...
