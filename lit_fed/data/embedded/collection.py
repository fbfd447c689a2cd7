"""Collecting of drawn pairs, none of whose sentences occurs twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lit_fed.data.embedded.generator import Pair

# Where this many draws in a row bring nothing new, a split is as good as exhausted.
_PATIENCE = 2000


class Exhausted(Exception):
    """There are no more distinct sentences: the message says how many pairs there were."""


def collect(
    streams: Sequence[Iterator[Pair | None]], counts: Sequence[int], seen: set[str]
) -> list[Pair]:
    """So many pairs of each stream, by turns.

    Args:
        streams: Endless draws, see :func:`~lit_fed.data.embedded.generator.draws`.
        counts: How many pairs of each.
        seen: Sentences that may not occur again; those of the pairs are added.

    Raises:
        Exhausted: If a stream has not that many.
    """
    pairs: list[Pair] = []
    left = list(counts)
    while any(left):
        for which, stream in enumerate(streams):
            if left[which]:
                left[which] -= 1
                pairs.append(_next(stream, seen, len(pairs)))
    return pairs


def _next(stream: Iterator[Pair | None], seen: set[str], drawn: int) -> Pair:
    misses = 0
    for pair in stream:
        if pair is None:
            continue
        if pair.english not in seen and pair.chinese not in seen:
            seen.update((pair.english, pair.chinese))
            return pair
        misses += 1
        if misses == _PATIENCE:
            raise Exhausted(str(drawn))
    raise AssertionError("a stream of draws is expected to be endless")
