"""The order in which rows are trained on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

_BATCHES_PER_BUCKET = 50


class LengthBucketSampler(Sampler[int]):
    """Rows shuffled so that those of a batch are of similar length, and little is padding.

    Rows are shuffled and cut into buckets of 50 batches; each bucket is sorted by length and cut
    into batches; then the batches are shuffled. Each row comes once an epoch, and the batch that is
    not full, if there is one, comes last. The order depends on the seed and the epoch alone. It is
    a sampler of rows and not of batches, so that Lightning can shard it.

    Args:
        lengths: Tokens of each row, [N].
        batch_size: Rows of a batch.
        seed: The same seed gives the same order.
        bucketing: False: shuffle only.

    >>> lengths = np.array([9, 1, 8, 2])
    >>> order = list(LengthBucketSampler(lengths, batch_size=2, seed=0))
    >>> sorted(sorted(lengths[order[i : i + 2]].tolist()) for i in (0, 2))
    [[1, 2], [8, 9]]
    """

    def __init__(
        self, lengths: npt.NDArray[np.int64], batch_size: int, seed: int, bucketing: bool = True
    ) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.bucketing = bucketing
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next. Lightning's Trainer calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(len(self.lengths))
        if self.bucketing and len(order) > self.batch_size:
            order = self._bucketed(order, rng)
        return iter(order.tolist())

    def _bucketed(
        self, order: npt.NDArray[np.int64], rng: np.random.Generator
    ) -> npt.NDArray[np.int64]:
        # The rows left over are taken before sorting: they are any rows, not the longest.
        full = len(order) // self.batch_size * self.batch_size
        rest, order = order[full:], order[:full]
        bucket = np.arange(full) // (self.batch_size * _BATCHES_PER_BUCKET)
        # Stable, so that equal lengths stay shuffled.
        batches = order[np.lexsort((self.lengths[order], bucket))].reshape(-1, self.batch_size)
        return np.concatenate([rng.permutation(batches).ravel(), rest])


def longest_first(lengths: npt.NDArray[np.int64], bucketing: bool = True) -> list[int]:
    """Rows by their length, the longest first, so that a batch that does not fit is the first one.

    Args:
        lengths: Tokens of each row, [N].
        bucketing: False: in order.

    >>> longest_first(np.array([1, 3, 2, 3]))
    [1, 3, 2, 0]
    """
    order = np.argsort(-lengths, kind="stable") if bucketing else np.arange(len(lengths))
    found: list[int] = order.tolist()
    return found
