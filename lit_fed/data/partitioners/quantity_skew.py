"""Clients that differ in size only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lit_fed.data.partitioners.partitioner import (
    Partitioner,
    Positions,
    draw_until,
)
from lit_fed.limits import require_at_least, require_positive

if TYPE_CHECKING:
    from datasets import Dataset


class QuantitySkewPartitioner(Partitioner):
    r"""Rows are shuffled, and divided by proportions drawn from a Dirichlet distribution.

    :math:`q \sim \mathrm{Dir}(\alpha 1_K)` for K clients.

    Li et al., "Federated Learning on Non-IID Data Silos: An Experimental Study", 2022, section
    IV-C,
    https://arxiv.org/abs/2102.02079.

    Args:
        alpha: Concentration of the Dirichlet distribution, above 0. Small: few clients hold most
            rows.
        min_samples: The fewest rows of a client; drawn again until each has them.

    >>> from datasets import Dataset
    >>> rows = Dataset.from_dict({"label": range(100)})
    >>> parts = QuantitySkewPartitioner(alpha=0.5)(rows, num_clients=4, seed=0)
    >>> sum(len(part) for part in parts)
    100
    """

    def __init__(self, alpha: float = 0.5, min_samples: int = 1) -> None:
        require_positive("data.partitioner.alpha", alpha)
        require_at_least("data.partitioner.min_samples", min_samples, 0)
        self.alpha = alpha
        self.min_samples = min_samples

    def __call__(self, rows: Dataset, num_clients: int, seed: int) -> list[list[int]]:
        """Divide the rows, see :class:`Partitioner`."""
        rng = np.random.default_rng(seed)

        def draw() -> list[Positions]:
            shares = rng.dirichlet(np.full(num_clients, self.alpha))
            cuts = np.round(shares.cumsum()[:-1] * len(rows)).astype(np.int64)
            return np.split(rng.permutation(len(rows)), cuts)

        return draw_until(
            draw, len(rows), num_clients, self.min_samples, "raise `data.partitioner.alpha`"
        )
