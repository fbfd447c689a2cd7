"""The means that a loss is made of, with the counts that they are means over.

Where one optimizer step takes several batches, its loss is to be that of one large batch: of each term the mean over
what all the batches have, not the mean of their means. For this it has to be known of which masked means a loss
consists, and over how much each was taken. As with :func:`~lit_fed.losses.parts_of_a_batch` no argument would do, since
the terms of a loss have masks and weights of their own; so the means are noted, by whoever wants to know, while the
loss is computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class CountedMean:
    """A masked mean that has a gradient.

    Attributes:
        value: The mean, with its graph.
        count: The sum of the weights of what it was taken over, a scalar.
        mask: Where it was taken. None: everywhere.
        weight: Weights of the examples. None: all alike.
        public: Whether it was taken within :func:`~lit_fed.losses.over_public_rows`.
    """

    value: Tensor
    count: Tensor
    mask: Tensor | None
    weight: Tensor | None
    public: bool = False

    def goes_with(self, other: CountedMean) -> bool:
        """Whether the other mean has the same mask and weights, hence the same count in each batch."""
        return self.mask is not None and self.mask is other.mask and self.weight is other.weight


_noted: ContextVar[list[CountedMean] | None] = ContextVar("noted", default=None)


@contextmanager
def counted_means() -> Iterator[list[CountedMean]]:
    """Note the masked means with a gradient that are taken within the block, in their order.

    Example:
        >>> import torch
        >>> from lit_fed.losses import masked_mean
        >>> values = torch.tensor([1.0, 3.0], requires_grad=True)
        >>> with counted_means() as means:
        ...     _ = masked_mean(values), masked_mean(values.detach())
        >>> [float(mean.count) for mean in means]
        [2.0]
    """
    means: list[CountedMean] = []
    token = _noted.set(means)
    try:
        yield means
    finally:
        _noted.reset(token)


def note(mean: CountedMean) -> None:
    """Note a mean, if somebody wants to know and it has a gradient."""
    means = _noted.get()
    if means is not None and mean.value.requires_grad:
        means.append(mean)
