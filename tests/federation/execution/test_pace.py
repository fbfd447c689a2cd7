"""How many clients train at once, by the time that they took."""

import pytest

from lit_fed.federation.execution.vectorized.pace import Pace


def groups(clients: int, rounds: int, ratio: float, size: int = 8) -> list[int]:
    """How many train at once where a row of clients together takes so much of the time of one alone."""
    pace, found = Pace(size), []
    for _ in range(rounds):
        waiting = clients
        while waiting:
            n = pace.next(waiting)
            found.append(n)
            if pace.together is None:
                pace.tell([30] * n, seconds=30 * n * (1.0 if n == 1 else ratio))
            waiting -= n
    return found


@pytest.mark.parametrize(
    ("clients", "ratio", "expected"),
    [
        (10, 1.3, [1, 1, 2, *[1] * 16]),
        (10, 0.8, [1, 1, 2, 6, 8, 2]),
        (2, 0.8, [1, 1, 2]),
        (1, 0.8, [1, 1]),
    ],
)
def test_groups_of_two_rounds(clients: int, ratio: float, expected: list[int]) -> None:
    assert groups(clients, 2, ratio) == expected


def test_a_group_that_is_slower_than_the_trial_promised_decides() -> None:
    pace = Pace(8)
    for seconds in (9.0, 1.0):
        pace.tell([10], seconds)
    pace.tell([10, 10], seconds=1.8)
    assert (pace.together, pace.next(waiting=20)) == (None, 8)
    pace.tell([10] * 8, seconds=8.8)
    assert (pace.together, pace.next(waiting=12)) == (False, 1)
    assert pace.ratio == pytest.approx(1.1)


def test_little_is_lost_where_clients_are_slower_together() -> None:
    """Rounds of ten clients that are 1.3 times as slow together: 0.6 of a client's round of fifty."""
    lost = sum(0.3 * n for n in groups(10, 5, 1.3) if n > 1)
    assert lost / 50 < 0.02
