"""Prompt choice: which public prompts clients answer when the next consensus is due."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from lit_fed.limits import require_at_least


class PromptChoice(ABC):
    """Chooses the prompts of a round; those that are left out keep their labels.

    Attributes:
        leaves_out: Whether it may leave some out, so that the server keeps all answers.
        by_confidence: Whether it goes by how sure the labels are.
    """

    leaves_out: ClassVar[bool] = True
    by_confidence: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, count: int, confidence: Tensor | None, seed: int) -> Tensor:
        """The prompts to be answered.

        Args:
            count: U, the prompts there are.
            confidence: Of their labels, [U], in [0, 1]; 0 where the last consensus abstained. None: there was none.
            seed: Of ties.

        Returns:
            [U], bool.
        """


class EveryPrompt(PromptChoice):
    """All of them.

    Example:
        >>> EveryPrompt()(2, None, seed=0)
        tensor([True, True])
    """

    leaves_out: ClassVar[bool] = False

    def __call__(self, count: int, confidence: Tensor | None, seed: int) -> Tensor:
        """All true."""
        return torch.ones(count, dtype=torch.bool)


class MostDisagreed(PromptChoice):
    """Those on which clients disagreed most when they were last asked; all, before the first consensus.

    Where a consensus abstained the confidence is 0, and such prompts come first; among equals chance decides.

    Args:
        budget: How many prompts at most.

    Raises:
        ValueError: If it is below 1, or no whole number.

    Example:
        >>> MostDisagreed(budget=2)(4, torch.tensor([1.0, 0.0, 0.6, 0.9]), seed=0)
        tensor([False,  True,  True, False])
    """

    by_confidence: ClassVar[bool] = True

    def __init__(self, budget: int) -> None:
        self.budget = require_at_least("model.prompt_choice.budget", budget, 1)

    def __call__(self, count: int, confidence: Tensor | None, seed: int) -> Tensor:
        """The least sure."""
        if confidence is None or self.budget >= count:
            return torch.ones(count, dtype=torch.bool)
        drawn = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
        order = drawn[confidence[drawn].argsort(stable=True)]
        chosen = torch.zeros(count, dtype=torch.bool)
        chosen[order[: self.budget]] = True
        return chosen
