"""The account of what a run's noise promises: (ε, δ) of the rounds so far, by Opacus."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

import torch

from lit_fed.payload import Payload

_HISTORY = "history"


class PrivacyAccount:
    """The rounds of a Gaussian mechanism and the ε that they have spent, by Rényi differential privacy.

    Mironov et al., "Rényi Differential Privacy of the Sampled Gaussian Mechanism", 2019,
    https://arxiv.org/abs/1908.10530, by Opacus' ``RDPAccountant``.

    Args:
        noise_multiplier: σ, the noise's standard deviation on the sum, over what one client can change of it.
        sample_rate: q, with which each client takes part in a round, on its own (Poisson sampling).
        delta: δ.

    Raises:
        ModuleNotFoundError: If Opacus is not installed.
    """

    def __init__(self, noise_multiplier: float, sample_rate: float, delta: float) -> None:
        if find_spec("opacus") is None:
            raise ModuleNotFoundError(
                "`model.aggregation.noise_multiplier` above 0 expects Opacus, whose accountant says what ε it is: "
                "pip install 'lit_fed[privacy]'"
            )
        self.noise_multiplier = noise_multiplier
        self.sample_rate = sample_rate
        self.delta = delta
        self._history: list[tuple[float, float, int]] = []

    def step(self) -> float:
        """Count a round, and say ε of all rounds so far."""
        from opacus.accountants import RDPAccountant

        accountant = RDPAccountant()
        accountant.history = list(self._history)
        accountant.step(noise_multiplier=self.noise_multiplier, sample_rate=self.sample_rate)
        self._history = list(accountant.history)
        return float(accountant.get_epsilon(delta=self.delta))

    def state(self) -> Payload:
        """The rounds so far: a row of σ, q and their number for each setting that there has been."""
        if not self._history:
            return Payload()
        return Payload({_HISTORY: torch.tensor(self._history, dtype=torch.float64)})

    def load_state(self, state: Payload) -> None:
        """Take back what :meth:`state` gave; an empty payload stands for no round.

        Args:
            state: The state.
        """
        rows: Sequence[Sequence[float]] = []
        if _HISTORY in state.tensors:
            rows = state.tensors[_HISTORY].tolist()
        self._history = [(sigma, rate, round(count)) for sigma, rate, count in rows]
