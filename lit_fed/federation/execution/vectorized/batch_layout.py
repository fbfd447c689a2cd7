"""Which rows and tokens of a vectorized pass belong to which client."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_fed.federation.execution.vectorized.vectorizable import CannotVectorize

_PADDING: Final = {"attention_mask": 0, "labels": -100, "token_type_ids": 0, "position_ids": 0}


@dataclass(frozen=True)
class BatchLayout:
    """The clients of a vectorized pass: K blocks of B rows of L tokens, one block a client.

    A client with fewer rows has its last one again, with fewer tokens padding at the end.

    Args:
        clients: Their numbers, K of them.
        sizes: Each client's own (rows, tokens).
        rows: B, the rows of a block.
        tokens: L, the tokens of a row.
        prefix: Virtual tokens that the model puts before the others.

    Example:
        >>> layout = BatchLayout((0, 1), ((2, 3), (1, 2)), rows=2, tokens=3)
        >>> first, second = layout.split(torch.arange(12).view(4, 3))
        >>> second
        tensor([[6, 7]])
        >>> layout.join([first, second], like=torch.zeros(4, 3))[2:]
        tensor([[6, 7, 0],
                [0, 0, 0]])
    """

    clients: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]
    rows: int
    tokens: int
    prefix: int = 0

    @cached_property
    def even(self) -> bool:
        """Whether nothing is padded."""
        return all(size == (self.rows, self.tokens) for size in self.sizes)

    def only(self, place: int) -> BatchLayout:
        """One of them, with its padding."""
        clients, sizes = (self.clients[place],), (self.sizes[place],)
        return BatchLayout(clients, sizes, self.rows, self.tokens, self.prefix)

    def blocks(self, tensor: Tensor, what: str) -> Tensor:
        """A vectorized tensor [K·n, …] as [K, n, …]; of one row for all, that row for everyone.

        Raises:
            CannotVectorize: If its first dimension is not that of the rows.
        """
        every = len(self.clients) * self.rows
        if tensor.dim() and tensor.shape[0] == 1 and every > 1:
            tensor = tensor.expand(every, *tensor.shape[1:])
        if not tensor.dim() or not tensor.shape[0] or tensor.shape[0] % every:
            raise CannotVectorize(
                f"{what}, which has a tensor of shape {list(tensor.shape)} where the {every} rows of "
                f"all clients are expected to come first,"
            )
        blocks: Tensor = tensor.unflatten(0, (len(self.clients), -1))
        return blocks

    def split(self, tensor: Tensor, what: str = "a module") -> list[Tensor]:
        """Each client's part of a vectorized tensor, of the shape it would have alone.

        Args:
            tensor: [K·B, …], of which every dimension of L tokens (or with the prefix) is cut; or
                [K·B·n, …].
            what: For the error.

        Raises:
            CannotVectorize: If its first dimension is not that of the rows.
        """
        blocks = self.blocks(tensor, what).unbind(0)
        if self.even:
            return list(blocks)
        return [self._own(block, size) for block, size in zip(blocks, self.sizes, strict=True)]

    def join(self, parts: Sequence[Tensor], like: Tensor) -> Tensor:
        """A vectorized tensor of the clients' parts, with zeros for padding.

        Args:
            parts: As :meth:`split` gives them.
            like: Has the shape of the result.
        """
        if self.even:
            return torch.cat(list(parts))
        shape = self._unfolded(like.unflatten(0, (len(self.clients), -1))[0]).shape
        padded = []
        for part, (rows, _) in zip(parts, self.sizes, strict=True):
            own = part.unflatten(0, (rows, -1)) if len(shape) > like.dim() else part
            missing = [n for w, h in zip(shape, own.shape, strict=True) for n in (w - h, 0)]
            padded.append(F.pad(own, missing[::-1]))
        return torch.cat(padded).reshape(like.shape)

    def _unfolded(self, block: Tensor) -> Tensor:
        return block.unflatten(0, (self.rows, -1)) if block.shape[0] != self.rows else block

    def _own(self, block: Tensor, size: tuple[int, int]) -> Tensor:
        folded = block.shape[0] != self.rows
        own = self._unfolded(block)[: size[0]]
        for dim in range(1, own.dim()):
            for before in {0, self.prefix}:
                if own.shape[dim] == self.tokens + before and size[1] != self.tokens:
                    own = own.narrow(dim, 0, size[1] + before)
                    break
        return own.flatten(0, 1) if folded else own


class NoCommonLength(ValueError):
    """Batches of different lengths have none for all of them; those of each length can be computed together."""


def joined(
    clients: Sequence[int],
    batches: Sequence[Mapping[str, Tensor]],
    pad_token: int,
    prefix: int,
    taken: Collection[int],
    most: int | None = None,
) -> tuple[BatchLayout, dict[str, Tensor]]:
    """The batches of several clients as one.

    Args:
        clients: The clients' numbers.
        batches: Their batches, of the same fields, each [B_k] or [B_k, L_k].
        pad_token: What ``input_ids`` are padded with.
        prefix: Virtual tokens that the model puts before the others.
        taken: Sizes that dimensions other than that of the tokens have. A length that is padded is
            unlike these, so that it is known again.
        most: Tokens that a row may have. None: any number.

    Raises:
        NoCommonLength: If lengths differ, and there is none for all of them that is not taken.
    """
    sizes = tuple(
        (int(batch["input_ids"].shape[0]), int(batch["input_ids"].shape[1])) for batch in batches
    )
    rows, tokens = max(b for b, _ in sizes), max(n for _, n in sizes)
    if any(n != tokens for _, n in sizes):
        while taken and {tokens - 1, tokens, tokens + prefix} & set(taken):
            tokens += 1
        if most is not None and tokens > most:
            raise NoCommonLength(
                f"rows of {max(n for _, n in sizes)} tokens cannot be padded below {most}"
            )
    layout = BatchLayout(tuple(clients), sizes, rows, tokens, prefix)
    masked = any("attention_mask" in batch for batch in batches)
    vectorized = {}
    for name in batches[0]:
        parts = [
            _padded(name, batch[name], size, layout, pad_token)
            for batch, size in zip(batches, sizes, strict=True)
        ]
        vectorized[name] = parts[0] if len(parts) == 1 else torch.cat(parts)
    if not masked and not layout.even:
        parts = [
            _padded("attention_mask", torch.ones_like(b["input_ids"]), size, layout, 0)
            for b, size in zip(batches, sizes, strict=True)
        ]
        vectorized["attention_mask"] = torch.cat(parts)
    return layout, vectorized


def _padded(
    name: str, field: Tensor, size: tuple[int, int], layout: BatchLayout, pad_token: int
) -> Tensor:
    rows, tokens = size
    if size == (layout.rows, layout.tokens):
        return field
    if field.dim() > 2 or field.shape[0] != rows or (field.dim() == 2 and field.shape[1] != tokens):
        raise CannotVectorize(
            f"batches of different sizes with a field `{name}` of shape {list(field.shape)}"
        )
    if field.dim() == 2 and tokens < layout.tokens:
        value = pad_token if name == "input_ids" else _PADDING.get(name, 0)
        field = F.pad(field, (0, layout.tokens - tokens), value=value)
    if rows < layout.rows:
        again = field[-1:].expand(layout.rows - rows, *field.shape[1:])
        field = torch.cat([field, again])
    return field
