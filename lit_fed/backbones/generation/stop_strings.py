"""Stop strings: texts at which an answer ends, and which are cut off it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase, StoppingCriteria


class StopStrings(StoppingCriteria):
    """Ends a row when its answer has a stop string.

    transformers' own criterion compares with prompt and answer together, so that an answer whose first line is empty
    ends at once by a stop string of two line ends where its prompt ends in one. Here the answer's text alone counts,
    as it does where it is cut (:func:`cut_at`).

    Args:
        tokenizer: Makes texts of tokens.
        stop: The stop strings.
        start: Tokens of the padded prompts.
        blanks: Blanks at the end of each prompt, which the answer repeats and which are no part of it.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        stop: Sequence[str],
        start: int,
        blanks: Sequence[str],
    ) -> None:
        self._tokenizer = tokenizer
        self._stop = tuple(stop)
        self._start = start
        self._blanks = blanks

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        """Whether each row is to end [B]."""
        # all of it: the end alone may begin within a sign of several tokens, and is then decoded in another way
        texts = self._tokenizer.batch_decode(input_ids[:, self._start :], skip_special_tokens=True)
        done = [
            any(stop in text.removeprefix(blanks) for stop in self._stop)
            for text, blanks in zip(texts, self._blanks, strict=True)
        ]
        return torch.tensor(done, device=input_ids.device)


def cut_at(text: str, stop: Sequence[str]) -> str:
    r"""A text up to the first stop string.

    Example:
        >>> cut_at("Paris\nQuestion: and Rome?", ["\nQuestion", "?"])
        'Paris'
    """
    return text[: min((at for one in stop if (at := text.find(one)) >= 0), default=len(text))]
