"""What the encodings of language models share: cutting rows, the token that ends them, and what is learnt of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lit_fed.data.encodings.encoding import require_tokens
from lit_fed.data.features import IGNORED, Features

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_ROWS_AT_ONCE = 1000


def slices(count: int) -> Iterator[slice]:
    """Slices of rows that are tokenised at once.

    >>> list(slices(1500))
    [slice(0, 1000, None), slice(1000, 2000, None)]
    """
    return (slice(first, first + _ROWS_AT_ONCE) for first in range(0, count, _ROWS_AT_ONCE))


def end_of_sequence(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that ends a sequence.

    Args:
        tokenizer: A tokenizer that gives offsets.

    Raises:
        ValueError: If the tokenizer gives no offsets or has no such token.
    """
    if not tokenizer.is_fast:
        raise ValueError(
            f"`data.encoding` needs a fast tokenizer, which gives offsets, but the model's is "
            f"a {type(tokenizer).__name__}"
        )
    if not isinstance(tokenizer.eos_token_id, int):
        raise ValueError(
            "`data.encoding` needs a tokenizer with an end-of-sequence token, but the model's "
            "has none"
        )
    return tokenizer.eos_token_id


def cut_row(
    head: list[int], tail: list[int], begins: int, max_length: int, at_end: bool = False
) -> tuple[list[int], list[int]]:
    """Cut a prompt and its response to a length: the prompt's beginning, down to a quarter, then the response's end.

    Args:
        head: The prompt's tokens.
        tail: The response's.
        begins: How many of the prompt's first tokens are kept.
        max_length: Tokens of both together.
        at_end: Cut both at the end alone.

    >>> cut_row([1, 2, 3, 4], [5, 6], begins=1, max_length=4)
    ([1, 4], [5, 6])
    """
    if len(head) + len(tail) <= max_length:
        return head, tail
    if at_end:
        head = head[:max_length]
        return head, tail[: max_length - len(head)]
    room = max(max_length - begins, 0)
    kept = min(len(head) - begins, max(room - len(tail), room // 4))
    return head[:begins] + head[len(head) - kept :], tail[: room - kept]


def require_learnt(features: Features, why: str) -> None:
    """Raise where a row has nothing to learn from.

    Args:
        features: Encoded rows of a language model.
        why: What the reason may be, for the message.

    Raises:
        ValueError: Naming how many rows, and the first.
    """
    require_tokens(features)
    learnt = (features.tokens["labels"] != IGNORED).astype(np.int64)
    # A model predicts from the second token on.
    learnt[features.offsets[:-1]] = 0
    counts: npt.NDArray[np.int64] = np.add.reduceat(learnt, features.offsets[:-1])
    if nothing := int((counts == 0).sum()):
        row = int(features.rows["index"][int((counts == 0).argmax())])
        raise ValueError(
            f"{nothing} of {len(features)} rows have nothing to learn from, the first is row {row}: {why}"
        )
