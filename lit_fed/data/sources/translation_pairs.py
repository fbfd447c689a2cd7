"""Which of two sentences is a translation: a classification task from any parallel corpus."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from lit_fed.data.row_error import located
from lit_fed.data.sources.parallel_corpus import Pairs, author_regex, distinct_pairs
from lit_fed.data.sources.source import Source
from lit_fed.limits import require_at_least, require_fraction

if TYPE_CHECKING:
    from datasets import Dataset

PairSplit = Literal["train", "validation", "test", "public", "traditional", "unseen_authors"]

_SHARES = {"train": 0.7, "validation": 0.05, "test": 0.1, "public": 0.15}
_TASKS = ("short", "medium", "long")
# Each purpose has its own stream of random numbers.
_AUTHORS, _SHUFFLE, _NEGATIVES = range(3)

Positions = npt.NDArray[np.int64]


class TranslationPairs(Source):
    """Sentence pairs with a label that says whether one side is a translation of the other.

    Half the rows of each task are pairs of the corpus (label 1); in the others (label 0) the second
    sides have changed places. A sentence of either side that repeats is left out from its second time
    on, so that each occurs in one row of one split. Splits of the same corpus share no sentence, nor,
    for the shifted ones, a script or an author, whatever their sizes, if `shares`, `author`,
    `author_pattern`, `unseen_authors`, `separate_scripts` and `seed` are the same.

    Columns: those of both sides under their names, ``label``, ``task`` (by the length of the first
    side), ``script`` (of the second side, see :func:`chinese_script`) and, where there are authors,
    ``author`` (of the second side).

    Args:
        source: The corpus, a row a pair.
        split: ``train``, ``validation``, ``test``, ``public``, or a shifted test set: ``traditional``
            (second sides in traditional Chinese characters) or ``unseen_authors``.
        size: Rows; tasks and labels are equally frequent. None: as many as there are.
        text: The column of the first side.
        translation: The column of the second side.
        author: The column that tells who wrote the second side. None: it is not known.
        author_pattern: A regular expression whose first group is the author, searched in that
            column. None: the whole value is the author.
        unseen_authors: Authors who occur in the split of this name only, or the part of all rows
            for which authors are drawn.
        separate_scripts: Whether rows in traditional characters occur in the split ``traditional``
            only; rows that mix scripts are then left out.
        tasks: Names of the tasks, from short to long.
        bounds: The most words of the first side in each task but the last. None: such that tasks are
            about equally frequent in the corpus.
        match_length: Whether sides that change places go with first sides of about the same length,
            so that length alone does not tell.
        shares: Parts of all rows that are not of shifted splits, for ``train``, ``validation``,
            ``test`` and ``public``.
        seed: Of everything that is drawn.

    Raises:
        ValueError: If a setting is out of range, or settings exclude each other.

    >>> from lit_fed.data import EmbeddedPairs
    >>> pairs = TranslationPairs(EmbeddedPairs("test"), "test", 60, separate_scripts=False)
    >>> rows = pairs.load()
    >>> rows.column_names, sum(rows["label"])
    (['english', 'chinese', 'label', 'task', 'script'], 30)
    """

    def __init__(
        self,
        source: Source,
        split: PairSplit = "train",
        size: int | None = None,
        text: str = "english",
        translation: str = "chinese",
        author: str | None = None,
        author_pattern: str | None = None,
        unseen_authors: list[str] | float = 0.1,
        separate_scripts: bool = True,
        tasks: list[str] | None = None,
        bounds: list[int] | None = None,
        match_length: bool = True,
        shares: dict[str, float] | None = None,
        seed: int = 0,
    ) -> None:
        if split not in get_args(PairSplit):
            raise ValueError(
                f"`split` is expected to be one of {get_args(PairSplit)}, but got {split!r}"
            )
        if split == "traditional" and not separate_scripts:
            raise ValueError("`split` traditional is expected with `separate_scripts` true only")
        if split == "unseen_authors" and author is None:
            raise ValueError("`split` unseen_authors needs `author`, but it names no column")
        names = list(_TASKS) if tasks is None else tasks
        if not names or len(set(names)) != len(names):
            raise ValueError(f"`tasks` is expected to give names that differ, but got {names}")
        if bounds is not None and (
            len(bounds) != len(names) - 1
            or sorted(set(bounds)) != bounds
            or any(b < 1 for b in bounds)
        ):
            raise ValueError(
                f"`bounds` is expected to be {len(names) - 1} growing numbers of words, one less "
                f"than `tasks`, but got {bounds}"
            )
        if size is not None and (size % 2 or size < 4 * len(names)):
            raise ValueError(
                f"`size` is expected to be even and at least {4 * len(names)}, 4 for each of "
                f"`tasks`, but got {size}"
            )
        parts = _SHARES if shares is None else shares
        if set(parts) != set(_SHARES) or min(parts.values()) < 0 or sum(parts.values()) > 1 + 1e-9:
            raise ValueError(
                f"`shares` is expected to give parts of 1 for {list(_SHARES)}, but got {parts}"
            )
        if not isinstance(unseen_authors, list):
            require_fraction("unseen_authors", unseen_authors)
        require_at_least("seed", seed, 0)
        self.author_pattern = None if author_pattern is None else author_regex(author_pattern)
        self.source = source
        self.split: PairSplit = split
        self.size = size
        self.text = text
        self.translation = translation
        self.author = author
        self.unseen_authors = unseen_authors
        self.separate_scripts = separate_scripts
        self.tasks = names
        self.bounds = bounds
        self.match_length = match_length
        self.shares = parts
        self.seed = seed

    def load(self) -> Dataset:
        """Read the corpus and draw the rows, shuffled.

        Raises:
            FileNotFoundError: If the corpus is not there.
            ValueError: If it cannot be read, lacks a column or a value, or has too few pairs.
        """
        from datasets import Dataset

        rows = self.source.load()
        with located(self.source.place):
            pairs = distinct_pairs(
                rows, self.text, self.translation, self.author, self.author_pattern
            )
        words = np.asarray([len(text.split()) for text in pairs.texts], np.int64)
        tasks = np.searchsorted(self._bounds(words), words, side="left")
        chosen = self._of_split(pairs)
        members = [chosen[tasks[chosen] == task] for task in range(len(self.tasks))]
        rng = np.random.default_rng([self.seed, _NEGATIVES])
        lengths = np.asarray([len(text) for text in pairs.texts], np.int64)
        first, second, labels = [], [], []
        for own, half in zip(members, self._halves(members), strict=True):
            true, swapped = own[:half], rng.permutation(own[half : 2 * half])
            if self.match_length:
                swapped = swapped[np.argsort(lengths[swapped], kind="stable")]
            first += [true, swapped]
            second += [true, _neighbours(swapped)]
            labels += [np.ones(half, np.int64), np.zeros(half, np.int64)]
        order = rng.permutation(sum(map(len, labels)))
        one, two = np.concatenate(first)[order], np.concatenate(second)[order]
        columns: dict[str, list[Any]] = {
            self.text: [pairs.texts[i] for i in one],
            self.translation: [pairs.translations[i] for i in two],
            "label": np.concatenate(labels)[order].tolist(),
            "task": [self.tasks[tasks[i]] for i in one],
            "script": [pairs.scripts[i] for i in two],
        }
        if self.author is not None:
            columns["author"] = [pairs.authors[i] for i in two]
        return Dataset.from_dict(columns)

    def _bounds(self, words: Positions) -> list[int]:
        if self.bounds is not None:
            return self.bounds
        count = len(self.tasks)
        return [
            int(bound)
            for bound in np.quantile(words, np.arange(1, count) / count, method="inverted_cdf")
        ]

    def _of_split(self, pairs: Pairs) -> Positions:
        """Positions of the split's pairs, in random order."""
        everyone = np.random.default_rng([self.seed, _SHUFFLE]).permutation(len(pairs.scripts))
        script = np.asarray(pairs.scripts)
        plain = np.full(len(script), True)
        if self.separate_scripts:
            plain = (script == "simplified") | (script == "either")
        unseen = np.full(len(script), False)
        if self.author is not None:
            author = np.asarray(pairs.authors)
            unseen = np.isin(author, self._unseen(author[plain].tolist(), author.tolist()))
        start, end = 0.0, 1.0
        if self.split == "traditional":
            wanted = (script == "traditional") & ~unseen
        elif self.split == "unseen_authors":
            wanted = plain & unseen
        else:
            wanted = plain & ~unseen
            names = list(_SHARES)
            start = sum(self.shares[name] for name in names[: names.index(self.split)])
            end = start + self.shares[self.split]
        rows: Positions = everyone[wanted[everyone]]
        return rows[round(start * len(rows)) : round(end * len(rows))]

    def _unseen(self, authors: list[str], everyone: list[str]) -> list[str]:
        if isinstance(self.unseen_authors, list):
            if unknown := sorted(set(self.unseen_authors) - set(everyone)):
                raise ValueError(
                    f"`unseen_authors` is expected to name authors of the corpus, but got {unknown}"
                )
            return self.unseen_authors
        rows = Counter(authors)
        names = sorted(rows)
        wanted = self.unseen_authors * len(authors)
        drawn: list[str] = []
        for i in np.random.default_rng([self.seed, _AUTHORS]).permutation(len(names)):
            # Whoever wrote more than is still wanted stays, so that the part is never exceeded.
            if rows[names[i]] <= wanted:
                drawn.append(names[i])
                wanted -= rows[names[i]]
        return drawn

    def _halves(self, members: list[Positions]) -> list[int]:
        """For each task, how many rows of each label."""
        least = min(len(own) // 2 for own in members)
        count = len(members)
        halves = [least] * count
        if self.size is not None:
            halves = [(self.size // 2 + count - 1 - task) // count for task in range(count)]
        # Two second sides at least are needed to change places.
        if any(max(half, 2) > len(own) // 2 for own, half in zip(members, halves, strict=True)):
            have = dict(zip(self.tasks, map(len, members), strict=True))
            raise ValueError(
                f"split {self.split!r} is expected to have 4 pairs or more for each of `tasks`, and "
                f"enough for `size` {self.size}, but the corpus has so few distinct ones: {have}"
            )
        return halves


def _neighbours(positions: Positions) -> Positions:
    """Positions where neighbours, two and two, have changed places, and three at an odd end.

    >>> _neighbours(np.arange(5)).tolist()
    [1, 0, 3, 4, 2]
    """
    swapped = positions.copy()
    even = len(positions) - (3 if len(positions) % 2 else 0)
    swapped[:even] = positions[:even].reshape(-1, 2)[:, ::-1].ravel()
    swapped[even:] = np.roll(positions[even:], -1)
    return swapped
