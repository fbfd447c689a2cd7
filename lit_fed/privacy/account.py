"""The account of what noise promises: (ε, δ) of all steps so far, by Opacus."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from lit_fed.payload import Payload

_HISTORY = "history"


def require_opacus(setting: str) -> None:
    """Check that Opacus is installed.

    Args:
        setting: The setting that needs it, as in YAML.

    Raises:
        ModuleNotFoundError: If it is not.

    Example:
        >>> require_opacus("trainer.privacy")
    """
    if find_spec("opacus") is None:
        raise ModuleNotFoundError(
            f"`{setting}` expects Opacus, whose accountant says what ε it is: pip install 'lit_fed[privacy]'"
        )


class PrivacyAccount:
    """The steps of a sampled Gaussian mechanism and the ε that they have spent.

    By default by Rényi differential privacy, Mironov et al., "Rényi Differential Privacy of the Sampled Gaussian
    Mechanism", 2019, https://arxiv.org/abs/1908.10530, as Opacus' ``RDPAccountant`` computes it.

    Args:
        delta: δ.
        accountant: How ε is computed of the steps: ``rdp``, or ``prv``, which is closer and slower (Gopi et al.,
            "Numerical Composition of Differential Privacy", 2021, https://arxiv.org/abs/2106.02848).

    Example:
        >>> account = PrivacyAccount(delta=1e-5)
        >>> account.epsilon()
        0.0
        >>> account.step(noise_multiplier=1.0, sample_rate=0.1, steps=10)
        >>> round(account.epsilon(), 2)
        3.44
    """

    def __init__(self, delta: float, accountant: Literal["rdp", "prv"] = "rdp") -> None:
        self.delta = delta
        self.accountant = accountant
        self._history: list[tuple[float, float, int]] = []

    def step(self, noise_multiplier: float, sample_rate: float, steps: int = 1) -> None:
        """Count steps.

        Args:
            noise_multiplier: σ, the noise's standard deviation on the sum, over what one member can change of it. 0:
                there was no noise, so that no ε bounds what was seen.
            sample_rate: q, with which each member takes part in a step, on its own (Poisson sampling).
            steps: How many steps.
        """
        self._history = _with(self._history, (noise_multiplier, sample_rate, steps))

    def epsilon(self) -> float:
        """ε of all steps so far; 0 before the first, and infinite after one without noise."""
        return self._epsilon(self._history)

    def epsilon_after(self, noise_multiplier: float, sample_rate: float, steps: int) -> float:
        """What ε would be after so many more steps, which are not counted.

        Args:
            noise_multiplier: σ.
            sample_rate: q.
            steps: How many steps.
        """
        return self._epsilon(_with(self._history, (noise_multiplier, sample_rate, steps)))

    def _epsilon(self, history: Sequence[tuple[float, float, int]]) -> float:
        if not history:
            return 0.0
        if any(sigma == 0 for sigma, _, _ in history):
            return math.inf
        if self.accountant == "rdp":
            return _by_orders(history, self.delta)
        from opacus.accountants import PRVAccountant

        accountant = PRVAccountant()
        accountant.history = list(history)
        return float(accountant.get_epsilon(delta=self.delta))

    def state(self) -> Payload:
        """The steps so far: a row of σ, q and their number for each setting that there has been."""
        if not self._history:
            return Payload()
        return Payload({_HISTORY: torch.tensor(self._history, dtype=torch.float64)})

    def load_state(self, state: Payload) -> None:
        """Take back what :meth:`state` gave; an empty payload stands for no step.

        Args:
            state: The state.

        Raises:
            ValueError: If it has something else.
        """
        names = {*state.tensors, *state.strings, *state.parts}
        if unknown := sorted(names - {_HISTORY}):
            raise ValueError(
                f"an account of privacy is expected to hold {_HISTORY!r} alone, but holds {unknown[0]!r}, which is "
                "something else's"
            )
        rows: Sequence[Sequence[float]] = []
        if _HISTORY in state.tensors:
            rows = state.tensors[_HISTORY].tolist()
        self._history = [(sigma, rate, round(count)) for sigma, rate, count in rows]


def _by_orders(history: Sequence[tuple[float, float, int]], delta: float) -> float:
    """ε as Opacus' ``RDPAccountant`` has it, of which what takes its time is computed once for each setting."""
    from opacus.accountants import RDPAccountant
    from opacus.accountants.analysis.rdp import get_privacy_spent

    spent = sum(steps * _one_step(sigma, rate) for sigma, rate, steps in history)
    return float(get_privacy_spent(orders=RDPAccountant.DEFAULT_ALPHAS, rdp=spent, delta=delta)[0])


@lru_cache(maxsize=4096)
def _one_step(noise_multiplier: float, sample_rate: float) -> npt.NDArray[np.float64]:
    """The Rényi divergence of one step at each of Opacus' orders."""
    from opacus.accountants import RDPAccountant
    from opacus.accountants.analysis.rdp import compute_rdp

    found = compute_rdp(
        q=sample_rate,
        noise_multiplier=noise_multiplier,
        steps=1,
        orders=RDPAccountant.DEFAULT_ALPHAS,
    )
    return np.asarray(found, dtype=np.float64)


def _with(
    history: Sequence[tuple[float, float, int]], more: tuple[float, float, int]
) -> list[tuple[float, float, int]]:
    """A history with further steps, those of one setting in one row: in which order they came makes no difference."""
    counts = {(sigma, rate): steps for sigma, rate, steps in history}
    counts[more[:2]] = counts.get(more[:2], 0) + more[2]
    return [(sigma, rate, steps) for (sigma, rate), steps in counts.items()]
