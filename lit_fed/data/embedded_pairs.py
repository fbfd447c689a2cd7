"""The embedded default data: English–Chinese sentence pairs that the project writes itself."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, get_args

from lit_fed.data.embedded.frame import Task
from lit_fed.data.embedded.generator import TASKS, Pair, Split, draws
from lit_fed.data.sources.source import Source

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["EmbeddedPairs"]

DEFAULT_SIZES: dict[Split, int] = {
    "train": 3600,
    "validation": 600,
    "test": 1200,
    "public": 2400,
    "unseen_names": 600,
    "longer": 600,
    "register": 600,
}

_FEATURES = {
    "english": "string",
    "chinese": "string",
    "label": "int64",
    "task": "string",
    "author": "string",
}

# Where this many draws in a row bring nothing new, a split is as good as exhausted.
_PATIENCE = 2000


class EmbeddedPairs(Source):
    """English–Chinese sentence pairs with a label that says whether they agree.

    The pairs are drawn from a lexicon and a grammar of the project's own. They belong to three tasks, in
    this order:

    1. ``lexical``: one content word of the Chinese side is translated, or replaced by another of its class.
    2. ``sentence``: negation, who does what to whom, tense, quantity, time agree, or one does not.
    3. ``coreference``: the English side has a pronoun, a relative clause or an ellipsis, and the Chinese
       side names who is meant, or somebody else.

    Columns: ``english``, ``chinese``, ``label`` (1 the sides agree, 0 they do not), ``task``, ``author``
    (ten authors with vocabulary, acquaintances and habits of their own: a natural column of clients).

    Rows are deterministic by ``seed``. Within each task both labels are equally frequent, and one side
    alone does not tell the label. No sentence of either language occurs twice in a split, nor in two
    splits, whatever their sizes and seeds.

    Args:
        split: ``train``, ``validation``, ``test``, ``public`` (for the server; the embedded backbones are
            pre-trained on sentences of it), or a shifted test set: ``unseen_names`` (people who occur
            nowhere else), ``longer`` (an opening and a closing clause around the sentence), ``register``
            (written language).
        size: Rows. None: 3600 for train, 2400 for public, 1200 for test, 600 for the others.
        seed: Seed of the drawing.
        tasks: The tasks to draw from. None: all three.

    Raises:
        ValueError: If ``split`` or a task is not among those above, or ``size`` is odd or less than two a
            task. ``load`` raises it if the split has not that many distinct rows.

    Example:
        >>> rows = EmbeddedPairs("test", size=60).load()
        >>> rows.column_names, sum(rows["label"])
        (['english', 'chinese', 'label', 'task', 'author'], 30)
    """

    def __init__(
        self,
        split: Split = "train",
        size: int | None = None,
        seed: int = 0,
        tasks: list[Task] | None = None,
    ) -> None:
        if split not in DEFAULT_SIZES:
            raise ValueError(f"split is expected to be one of {get_args(Split)}, but got {split!r}")
        chosen = TASKS if tasks is None else tasks
        unknown = [task for task in chosen if task not in TASKS]
        if unknown or not chosen or len(set(chosen)) < len(chosen):
            raise ValueError(
                f"tasks is expected to name one or more of {TASKS}, each once, but got {tasks!r}"
            )
        count = DEFAULT_SIZES[split] if size is None else size
        if count % 2 or count < 2 * len(chosen):
            raise ValueError(
                f"size is expected to be even and at least {2 * len(chosen)}, so that the labels are "
                f"balanced in each of {len(chosen)} task(s), but got {size}"
            )
        self.split: Split = split
        self.size = count
        self.seed = seed
        self.tasks: tuple[Task, ...] = tuple(task for task in TASKS if task in chosen)

    def load(self) -> Dataset:
        """Draw the rows, shuffled."""
        from datasets import Dataset, Features, Value

        pairs: list[Pair] = []
        seen: set[str] = set()
        for task, count in zip(self.tasks, _halves(self.size, len(self.tasks)), strict=True):
            rng = random.Random(f"{self.split}/{task}/{self.seed}")
            pairs.extend(self._balanced(task, count, rng, seen))
        random.Random(f"{self.split}/{self.seed}").shuffle(pairs)
        rows = [asdict(pair) for pair in pairs]
        features = Features({name: Value(dtype) for name, dtype in _FEATURES.items()})
        return Dataset.from_dict(
            {name: [row[name] for row in rows] for name in _FEATURES}, features
        )

    def _balanced(
        self, task: Task, count: int, rng: random.Random, seen: set[str]
    ) -> Sequence[Pair]:
        streams = [draws(self.split, task, label, rng) for label in (0, 1)]
        pairs: list[Pair] = []
        misses = 0
        while len(pairs) < 2 * count:
            pair = next(streams[len(pairs) % 2])
            if pair is None:
                continue
            if pair.english in seen or pair.chinese in seen:
                misses += 1
                if misses == _PATIENCE:
                    raise ValueError(
                        f"size is expected to be at most about {len(pairs) * len(self.tasks)} "
                        f"for split {self.split!r} with tasks {list(self.tasks)}, but got {self.size}"
                    )
                continue
            misses = 0
            seen.update((pair.english, pair.chinese))
            pairs.append(pair)
        return pairs


def _halves(size: int, parts: int) -> list[int]:
    """Divide ``size`` into even parts that differ by 2 at most, and give the half of each."""
    return [(size // 2 + parts - 1 - part) // parts for part in range(parts)]
