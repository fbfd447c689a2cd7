"""The drawing of tokens by seeds of the rows' own, so that a row's answer does not depend on its batch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from lit_fed.backbones.generation.prompt import Prompt
from lit_fed.backbones.generation.sampling import Sampling


class SeededChoice(LogitsProcessor):
    """Leaves one token of each row, drawn by the softmax of its scores; whoever takes the likeliest takes it.

    It is the inverse of the distribution function at a number in [0, 1) that belongs to the row and the step: of a
    token of probability p it is one with probability p. transformers' own sampling draws for all rows of a batch from
    one generator, where a row gets other numbers in another batch.

    Args:
        seeds: A seed for each row.
        start: Tokens of the padded prompts.
        steps: Tokens that are generated at most.

    Example:
        >>> draw = SeededChoice([0, 1, 2], start=1, steps=4)
        >>> scores = torch.tensor([[0.0, -9.0], [0.0, -9.0], [-9.0, 0.0]])
        >>> draw(torch.zeros(3, 1), scores).argmax(-1).tolist()
        [0, 0, 1]
    """

    def __init__(self, seeds: Sequence[int], start: int, steps: int) -> None:
        self._start = start
        # on the processor, whose generator is the same on every machine
        self._draws = torch.stack(
            [
                torch.rand(steps, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
                for seed in seeds
            ]
        )

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores [B, V] of which one is 0 and the others are minus infinity."""
        # in double precision, for the sum of a large vocabulary's single ones would not reach 1
        reached = scores.double().softmax(-1).cumsum(-1)
        drawn = self._draws[:, input_ids.shape[1] - self._start].to(scores.device)
        sought = (drawn * reached[:, -1]).unsqueeze(-1)
        token = torch.searchsorted(reached, sought, right=True).clamp(max=scores.shape[1] - 1)
        return torch.full_like(scores, -torch.inf).scatter(-1, token, 0.0)


def choice(
    sampling: Sampling, prompts: Sequence[Prompt], start: int, steps: int
) -> LogitsProcessorList:
    """What is done to a batch's scores before the likeliest token is taken.

    Args:
        sampling: How tokens are chosen.
        prompts: Those of the batch.
        start: Tokens of the padded prompts.
        steps: Tokens that are generated at most.
    """
    if sampling.greedy:
        return LogitsProcessorList()
    done = LogitsProcessorList([TemperatureLogitsWarper(sampling.temperature)])
    if sampling.top_k is not None:
        done.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p is not None and sampling.top_p < 1:
        done.append(TopPLogitsWarper(sampling.top_p))
    seeds = [row_seed(sampling.seed, prompt) for prompt in prompts]
    return LogitsProcessorList([*done, SeededChoice(seeds, start, steps)])


def row_seed(seed: int, prompt: Prompt) -> int:
    """A row's own seed, by the seed of all and its key or, where that is empty, its tokens.

    Example:
        >>> row_seed(0, Prompt((5, 6))) == row_seed(1, Prompt((5, 6)))
        False
        >>> row_seed(0, Prompt((5,), key="first")) == row_seed(0, Prompt((6,), key="first"))
        True
    """
    content = f"{seed} key {prompt.key}" if prompt.key else f"{seed} tokens {list(prompt.tokens)}"
    digest = hashlib.blake2b(content.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
