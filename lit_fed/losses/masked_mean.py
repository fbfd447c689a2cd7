"""The one masked mean of the project.

Where several processes share a batch (:class:`~lit_fed.federation.ShardedClients`), each divides by the count of the
whole batch. How it is told so is a context variable, set around a training step by :func:`parts_of_a_batch`. Nothing
that is visible would do: the terms of a loss have masks and weights of their own, so that no factor on a process's
loss or gradients puts their means right afterwards, and a count handed over as an argument would go through every
method's equation, every mixin and every pure function, for the sake of one execution that methods are not to know.
Outside such a block, hence in one process, the variable is None and nothing is different. It is a context variable
and not a global one, so that threads, such as those of vectorized clients, do not see each other's.

Where the gradient of each row is bounded by itself (:class:`~lit_fed.privacy.DPSGD`), a row's part of a mean may not
depend on how much the other rows count. There it is told in the same way that the rows' own means are to be added up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor

from lit_fed.losses.counted_means import CountedMean, note
from lit_fed.losses.predictions import widen

_whole_total: ContextVar[Callable[[Tensor], Tensor] | None] = ContextVar("whole", default=None)


@dataclass(frozen=True)
class _Rows:
    """How many rows a batch has, and how many it is expected to have."""

    count: int
    expected: float


_rows: ContextVar[_Rows | None] = ContextVar("rows", default=None)


@contextmanager
def sums_over_rows(count: int, expected: float) -> Iterator[None]:
    r"""Within the block a masked mean that has a gradient is a sum of parts, each of which is of one row alone.

    .. math:: \frac{1}{E} \sum_i w_i \frac{\sum_j m_{ij} v_{ij}}{\sum_j m_{ij}}

    A row's part is its own mean times its weight: neither the other rows' tokens nor their weights change it, as they
    do where the mean is taken over all at once.

    Args:
        count: How many rows the batch has, at least one.
        expected: E, what the sum is divided by: how many rows batches have on average.

    Example:
        >>> import torch
        >>> values = torch.tensor([[1.0, 3.0], [6.0, 0.0]], requires_grad=True)
        >>> mask = torch.tensor([[True, True], [True, False]])
        >>> with sums_over_rows(2, expected=4.0):  # (2 + 6) / 4
        ...     masked_mean(values, mask).detach()
        tensor(2.)
        >>> masked_mean(values, mask).detach()  # (1 + 3 + 6) / 3
        tensor(3.3333)
    """
    token = _rows.set(_Rows(count, expected))
    try:
        yield
    finally:
        _rows.reset(token)


_public: ContextVar[bool] = ContextVar("public", default=False)


@contextmanager
def over_public_rows() -> Iterator[None]:
    """Within the block a method predicts public rows and takes the means of its loss over them, and nothing else.

    Where clients train with differential privacy, such terms need no noise, since they say nothing of the client's own
    rows; elsewhere nothing is different.

    Example:
        >>> import torch
        >>> with over_public_rows(), sums_over_rows(7, expected=7.0):  # of 7 rows of the client, and 2 public ones
        ...     masked_mean(torch.tensor([1.0, 3.0], requires_grad=True)).detach()
        tensor(2.)
    """
    token = _public.set(True)
    try:
        yield
    finally:
        _public.reset(token)


def are_public() -> bool:
    """Whether this is within :func:`over_public_rows`."""
    return _public.get()


@contextmanager
def parts_of_a_batch(whole_total: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Within the block a masked mean is this process's part of that over a batch which several share.

    A mean of means over parts with different counts is none; so the sum is divided by the count of the
    whole batch.

    Args:
        whole_total: Of a part's count that of the whole batch, divided by the number of parts: then the
            mean of the processes' results is the whole batch's.

    Example:
        >>> import torch
        >>> values, mask = torch.tensor([6.0]), torch.tensor([True])
        >>> with parts_of_a_batch(lambda count: (count + 2) / 2):  # one of two parts; the other counts 2
        ...     masked_mean(values, mask)
        tensor(4.)
    """
    token = _whole_total.set(whole_total)
    try:
        yield
    finally:
        _whole_total.reset(token)


