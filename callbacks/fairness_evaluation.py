"""Fairness evaluation: how evenly the global model serves the clients, on each one's own held-out rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from lit_fed.callbacks.periodic_evaluation import PeriodicEvaluation
from lit_fed.metrics import client_spread, jain_index

if TYPE_CHECKING:
    from lit_fed.federation.federation_view import FederationView
    from lit_fed.module import FederatedModule


class FairnessEvaluation(PeriodicEvaluation):
    """Tests the model on the held-out rows of each client, and reports how much the clients differ.

    As in Li et al., "Fair Resource Allocation in Federated Learning" (2020), https://arxiv.org/abs/1905.10497. A
    round's row gets ``fairness/<metric>/`` and ``mean``, ``variance``, ``std``, ``worst``, ``gap`` (best less worst)
    and ``jain``, of what :func:`~lit_fed.metrics.client_spread` and :func:`~lit_fed.metrics.jain_index` give of the K
    clients' values; an accuracy is from 0 to 1, as elsewhere in the row. Of an accuracy there is ``excess_variance`` as
    well: the variance less what the drawing of few rows makes of it where all clients are served alike, see
    :func:`excess_variance`. Values below 0 have no ``jain``. Clients without rows of their own to be tested on are left
    out. Set ``data.client_validation_fraction`` above 0.

    Args:
        metric: What :meth:`~lit_fed.FederationView.test` calls the score. Without a global model it is each client's
            mean over the clients' models.
        every_n_rounds: Evaluate after every so many rounds, beside the last. None: not.

    Raises:
        ValueError: If ``every_n_rounds`` is below 1; when a fit starts, if no client has held-out rows.

    Example:
        >>> FairnessEvaluation(every_n_rounds=0)
        Traceback (most recent call last):
        ValueError: `FairnessEvaluation.every_n_rounds` is expected to be at least 1, but got 0
    """

    def __init__(self, metric: str = "test/accuracy", every_n_rounds: int | None = None) -> None:
        super().__init__(every_n_rounds)
        self.metric = metric

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        """Say now where no client has rows to be tested on."""
        if not any(client.validation for client in trainer.datamodule.clients):
            raise ValueError(
                "`FairnessEvaluation` expects clients with held-out rows, but "
                "`data.client_validation_fraction` is 0"
            )

    def on_round_evaluation(
        self, trainer: FederationView, module: FederatedModule, metrics: dict[str, float]
    ) -> None:
        """Add the clients' spread."""
        if not self.is_due(trainer):
            return
        scores, counts = [], []
        for client in trainer.datamodule.clients:
            if not client.validation:
                continue
            found = trainer.evaluate(client.validation)
            score = found.get(self.metric, found.get(f"clients/{self.metric}/mean"))
            if score is None:
                raise ValueError(
                    f"`FairnessEvaluation.metric` is expected to be one of {', '.join(found)}, but got {self.metric!r}"
                )
            scores.append(score)
            counts.append(len(trainer.evaluated(client.validation)))
        values = torch.tensor(scores, dtype=torch.float64)
        name = f"fairness/{self.metric.rpartition('/')[2]}"
        spread = client_spread(values)
        if bool((values >= 0).all()):
            spread["jain"] = jain_index(values)
        for key, value in spread.items():
            metrics[f"{name}/{key}"] = float(value)
        if name.endswith("/accuracy"):
            metrics[f"{name}/excess_variance"] = excess_variance(scores, counts)


def excess_variance(accuracies: Sequence[float], counts: Sequence[int]) -> float:
    r"""The variance of K clients' accuracies less that of their rows' drawing, whose mean is 0 where all are equal.

    .. math:: \frac{1}{K} \sum_k (a_k - \bar a)^2 - \frac{K - 1}{K^2} \sum_k \frac{a_k (1 - a_k)}{n_k - 1}

    A client with n rows of which each is right with probability p has an accuracy of variance p(1 − p)/n, which is
    estimated without bias by a(1 − a)/(n − 1): a mean over few rows differs between clients that are served alike.

    Args:
        accuracies: a, from 0 to 1.
        counts: n, of how many rows. Of a single one nothing can be said, and nothing is taken off.

    Example:
        >>> round(excess_variance([0.5, 0.7], [101, 101]), 5)
        0.00885
    """
    clients = len(accuracies)
    mean = sum(accuracies) / clients
    variance = sum((one - mean) ** 2 for one in accuracies) / clients
    drawn = sum(a * (1 - a) / (n - 1) for a, n in zip(accuracies, counts, strict=True) if n > 1)
    return variance - (clients - 1) / clients**2 * drawn
