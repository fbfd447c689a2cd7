"""Which of a round's updates are too large to be believed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Final

FEW: Final = 3  # updates; of fewer the median is one that may itself be wrong


def usual_norm(norms: Sequence[float], earlier: Sequence[float] = ()) -> float | None:
    """The norm that an update of the round usually has: the lower median of those that changed anything.

    Of fewer than three updates any may be the wrong one, so that the medians of earlier rounds count as well.

    Args:
        norms: Of the round's updates, at least 0.
        earlier: Medians of earlier rounds.

    Returns:
        The lower median; None where nobody has changed anything.

    Example:
        >>> usual_norm([1.0, 1.5, 900.0, 0.0]), usual_norm([900.0], earlier=[1.0, 2.0, 1.0])
        (1.5, 1.0)
    """
    counted = [*norms, *(earlier if len(norms) < FEW else ())]
    return statistics.median_low(positive) if (positive := [n for n in counted if n > 0]) else None


def implausible(
    norms: Mapping[str, float], ratio: float | None, earlier: Sequence[float] = ()
) -> dict[str, str]:
    """Clients whose updates are beyond a multiple of the usual norm, and what is said of each.

    The bound is robust as long as most of the round's clients are honest. In the first round of a federation
    with a single client there is nothing to compare with, and with two the smaller is the usual one.

    Args:
        norms: Norms of the round's updates by client.
        ratio: The multiple of the usual norm. None: nobody.
        earlier: Medians of earlier rounds.

    Example:
        >>> implausible({"a": 1.0, "b": 1.2, "c": 1.4, "d": 5000.0}, ratio=100.0)
        {'d': 'its update has norm 5e+03, 4.17e+03 times the usual 1.2, above `trainer.max_update_norm_ratio` 100'}
    """
    usual = usual_norm(list(norms.values()), earlier)
    if ratio is None or usual is None:
        return {}
    return {
        client: f"its update has norm {norm:.3g}, {norm / usual:.3g} times the usual {usual:.3g}, above "
        f"`trainer.max_update_norm_ratio` {ratio:g}"
        for client, norm in norms.items()
        if not norm <= ratio * usual
    }


class ImplausibleUpdate(ValueError):
    """Why a client is left out of its round: its update is too large to be believed."""
