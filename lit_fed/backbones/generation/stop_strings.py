"""Stop strings: texts at which an answer ends, and which are cut off it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase, StoppingCriteria

_BEFORE = 4
"""Tokens that are decoded before those that can have a stop string: a first blank may be dropped, and is no matter."""
_ALL_EVERY = 16
"""Tokens after which all are decoded: an end that begins within a sign of several tokens may hide a stop string."""


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
        # a token is at least a byte
        self._window = max(len(text.encode()) for text in stop) + _BEFORE

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        """Whether each row is to end [B]."""
        tokens = input_ids[:, self._start :]
        # decoding all of them after each token would take a tenth of a small model's time
        looked_at = tokens if tokens.shape[1] % _ALL_EVERY == 0 else tokens[:, -self._window :]
        done = torch.zeros(len(tokens), dtype=torch.bool)
        beams = len(tokens) // len(self._blanks)  # of each prompt, one after another
        for row, text in enumerate(self._texts(looked_at)):
            if any(stop in text for stop in self._stop):
                # it may be in blanks of the prompt, or in an end alone, which may be decoded in another way
                (answer,) = self._texts(tokens[row : row + 1])
                blanks = self._blanks[row // beams]
                # which may take several tokens
                own = "" if blanks.startswith(answer) else answer.removeprefix(blanks)
                done[row] = any(stop in own for stop in self._stop)
        return done.to(input_ids.device)

    def _texts(self, tokens: Tensor) -> list[str]:
        texts: list[str] = self._tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return texts


def cut_at(text: str, stop: Sequence[str]) -> str:
    r"""A text up to the first stop string.

    Example:
        >>> cut_at("Paris\nQuestion: and Rome?", ["\nQuestion", "?"])
        'Paris'
    """
    return text[: min((at for one in stop if (at := text.find(one)) >= 0), default=len(text))]
