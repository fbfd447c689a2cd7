"""Translations in which something was exchanged, made without labels."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Span = tuple[int, ...]

_LONGEST = 4
_TRIALS = 20
_FROM_WITHIN = 0.6
_REPEATED = 0.5
_BOTH_WAYS = 0.6


@dataclass(frozen=True)
class Tampered:
    """A sentence in which something was exchanged.

    Attributes:
        tokens: Its tokens.
        marks: For each, whether it was put there.
        gone: The tokens in whose place they are.
    """

    tokens: Span
    marks: tuple[bool, ...]
    gone: Span


class Tamperer:
    """Exchanges spans of a sentence for others that stand between the same neighbours somewhere else.

    What stands between the same tokens is mostly of the same class: a noun for a noun, a number for a
    number. Part of the exchanges take a span from the sentence itself, or make two of its spans change
    places: who does what to whom; what a sentence says twice, such as a name that a pronoun stands for on the other
    side, is exchanged more often than the rest. It is the replacement of ELECTRA (Clark et al., 2020,
    https://arxiv.org/abs/2003.10555) with counted contexts in place of a generator.

    Args:
        sentences: Token ids of the sentences whose spans are used.
        start: A token that stands for the beginning of a sentence.

    Example:
        >>> tamperer = Tamperer([(5, 6, 7), (5, 8, 7)], start=0)
        >>> tamperer((5, 6, 7), random.Random(0))
        Tampered(tokens=(5, 8, 7), marks=(False, True, False), gone=(6,))
    """

    def __init__(self, sentences: Iterable[Sequence[int]], start: int) -> None:
        self._start = start
        fillers: defaultdict[tuple[int, int], list[Span]] = defaultdict(list)
        for sentence in sentences:
            tokens = (start, *sentence)
            for first, last in _spans(tokens):
                fillers[tokens[first - 1], tokens[last]].append(tokens[first:last])
        self._fillers = dict(fillers)
        self._known = {context: frozenset(spans) for context, spans in fillers.items()}

    def __call__(self, sentence: Sequence[int], rng: random.Random) -> Tampered | None:
        """Exchange something; None if nothing fits."""
        tokens = (self._start, *sentence)
        repeated = _repeated(tokens)
        for _ in range(_TRIALS):
            if repeated and rng.random() < _REPEATED:
                (first, last), within = rng.choice(repeated), True
            else:
                first = rng.randrange(1, len(tokens) - 1)
                last = first + rng.randint(1, min(_LONGEST, len(tokens) - 1 - first))
                within = rng.random() < _FROM_WITHIN
            new = self._filler(tokens, first, last, within, rng)
            if new is None:
                continue
            edits = {first: (last, new)}
            if within and rng.random() < _BOTH_WAYS:
                edits |= self._return(tokens, first, last, new, rng)
            changed, marks = _edited(tokens, edits)
            if changed != tokens:
                gone = tuple(t for a, (b, _) in sorted(edits.items()) for t in tokens[a:b])
                return Tampered(changed[1:], marks[1:], gone)
        return None

    def _filler(
        self, tokens: Span, first: int, last: int, within: bool, rng: random.Random
    ) -> Span | None:
        """Another span for the place, with no token in common with the one that is there."""
        old = set(tokens[first:last])
        context = tokens[first - 1], tokens[last]
        if not within:
            spans = self._fillers.get(context)
            new = rng.choice(spans) if spans else None
            return new if new and old.isdisjoint(new) else None
        known = self._known.get(context, frozenset())
        own = {tokens[a:b] for a, b in _spans(tokens)}
        fitting = sorted(span for span in known & own if old.isdisjoint(span))
        return rng.choice(fitting) if fitting else None

    def _return(
        self, tokens: Span, first: int, last: int, new: Span, rng: random.Random
    ) -> dict[int, tuple[int, Span]]:
        """The edit that puts the replaced span where the new one came from, if it fits there."""
        old = tokens[first:last]
        places = [
            (a, b)
            for a, b in _spans(tokens)
            if tokens[a:b] == new
            and (b <= first or a >= last)
            and old in self._known.get((tokens[a - 1], tokens[b]), frozenset())
        ]
        if not places:
            return {}
        a, b = rng.choice(places)
        return {a: (b, old)}


def _repeated(tokens: Span) -> list[tuple[int, int]]:
    """The places of spans of two tokens or more that occur elsewhere as well, such as a name that is said again.

    Of spans within each other the longest.
    """
    places: defaultdict[Span, list[tuple[int, int]]] = defaultdict(list)
    for first, last in _spans(tokens):
        if last - first > 1:
            places[tokens[first:last]].append((first, last))
    found = [place for several in places.values() if len(several) > 1 for place in several]
    return [
        (a, b)
        for a, b in found
        if not any(c <= a and b <= d and (a, b) != (c, d) for c, d in found)
    ]


def _spans(tokens: Span) -> Iterable[tuple[int, int]]:
    """All places of a span that have a neighbour on either side."""
    for first in range(1, len(tokens) - 1):
        for last in range(first + 1, min(first + _LONGEST, len(tokens) - 1) + 1):
            yield first, last


def _edited(tokens: Span, edits: dict[int, tuple[int, Span]]) -> tuple[Span, tuple[bool, ...]]:
    changed: list[int] = []
    marks: list[bool] = []
    place = 0
    for first in sorted(edits):
        last, new = edits[first]
        changed += [*tokens[place:first], *new]
        marks += [False] * (first - place) + [True] * len(new)
        place = last
    changed += tokens[place:]
    marks += [False] * (len(tokens) - place)
    return tuple(changed), tuple(marks)
