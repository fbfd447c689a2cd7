"""Clients that differ in their labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lit_fed.data.columns import column_codes
from lit_fed.data.partitioners.partitioner import (
    Partitioner,
    Positions,
    concatenated,
    draw_until,
)
from lit_fed.limits import require_at_least, require_positive

if TYPE_CHECKING:
    from datasets import Dataset


class DirichletPartitioner(Partitioner):
    r"""Each label's rows are divided by proportions drawn from a Dirichlet distribution.

    :math:`p_c \sim \mathrm{Dir}(\alpha 1_K)` for label c and K clients.

    Clients differ in their labels and, as the proportions of a label need not balance those of
    another, in size. Small alpha: a client has few labels. Large alpha: as IID.

    Yurochkin et al., "Bayesian Nonparametric Federated Learning of Neural Networks", 2019, section
    4,
    https://arxiv.org/abs/1905.12022.

    Args:
        alpha: Concentration of the Dirichlet distribution, above 0.
        column: The column of labels.
        min_samples: The fewest rows of a client; drawn again until each has them.

    >>> from datasets import Dataset
    >>> rows = Dataset.from_dict({"label": [0, 1] * 50})
    >>> parts = DirichletPartitioner(alpha=0.1)(rows, num_clients=4, seed=0)
    >>> sorted(row for part in parts for row in part) == list(range(100))
    True
    """

    def __init__(self, alpha: float = 0.5, column: str = "label", min_samples: int = 1) -> None:
        require_positive("data.partitioner.alpha", alpha)
        require_at_least("data.partitioner.min_samples", min_samples, 0)
        self.alpha = alpha
        self.column = column
        self.min_samples = min_samples

    def __call__(self, rows: Dataset, num_clients: int, seed: int) -> list[list[int]]:
        """Divide the rows, see :class:`Partitioner`."""
        labels, codes = column_codes(rows, self.column, "data.partitioner.column")
        by_label = [np.flatnonzero(codes == code) for code in range(len(labels))]
        rng = np.random.default_rng(seed)

        def draw() -> list[Positions]:
            parts: list[list[Positions]] = [[] for _ in range(num_clients)]
            for positions in by_label:
                shares = rng.dirichlet(np.full(num_clients, self.alpha))
                cuts = np.round(shares.cumsum()[:-1] * len(positions)).astype(np.int64)
                for part, piece in zip(
                    parts, np.split(rng.permutation(positions), cuts), strict=True
                ):
                    part.append(piece)
            return [concatenated(part) for part in parts]

        return draw_until(
            draw, len(rows), num_clients, self.min_samples, "raise `data.partitioner.alpha`"
        )