def masked_mean(values: Tensor, mask: Tensor | None = None, weight: Tensor | None = None) -> Tensor:
    r"""Mean of ``values`` where ``mask`` is true, in at least float32.

    .. math:: \frac{\sum_i m_i w_i v_i}{\sum_i m_i w_i}

    Args:
        values: Values of any shape, floating.
        mask: Booleans of the same shape. None: all true.
        weight: Non-negative weights of the examples, shape [B], B the first dimension of ``values``.

    Returns:
        A scalar. Where nothing is left to average it is 0, with a gradient of 0, never NaN.

    Raises:
        ValueError: If the shapes of ``values`` and ``mask`` differ; within :func:`sums_over_rows`, if the values are
            not those of the batch's rows.

    Example:
        >>> import torch
        >>> masked_mean(torch.tensor([1.0, 3.0, 9.0]), torch.tensor([True, True, False]))
        tensor(2.)
        >>> masked_mean(torch.tensor([float("nan")]), torch.tensor([False]))
        tensor(0.)
    """
    if mask is not None and values.shape != mask.shape:
        raise ValueError(
            f"`mask` is expected to have the shape of `values`, {list(values.shape)}, but got {list(mask.shape)}"
        )
    rows, public = _rows.get(), _public.get()
    if rows is not None and values.requires_grad and not public:
        mean, count = _sum_of_rows(values, mask, weight, rows)
    else:
        mean, count = _mean(values, mask, weight, _whole_total.get())
    note(CountedMean(mean, count, mask, weight, public))
    return mean


def own_mean(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """As :func:`masked_mean`, of values that are no part of a batch, such as one example's tokens.

    Example:
        >>> import torch
        >>> own_mean(torch.tensor([1.0, 3.0, 9.0]), torch.tensor([True, True, False]))
        tensor(2.)
    """
    return _mean(values, mask, None, None)[0]


def _mean(
    values: Tensor,
    mask: Tensor | None,
    weight: Tensor | None,
    whole_total: Callable[[Tensor], Tensor] | None,
) -> tuple[Tensor, Tensor]:
    """The mean and its count."""
    values = widen(values)
    weights = torch.ones_like(values) if mask is None else mask.to(values.dtype)
    if weight is not None:
        weights = weights * weight.to(values.dtype).reshape(-1, *[1] * (values.dim() - 1))
    total = weights.sum()
    if whole_total is not None:
        total = whole_total(total)
    if mask is not None:
        # masked_fill, not multiplication: 0 · NaN would bring the masked NaN back
        values = values.masked_fill(~mask, 0.0)
    return (values * weights).sum() / total.where(total > 0, 1.0), total


def _sum_of_rows(
    values: Tensor, mask: Tensor | None, weight: Tensor | None, rows: _Rows
) -> tuple[Tensor, Tensor]:
    """The rows' own means added up, and the number of rows."""
    if values.dim() == 0 or len(values) != rows.count:
        raise ValueError(
            f"a term of the loss is expected to be a mean over the {rows.count} rows of the batch where each row's "
            f"gradient is bounded by itself, but is one over values of shape {list(values.shape)}"
        )
    values = widen(values).flatten(1) if values.dim() > 1 else widen(values).unsqueeze(1)
    inside = (
        torch.ones_like(values, dtype=torch.bool) if mask is None else mask.reshape(values.shape)
    )
    counts = inside.sum(1)
    means = values.masked_fill(~inside, 0.0).sum(1) / counts.clamp(min=1)
    if weight is not None:
        means = means * weight.to(means.dtype)
    return means.sum() / rows.expected, torch.as_tensor(float(rows.count), device=values.device)
