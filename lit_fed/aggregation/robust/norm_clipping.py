"""Norm clipping, with Gaussian noise where differential privacy is wanted."""

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
from lit_fed.limits import require_non_negative, require_positive
from lit_fed.payload import Payload
from lit_fed.privacy import PrivacyAccount
from lit_fed.privacy.account import require_opacus
from lit_fed.update import Update


class NormClipping(RobustRule):
    r"""The weighted mean of the clients' changes, of which none is longer than a bound.

    .. math::
        \theta_g \leftarrow \theta_g + \sum_k w_k \min\left(1, \frac{C}{\lVert \Delta_k \rVert}\right) \Delta_k
            + \mathcal{N}\left(0, \left(\tfrac{\sigma C}{K}\right)^2\right)

    Sun et al., "Can You Really Backdoor Federated Learning?", 2019, §5, https://arxiv.org/abs/1911.07963; with noise
    it is the central model of McMahan et al., "Learning Differentially Private Recurrent Language Models", 2018,
    https://arxiv.org/abs/1710.06963. Nobody is left out: what a client counts for where predictions are combined is
    w_k. Every round logs ``server/norm_clipping/bound`` and ``…/clipped``, the share of clients that were clipped.
    Only norms are needed, so that a fixed bound does not compare clients with each other.

    **The privacy of clients.** With noise every round logs ``server/epsilon``: all broadcasts of weights so far are
    (ε, δ)-differentially private for a client, against those who see the broadcasts; the server sees the uploads. It
    holds for a fixed bound and equal weights, where the sum of the clipped changes moves by at most C if one
    client's change is taken for 0, and where the number K of clients that finish a round is no secret.
    ``noise_multiplier`` is the noise's standard deviation on that sum over C. The accountant takes it that each client
    takes part in a round with probability ``sample_rate``, on its own (Poisson sampling). The trainer's samplers draw a
    fixed number instead, for which a rate below 1 is the usual approximation and no proof; the rate 1 claims
    nothing from sampling and holds for every sampler. Not covered by ε: what a method exchanges beside
    the weights, the metrics of clients, and whether a client was left out as implausible
    (``trainer.max_update_norm_ratio``). Noise falls on every coordinate of the geometry: over LoRA, ``Coordinates``
    have r·(in + out) of them for a weight, and ``Products`` in·out, of which the truncation takes most noise away.
    All rounds of this rule count, also those without noise before a run goes on with some: after one of these ε is
    infinite. Rounds of another rule before it in a run are not known to it.

    **The seed.** Noise is drawn from the server's generator of the round, so that a run can be repeated, and a resumed
    one adds the same noise. Whoever knows the run's seed can therefore take the noise away, and ε holds against those
    alone who do not know it. ``secure_mode`` seeds a generator of its own by the operating system in each round
    instead, which makes it no cryptographic one; of several processes the first one's noise counts.

    Args:
        bound: C > 0. None: the median of the round's norms.
        weights: What w_k is proportional to, as in ``WeightedAverage``; ``uniform`` with noise.
        noise_multiplier: σ, at least 0. 0: no noise.
        sample_rate: q in (0, 1]; for instance ``trainer.clients_per_round`` as a fraction.
        delta: δ in (0, 1), which should be well below one over the number of clients.
        score: The client metric used by ``validation``, larger is better.
        geometry: What a client's change is. None: products over LoRA, else coordinates.
        secure_mode: Whether noise is drawn anew in every run, in a way that also hides its rounding; a run can then not
            be repeated.

    Raises:
        ModuleNotFoundError: If there is noise and Opacus is not installed.
        ValueError: If a number is out of range, or there is noise without a fixed bound or with unequal weights.

    Example:
        >>> sent = [Update(f"{x}", Payload({"w": torch.tensor([x])}), 1) for x in (1.0, 2.0, 600.0)]
        >>> NormClipping(bound=3.0)(sent, Payload({"w": torch.tensor([0.0])})).tensors["w"]
        tensor([2.])
    """

    def __init__(
        self,
        bound: float | None = None,
        weights: Weighting = "uniform",
        noise_multiplier: float = 0.0,
        sample_rate: float = 1.0,
        delta: float = 1e-5,
        score: str = "val/accuracy",
        geometry: Geometry | None = None,
        secure_mode: bool = False,
    ) -> None:
        super().__init__(geometry)
        self.bound = None if bound is None else require_positive("model.aggregation.bound", bound)
        self.weighting = require_weighting(weights)
        self.noise_multiplier = require_non_negative(
            "model.aggregation.noise_multiplier", noise_multiplier
        )
        self.sample_rate = sample_rate
        self.delta = delta
        self.score = score
        self.needs_validation = weights == "validation"
        self.secure_mode = secure_mode
        self._account = PrivacyAccount(delta)
        if noise_multiplier:
            self._check_privacy()
            require_opacus("model.aggregation.noise_multiplier")

    def _check_privacy(self) -> None:
        if self.bound is None:
            raise ValueError(
                "`model.aggregation.noise_multiplier` above 0 expects `model.aggregation.bound` to be a number, since "
                "the median of the norms says something of the clients itself, but got null"
            )
        if self.weighting != "uniform":
            raise ValueError(
                "`model.aggregation.noise_multiplier` above 0 expects `model.aggregation.weights` to be 'uniform', so "
                f"that no client can move the sum by more than the bound, but got {self.weighting!r}"
            )
        if not 0 < self.sample_rate <= 1:
            raise ValueError(
                "`model.aggregation.sample_rate` is expected to be above 0 and at most 1, but got "
                f"{self.sample_rate!r}"
            )
        if not 0 < self.delta < 1:
            raise ValueError(
                f"`model.aggregation.delta` is expected to be between 0 and 1, but got {self.delta!r}"
            )

    def check_update(self, update: Update) -> None:
        """The client has to report what its weight follows from; see :class:`~lit_fed.aggregation.Aggregation`."""
        client_weight(update, self.weighting, self.score)

    def __call__(self, updates: Sequence[Update], previous: Payload) -> Payload:
        """Clip, average and add noise.

        Raises:
            ValueError: If there is no update, or clients or the broadcast before hold other tensors.
        """
        weights = torch.tensor(
            client_weights(updates, self.weighting, self.score), dtype=torch.float64
        )
        changes = self._changes(updates, previous)
        norms = changes.norms()
        bound = median(norms) if self.bound is None else self.bound
        metrics = {
            "server/norm_clipping/bound": bound,
            "server/norm_clipping/clipped": float((norms > bound).double().mean()),
        }
        self._account.step(self.noise_multiplier, self.sample_rate)
        if self.noise_multiplier:
            metrics["server/epsilon"] = self._account.epsilon()
        self._note(updates, weights, metrics)
        return changes.combined(
            weights * clipped(norms, bound),
            self.noise_multiplier * bound / len(updates),
            self._generator(),
        )

    def _generator(self) -> torch.Generator | None:
        """What noise is drawn from; None for torch's own generator, which the run's seed sets in each round."""
        if not self.secure_mode:
            return None
        generator = torch.Generator()
        generator.seed()  # of the operating system's random numbers
        return generator

    def state(self) -> Payload:
        """The rounds so far, with noise and without."""
        return self._account.state()

    def load_state(self, state: Payload) -> None:
        """Take them back; see :class:`~lit_fed.aggregation.Aggregation`."""
        try:
            self._account.load_state(state)
        except ValueError as error:
            raise ValueError(
                f"the state of `model.aggregation` {type(self).__name__} is expected to be its own: {error}"
            ) from error


def clipped(norms: Tensor, bound: float) -> Tensor:
    """min(1, bound / norm), [K]; 1 where the norm is 0.

    Args:
        norms: At least 0, [K].
        bound: At least 0.

    Example:
        >>> clipped(torch.tensor([0.0, 1.0, 4.0]), 2.0)
        tensor([1.0000, 1.0000, 0.5000])
    """
    return torch.where(norms > bound, bound / norms, 1.0)


def median(values: Tensor) -> float:
    """The median; of an even number the mean of the two in the middle.

    Args:
        values: [K].
    """
    return float(values.quantile(0.5))
