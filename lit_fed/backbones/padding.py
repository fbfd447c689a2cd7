"""Padding: the side on which a model's rows are padded, found by trying, so that no prediction depends on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

Side = Literal["right", "left"]
SIDES: tuple[Side, ...] = ("right", "left")

_LONG, _SHORT = "a b c d e f g h", "i j k"
# Parts of the difference between two rows: what rounding moves, and what padding that is seen moves by far.
_ROUNDING = {torch.float64: 1e-6, torch.float32: 1e-3}
_COARSE = 0.1


def trial_rows(tokenizer: Any, prefix: bool) -> tuple[list[int], list[int]]:
    """A long and a short row of a few tokens, to try a model with.

    Args:
        tokenizer: The model's.
        prefix: Whether the short row is the beginning of the long one, as a language model reads it.
    """
    long = _ids(tokenizer, _LONG)
    return long, long[: max(1, len(long) // 3)] if prefix else _ids(tokenizer, _SHORT)


def padded(rows: Sequence[Sequence[int]], pad: int, side: Side = "right") -> dict[str, Tensor]:
    """Rows of tokens as a batch.

    Args:
        rows: The rows.
        pad: The token that pads.
        side: Where.

    Returns:
        ``input_ids`` and ``attention_mask`` [B, L].

    Example:
        >>> padded([[5], [6, 7]], pad=0, side="left")["input_ids"].tolist()
        [[0, 5], [6, 7]]
    """
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), pad)
    mask = torch.zeros_like(ids)
    for row, tokens in enumerate(rows):
        start = width - len(tokens) if side == "left" else 0
        ids[row, start : start + len(tokens)] = torch.tensor(tokens)
        mask[row, start : start + len(tokens)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def find_side(
    predict: Callable[[dict[str, Tensor]], Tensor], long: list[int], short: list[int], pad: int
) -> Side | None:
    """The side on which padding does not change what a model says of a row.

    Args:
        predict: The model's logits for a batch: [B, C], or [B, L, V] at every token.
        long: A row.
        short: A shorter row.
        pad: The token that pads.

    Returns:
        The right side where both will do; None where neither does, or a row changes with others of its batch.
    """
    alone = predict(padded([short], pad))[0]
    for side in SIDES:
        others, together = predict(padded([long, short], pad, side))
        if together.dim() > 1:
            own = slice(-len(short), None) if side == "left" else slice(len(short))
            together, others = together[own], others[-1:]
        if _alike(together, alone, others):
            return side
    return None


def reads_ahead(
    predict: Callable[[dict[str, Tensor]], Tensor], long: list[int], short: list[int], pad: int
) -> bool:
    """Whether a language model's predictions [B, L, V] change with tokens that come later.

    Args:
        predict: The model's logits for a batch.
        long: A row.
        short: Its beginning.
        pad: The token that pads.
    """
    alone, further = predict(padded([short], pad))[0], predict(padded([long], pad))[0]
    return not _alike(further[: len(short)], alone, further[-1:])


def continues_padded(
    predict: Callable[[dict[str, Tensor]], Tensor], long: list[int], short: list[int], pad: int
) -> bool:
    """Whether a language model continues a text the same behind padding on the left.

    Args:
        predict: The model's scores of the token that comes next [B, V], by the way it generates.
        long: A row.
        short: A shorter row.
        pad: The token that pads.
    """
    alone = predict(padded([short], pad, "left"))[0]
    other, together = predict(padded([long, short], pad, "left"))
    return _alike(together, alone, other)


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Within the block a model predicts without dropout or gradients; modes and random numbers are restored."""
    flags = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        for module, flag in flags.items():
            module.training = flag


def _alike(one: Tensor, other: Tensor, third: Tensor) -> bool:
    """Whether predictions differ by no more than rounding, beside their difference to those of another row."""
    part = _ROUNDING.get(one.dtype, _COARSE)
    one, other, third = one.double(), other.double(), third.double()
    size = (other - third).abs().max() + part * other.abs().max()
    return bool((one - other).abs().max() <= part * size)


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text)["input_ids"]
    return ids or [i for i in range(len(tokenizer)) if i not in tokenizer.all_special_ids][:2]
