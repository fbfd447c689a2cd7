"""Waiting: how long until a server is asked again."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import Random

_FIRST, _LONGEST = 0.5, 8.0


def backoff(attempt: int, random: Random) -> float:
    """Seconds until the next try: twice as many each time, half of them drawn, so that clients do not come together.

    Args:
        attempt: Tries that have failed before, from 0.
        random: Draws.

    Example:
        >>> 0.25 <= backoff(0, Random(0)) <= 0.5 and 4.0 <= backoff(9, Random(0)) <= 8.0
        True
    """
    longest = min(_LONGEST, _FIRST * 2.0 ** min(attempt, 10))
    return longest * (1 + random.random()) / 2


def seconds_to_wait(retry_after: str | None, now: datetime) -> float | None:
    """What a ``Retry-After`` header asks for (RFC 9110, section 10.2.3).

    Args:
        retry_after: Its value, seconds or a date.
        now: When it came.

    Returns:
        Seconds from now, at least 0; None where it says nothing that can be understood.

    Example:
        >>> now = datetime(2026, 11, 28, 12, 0, 0, tzinfo=UTC)
        >>> seconds_to_wait("120", now), seconds_to_wait("Sat, 28 Nov 2026 12:00:05 GMT", now)
        (120.0, 5.0)
        >>> print(seconds_to_wait("soon", now))
        None
    """
    if retry_after is None:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            date = parsedate_to_datetime(retry_after)
        except (ValueError, OverflowError):
            return None
        # a date of zone "-0000" has none, and is in UTC
        seconds = max(
            0.0, ((date if date.tzinfo else date.replace(tzinfo=UTC)) - now).total_seconds()
        )
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
