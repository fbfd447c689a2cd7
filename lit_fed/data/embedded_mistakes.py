"""The embedded default data: what is wrong with a translation, of English–Chinese sentences of the project's own."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, get_args

import numpy as np
import numpy.typing as npt

from lit_fed.data.embedded.collection import Exhausted, collect
from lit_fed.data.embedded.generator import Mistake, Pair, Split, draws
from lit_fed.data.embedded.world import world
from lit_fed.data.sources.source import Source
from lit_fed.limits import require_at_least

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["EmbeddedMistakes"]

MISTAKES: tuple[Mistake, ...] = ("nothing", "thing", "action", "figure", "sense", "role")

_SIZES: dict[Split, int] = {
    "train": 1200,
    "validation": 300,
    "test": 480,
    "public": 600,
    "unseen_names": 180,
    "longer": 300,
    "register": 300,
}
# An author has between three and five quarters of the mean of all.
_SMALLEST, _LARGEST = 0.75, 1.25


class EmbeddedMistakes(Source):
    """English sentences with a Chinese translation each, and what is wrong with it.

    The label is one of six: ``nothing``; a ``thing``, a colour or a place; the ``action``; a ``figure``, that is a
    number, day, month or hour; the ``sense``, such as *will not* for *refused to*; or the ``role``: who did it
    to whom.

    Ten authors wrote the sentences. Each writes about people of their own, knows half of the words of
    each list, and has a style. In the training split the mistakes are divided unevenly: an author's
    mix of labels is drawn from a Dirichlet distribution, so that nobody alone can learn all six well. That
    is what a federation over the column ``author`` is for. The other splits have all labels and authors
    equally often.

    Columns: ``english``, ``chinese``, ``label`` (with names), ``author``. Rows are deterministic by ``seed``;
    no sentence of either language occurs twice in a split, nor in two splits, whatever their sizes and
    seeds; and one side alone does not tell the label.

    Args:
        split: ``train``, ``validation``, ``test``, ``public`` (people and sentences that no client has, for the
            server), or a shifted test set: ``unseen_names`` (people who occur nowhere else), ``longer``
            (clauses around the sentence), ``register`` (written language).
        size: Rows. None: 1200 for train, 600 for public, 480 for test, 180 for unseen names, 300 for the others.
        seed: Seed of the drawing.
        skew: Concentration of the Dirichlet distribution in the training split: the smaller, the more
            uneven. None: even there as well.

    Raises:
        ValueError: If ``split`` is not one of those above, ``size`` less than 60 or ``skew`` not positive.
            ``load`` raises it if the split has not that many distinct rows.

    Example:
        >>> rows = EmbeddedMistakes("test", size=60).load()
        >>> rows.features["label"].int2str(rows["label"][:3])
        ['figure', 'action', 'sense']
    """

    def __init__(
        self,
        split: Split = "train",
        size: int | None = None,
        seed: int = 0,
        skew: float | None = 0.3,
    ) -> None:
        if split not in _SIZES:
            raise ValueError(f"split is expected to be one of {get_args(Split)}, but got {split!r}")
        if skew is not None and not skew > 0:
            raise ValueError(f"skew is expected to be positive or null, but got {skew}")
        self.split: Split = split
        self.size = _SIZES[split] if size is None else size
        require_at_least("EmbeddedMistakes.size", self.size, len(MISTAKES) * len(world().authors))
        self.seed = seed
        self.skew = skew

    def load(self) -> Dataset:
        """Draw the rows, shuffled."""
        from datasets import ClassLabel, Dataset, Features, Value

        rng = random.Random(f"{self.split}/mistakes/{self.seed}")
        streams, counts = [], []
        for author, by_mistake in zip(world().authors, self._counts(), strict=True):
            for mistake, count in zip(MISTAKES, by_mistake, strict=True):
                streams.append(draws(self.split, [mistake], world().frames, rng, author))
                counts.append(count)
        try:
            pairs: list[Pair] = collect(streams, counts, set())
        except Exhausted as drawn:
            raise ValueError(
                f"size is expected to be at most about {drawn} for split {self.split!r}, but got {self.size}"
            ) from None
        random.Random(f"{self.split}/{self.seed}").shuffle(pairs)
        return Dataset.from_dict(
            {
                "english": [pair.english for pair in pairs],
                "chinese": [pair.chinese for pair in pairs],
                "label": [MISTAKES.index(pair.mistake) for pair in pairs],
                "author": [pair.author for pair in pairs],
            },
            Features(
                {
                    "english": Value("string"),
                    "chinese": Value("string"),
                    "label": ClassLabel(names=list(MISTAKES)),
                    "author": Value("string"),
                }
            ),
        )

    def _counts(self) -> list[list[int]]:
        """How many rows of each mistake each author has, [authors][mistakes]; they sum to ``size``."""
        authors, mistakes = len(world().authors), len(MISTAKES)
        if self.split != "train" or self.skew is None:
            shares = np.full((authors, mistakes), 1 / (authors * mistakes))
        else:
            rng = np.random.default_rng([self.seed, authors])
            sizes = rng.uniform(_SMALLEST, _LARGEST, authors)
            mixes = rng.dirichlet(np.full(mistakes, self.skew), authors)
            shares = (sizes / sizes.sum())[:, None] * mixes
        return _rounded(shares * self.size, self.size)


def _rounded(parts: npt.NDArray[np.float64], total: int) -> list[list[int]]:
    """Whole numbers beside the parts that sum to ``total``: the largest remainders are rounded up."""
    whole = np.floor(parts).astype(int)
    remainders = (parts - whole).ravel()
    up = np.argsort(-remainders, kind="stable")[: total - int(whole.sum())]
    whole.ravel()[up] += 1
    counts: list[list[int]] = whole.tolist()
    return counts
