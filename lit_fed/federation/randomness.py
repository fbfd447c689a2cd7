"""Random numbers that depend on where they are drawn, not on what was drawn before."""

from __future__ import annotations

import os
import random

import numpy as np
import torch


def resolve_seed(seed: int | None) -> int:
    """A given seed, else that of Lightning's ``seed_everything``, else 0.

    Example:
        >>> resolve_seed(7)
        7
    """
    return int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed


def derive_seed(seed: int, *place: int) -> int:
    """A seed of 32 bits for one place of a run, such as (round, client).

    Args:
        seed: The run's seed, at least 0.
        place: Coordinates of the place, each at least 0.

    Example:
        >>> derive_seed(0, 3, 1) == derive_seed(0, 3, 1)
        True
        >>> derive_seed(0, 3, 1) == derive_seed(0, 1, 3)
        False
    """
    return int(np.random.SeedSequence(entropy=seed, spawn_key=place).generate_state(1)[0])


def reseed(seed: int, *place: int) -> None:
    """Seed Python's, NumPy's and torch's generators for one place of a run.

    Because every client and every round starts so, a run can go on after any round, in any process,
    without a generator's state being kept.
    """
    value = derive_seed(seed, *place)
    random.seed(value)
    np.random.seed(value)
    torch.manual_seed(value)
