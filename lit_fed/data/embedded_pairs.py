"""Embedded sentence pairs whose sides agree or not, in three tasks: a sequence for continual learning."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Literal, get_args

from lit_fed.data.embedded.collection import Exhausted, collect
from lit_fed.data.embedded.generator import Mistake, Pair, Split, draws
from lit_fed.data.embedded.world import Frame, world
from lit_fed.data.sources.source import Source

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["EmbeddedPairs"]

Task = Literal["lexical", "sentence", "coreference"]
TASKS: tuple[Task, ...] = get_args(Task)

_MISTAKES: dict[Task, tuple[Mistake, ...]] = {
    "lexical": ("thing", "action"),
    "sentence": ("figure", "sense", "role"),
    "coreference": ("reference",),
}
_SIZES: dict[Split, int] = {
    "train": 3600,
    "validation": 600,
    "test": 1200,
    "public": 2400,
    "unseen_names": 600,
    "longer": 600,
    "register": 600,
}


class EmbeddedPairs(Source):
    """English–Chinese sentence pairs with a label that says whether they agree.

    They belong to three tasks, in this order:

    1. ``lexical``: one content word of the Chinese side is translated, or replaced by one that is like it.
    2. ``sentence``: number, time, sense and who does what to whom agree, or one does not.
    3. ``coreference``: the English side has a pronoun, a relative clause or an ellipsis, and the Chinese
       side names who is meant, or the other person.

    Columns: ``english``, ``chinese``, ``label`` (1 the sides agree, 0 they do not), ``task``, ``author``
    (ten authors with vocabulary, acquaintances and habits of their own: a natural column of clients).

    Rows are deterministic by ``seed``. Within each task both labels are equally frequent, and one side
    alone does not tell the label. No sentence of either language occurs twice in a split, nor in two
    splits, whatever their sizes and seeds.

    Args:
        split: ``train``, ``validation``, ``test``, ``public`` (people and sentences that no client has, for the
            server), or a shifted test set: ``unseen_names`` (people who occur nowhere else), ``longer``
            (clauses around the sentence), ``register`` (written language).
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
        if split not in _SIZES:
            raise ValueError(f"split is expected to be one of {get_args(Split)}, but got {split!r}")
        chosen = TASKS if tasks is None else tasks
        unknown = [task for task in chosen if task not in TASKS]
        if unknown or not chosen or len(set(chosen)) < len(chosen):
            raise ValueError(
                f"tasks is expected to name one or more of {TASKS}, each once, but got {tasks!r}"
            )
        count = _SIZES[split] if size is None else size
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

        rows: list[tuple[Task, Pair]] = []
        seen: set[str] = set()
        for task, half in zip(self.tasks, _halves(self.size, len(self.tasks)), strict=True):
            rng = random.Random(f"{self.split}/{task}/{self.seed}")
            streams = [
                draws(self.split, mistakes, _frames(task), rng, alike=True)
                for mistakes in (_MISTAKES[task], ("nothing",))
            ]
            try:
                rows += [(task, pair) for pair in collect(streams, [half, half], seen)]
            except Exhausted as drawn:
                raise ValueError(
                    f"size is expected to be at most about {int(str(drawn)) * len(self.tasks)} for split "
                    f"{self.split!r} with tasks {list(self.tasks)}, but got {self.size}"
                ) from None
        random.Random(f"{self.split}/{self.seed}").shuffle(rows)
        return Dataset.from_dict(
            {
                "english": [pair.english for _, pair in rows],
                "chinese": [pair.chinese for _, pair in rows],
                "label": [int(pair.mistake == "nothing") for _, pair in rows],
                "task": [task for task, _ in rows],
                "author": [pair.author for _, pair in rows],
            },
            Features(
                {name: Value("string") for name in ("english", "chinese")}
                | {"label": Value("int64"), "task": Value("string"), "author": Value("string")}
            ),
        )


def _frames(task: Task) -> tuple[Frame, ...]:
    return world().references if task == "coreference" else world().frames


def _halves(size: int, parts: int) -> list[int]:
    """Divide ``size`` into even parts that differ by 2 at most, and give the half of each."""
    return [(size // 2 + parts - 1 - part) // parts for part in range(parts)]
