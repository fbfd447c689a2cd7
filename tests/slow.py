"""Which members of a family of tests are part of `make test`; the others are of `make test-all`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def slow_but(*quick: Any, of: Iterable[Any]) -> list[Any]:
    """All values ``of`` a parameter, of which all but the ``quick`` ones are slow; tuples are of several parameters."""
    every = list(of)
    unknown = [one for one in quick if one not in every]
    if unknown:
        raise ValueError(f"the quick ones are expected to be among {every}, but got {unknown}")
    return [
        pytest.param(
            *(one if isinstance(one, tuple) else (one,)),
            marks=() if one in quick else pytest.mark.slow,
        )
        for one in every
    ]
