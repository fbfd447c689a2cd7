"""The geometric median of the clients' changes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lit_fed.aggregation.robust.changes import Geometry
from lit_fed.aggregation.robust.robust_rule import RobustRule
from lit_fed.aggregation.weighting import (
    Weighting,
    client_weight,
    client_weights,
    require_weighting,
)
from lit_fed.limits import require_at_least, require_positive
from lit_fed.payload import Payload
from lit_fed.update import Update


class GeometricMedian(RobustRule):
    r"""The point with the smallest weighted sum of distances to the clients' changes, as a weighted mean of them (RFA).

    .. math:: \min_v \sum_k \alpha_k \lVert v - \Delta_k \rVert_{(\nu)}, \qquad
        \beta_k = \frac{\alpha_k}{\max(\nu, \lVert v - \Delta_k \rVert)}, \qquad
        v \leftarrow \frac{\sum_k \beta_k \Delta_k}{\sum_k \beta_k}

    Pillutla et al., "Robust Aggregation for Federated Learning", 2022, Algorithm 2 (the smoothed Weiszfeld algorithm),
    https://arxiv.org/abs/1912.13445. It bears wrong clients that hold less than half of the weights together. Nobody is
    left out: far clients count for little. The steps start from the weighted mean and go on in the K × K inner products
    of the changes until no weight moves, so that their number costs nothing. Every round logs
    ``server/geometric_median/iterations``, ``…/weight_min`` and ``…/weight_max``, of what clients count for.

    Args:
        smoothing: ν > 0, the distance below which a client's pull grows no more.
        max_iterations: Steps after which it stops at the latest.
        weights: What α_k is proportional to, as in ``WeightedAverage``.
        score: The client metric used by ``validation``, larger is better.
        geometry: What a client's change is. None: products over LoRA, else coordinates.

    Raises:
        ValueError: If ``smoothing`` or ``max_iterations`` is out of range.

    Example:
        >>> sent = [Update(f"{x}", Payload({"w": torch.tensor([x])}), 1) for x in (1.0, 2.0, 600.0)]
        >>> GeometricMedian()(sent, Payload({"w": torch.tensor([0.0])})).tensors["w"]
        tensor([2.])
    """

    def __init__(
        self,
        smoothing: float = 1e-6,
        max_iterations: int = 1000,
        weights: Weighting = "size",
        score: str = "val/accuracy",
        geometry: Geometry | None = None,
    ) -> None:
        super().__init__(geometry)
        self.smoothing = require_positive("model.aggregation.smoothing", smoothing)
        self.max_iterations = require_at_least(
            "model.aggregation.max_iterations", max_iterations, 1
        )
        self.weighting = require_weighting(weights)
        self.score = score
        self.needs_validation = weights == "validation"

    def check_update(self, update: Update) -> None:
        """The client has to report what its weight follows from; see :class:`~lit_fed.aggregation.Aggregation`."""
        client_weight(update, self.weighting, self.score)

    def __call__(self, updates: Sequence[Update], previous: Payload) -> Payload:
        """Take the geometric median.

        Raises:
            ValueError: If there is no update, or clients or the broadcast before hold other tensors.
        """
        alpha = torch.tensor(
            client_weights(updates, self.weighting, self.score), dtype=torch.float64
        )
        changes = self._changes(updates, previous)
        weights, iterations = weiszfeld(
            changes.finite_inner_products(), alpha, self.smoothing, self.max_iterations
        )
        self._note(
            updates,
            weights,
            {
                "server/geometric_median/iterations": float(iterations),
                "server/geometric_median/weight_min": float(weights.min()),
                "server/geometric_median/weight_max": float(weights.max()),
            },
        )
        return changes.combined(weights)


def weiszfeld(
    inner_products: Tensor, alpha: Tensor, smoothing: float, max_iterations: int
) -> tuple[Tensor, int]:
    """What each point counts for in the smoothed geometric median, by the points' inner products alone.

    For v = Σ w_k x_k the squared distance ‖v − x_j‖² is wᵀGw − 2 (Gw)_j + G_jj. A point far away adds to each term
    no more than its weight lets it; in the distances between the points it would take the others' digits.

    Args:
        inner_products: G, [K, K].
        alpha: α_k ≥ 0 with the sum 1, [K].
        smoothing: ν > 0.
        max_iterations: Steps at the most.

    Returns:
        The weights [K], with the sum 1, and the number of steps.

    Example:
        >>> equal = torch.zeros(2, 2, dtype=torch.float64)
        >>> weiszfeld(equal, torch.tensor([0.75, 0.25], dtype=torch.float64), 1e-6, 10)
        (tensor([0.7500, 0.2500], dtype=torch.float64), 1)
    """
    weights, moved, steps = alpha, torch.inf, 0
    while steps < max_iterations and moved > torch.finfo(alpha.dtype).eps:
        with_mean = inner_products @ weights
        squares = weights @ with_mean - 2 * with_mean + inner_products.diagonal()
        distances = squares.clamp(min=0).sqrt()
        beta = alpha / distances.clamp(min=smoothing)
        before, weights, steps = weights, beta / beta.sum(), steps + 1
        moved = float((weights - before).abs().max())
    return weights, steps
