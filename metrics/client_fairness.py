"""How evenly a federation serves its clients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lit_fed.metrics.arguments import index_within, positive_integer, weighted_sum, widened
from lit_fed.metrics.running_sums import RunningSums


def jain_index(values: Tensor) -> Tensor:
    r"""Jain's fairness index.

    .. math:: J = \frac{(\sum_k x_k)^2}{K \sum_k x_k^2}, \quad 0/0 = 0

    Jain, Chiu and Hawe, "A Quantitative Measure of Fairness and Discrimination for Resource
    Allocation in Shared Computer Systems" (1984), https://arxiv.org/abs/cs/9809099.

    Args:
        values: What each client gets, at least 0, [K].

    Returns:
        A scalar, float32 or the wider dtype given: 1 when all get the same, 1/K when one gets everything, 0 when
        nobody gets anything, NaN without clients.

    Raises:
        ValueError: If ``values`` is not [K], or one is negative.

    Example:
        >>> jain_index(torch.tensor([1.0, 1.0, 0.0, 0.0]))
        tensor(0.5000)
    """
    if values.ndim != 1:
        raise ValueError(f"`values` is expected to have shape [clients], got {list(values.shape)}")
    wide = widened(values)
    if bool((wide < 0).any()):
        raise ValueError(f"`values` are expected to be at least 0, but got {values.min().item():g}")
    if not len(values):
        return wide.new_tensor(torch.nan)
    # by the greatest first: squares of very small or large values are no numbers of the dtype
    greatest = wide.amax()
    shares = wide / torch.where(greatest > 0, greatest, 1)
    squares = len(values) * shares.square().sum()
    return torch.where(squares == 0, 0.0, shares.sum().square() / squares)


def client_spread(values: Tensor) -> dict[str, Tensor]:
    """Mean and spread of a score over clients, all clients counting the same.

    Args:
        values: Scores, [K].

    Returns:
        Scalars in the unit of ``values``, float32 or the wider dtype given: ``mean``; ``variance`` (its square; of
        the K clients, not an estimate for others) and ``std``, its root; ``worst``, the smallest; ``gap``, the
        largest less the smallest. All NaN without clients.

    Raises:
        ValueError: If ``values`` is not [K].

    Example:
        >>> spread = client_spread(torch.tensor([60.0, 80.0]))
        >>> {name: value.item() for name, value in spread.items()}
        {'mean': 70.0, 'variance': 100.0, 'std': 10.0, 'worst': 60.0, 'gap': 20.0}
    """
    if values.ndim != 1:
        raise ValueError(f"`values` is expected to have shape [clients], got {list(values.shape)}")
    wide = widened(values)
    if not len(values):
        return {
            name: wide.new_tensor(torch.nan) for name in ("mean", "variance", "std", "worst", "gap")
        }
    variance = wide.var(correction=0)
    return {
        "mean": wide.mean(),
        "variance": variance,
        "std": variance.sqrt(),
        "worst": wide.amin(),
        "gap": wide.amax() - wide.amin(),
    }


class ClientFairness(RunningSums):
    """How evenly the clients are served: spread, worst client and Jain's index of their accuracy.

    As reported in Li et al., "Fair Resource Allocation in Federated Learning" (2020),
    https://arxiv.org/abs/1905.10497. Clients count the same, whatever their size; those which were
    never evaluated are left out.

    - A constant classifier on clients with equal shares of the class is perfectly fair: read the
      mean beside it.
    - If no client has anything right, Jain's index is 0/0 = 0.
    - One client: variance, std and gap are 0, Jain's index is 1.
    - NaN (nothing to tell): no update yet.

    Args:
        num_clients: Number K of clients in the federation.
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Returns of ``compute``:
        A dict of scalars: ``mean``, ``std``, ``worst``, ``gap`` (best less worst), from 0 to 100;
        ``variance``, in squared percentage points, from 0 to 2500; ``jain``, from 0 to 1.

    Raises:
        TypeError: If ``num_clients`` is no integer.
        ValueError: If ``num_clients`` is below 1.

    Example:
        >>> fairness = ClientFairness(num_clients=2)
        >>> fairness.update(torch.tensor([True, False]), client=0)
        >>> fairness.update(1.0, client=1, weight=20)
        >>> {name: round(value.item(), 3) for name, value in fairness.compute().items()}
        {'mean': 75.0, 'variance': 625.0, 'std': 25.0, 'worst': 50.0, 'gap': 50.0, 'jain': 0.9}
    """

    is_differentiable = False
    # The entries differ in this: a larger worst is better, a larger gap is not.
    higher_is_better = None
    full_state_update = False
    plot = Metric._plot

    correct: Tensor
    total: Tensor

    def __init__(self, num_clients: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_clients = positive_integer("num_clients", num_clients)
        for state in ("correct", "total"):
            self.add_sum(state, num_clients)

    def update(self, value: Tensor | float, client: int, weight: Tensor | float = 1.0) -> None:
        """Adds evaluations of one client; calls for the same client add up.

        Args:
            value: What was correct (bool, [N]), or an accuracy in [0, 1] over ``weight`` examples.
            client: The client's index, from 0.
            weight: How many examples each entry of ``value`` stands for.

        Raises:
            TypeError: If ``client`` is no integer.
            ValueError: If ``client`` is no client, a value is out of range, or a weight is
                negative.
        """
        index = index_within("client", client, 0, self.num_clients)
        correct, total = weighted_sum(value, weight, 0.0, 1.0, self.device)
        cell = torch.zeros_like(self.total)
        cell[index] = 1
        self.correct = self.correct + cell * correct
        self.total = self.total + cell * total

    def compute(self) -> dict[str, Tensor]:
        """The statistics by name, scalars."""
        seen = self.total > 0
        accuracy = (self.correct[seen] / self.total[seen]).to(torch.get_default_dtype())
        return {**client_spread(100 * accuracy), "jain": jain_index(accuracy)}
