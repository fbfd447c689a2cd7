"""Any callable that aggregates LoRA updates, put to the test."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

from torch import Tensor

from lit_fed.conformance.lora_case import LoRACase
from lit_fed.conformance.lora_round import LoRAResult, LoRARound

Rule = Callable[[LoRARound], Mapping[str, Tensor]]


class RuleSubject:
    """A rule that is a function of a :class:`~lit_fed.conformance.LoRARound`.

    Args:
        rule: The function. It may write into what it is given.

    Example:
        >>> from lit_fed.conformance import judge, lora_cases
        >>> def first(round):
        ...     return {name: round.weights[0] * tensor for name, tensor in round.updates[0].items()}
        >>> judge(lora_cases()[1], RuleSubject(first)).holds  # equal clients
        False
    """

    def __init__(self, rule: Rule) -> None:
        self.rule = rule

    def run(self, case: LoRACase) -> tuple[LoRARound, LoRAResult, LoRAResult]:
        """Call the rule; see :class:`~lit_fed.conformance.Subject`."""
        known = case.round()
        backwards = known.reordered(range(len(case.rows) - 1, -1, -1))
        found, reversed_order = (
            known.result(self.rule(copy.deepcopy(given))) for given in (known, backwards)
        )
        return known, found, reversed_order
