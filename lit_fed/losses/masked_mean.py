"""The one masked mean of the project.

Where several processes share a batch (:class:`~lit_fed.federation.ShardedClients`), each divides by the count of the
whole batch. How it is told so is a context variable, set around a training step by :func:`parts_of_a_batch`. Nothing
that is visible would do: the terms of a loss have masks and weights of their own, so that no factor on a process's
loss or gradients puts their means right afterwards, and a count handed over as an argument would go through every
method's equation, every mixin and every pure function, for the sake of one execution that methods are not to know.
Outside such a block, hence in one process, the variable is None and nothing is different. It is a context variable
and not a global one, so that threads, such as those of vectorized clients, do not see each other's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from lit_fed.losses.counted_means import CountedMean, note
from lit_fed.losses.predictions import widen

_whole_total: ContextVar[Callable[[Tensor], Tensor] | None] = ContextVar("whole", default=None)


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
        ValueError: If the shapes of ``values`` and ``mask`` differ.

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
    mean, count = _mean(values, mask, weight, _whole_total.get())
    note(CountedMean(mean, count, mask, weight))
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
