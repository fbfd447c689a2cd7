"""The embedded instruction data: questions whose answers a program checks, each client with its own style."""

from __future__ import annotations

import random
from dataclasses import asdict
from typing import TYPE_CHECKING, get_args

from lit_fed.data.embedded.instructions import (
    INSTRUCTION_TASKS,
    PUBLIC_AUTHOR,
    Instruction,
    InstructionSplit,
    InstructionTask,
    Style,
    instances,
    instruction_world,
    worded,
)
from lit_fed.data.sources.source import Source

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["EmbeddedInstructions"]

_DEFAULT_SIZES: dict[InstructionSplit, int] = {
    "train": 2400,
    "validation": 400,
    "test": 800,
    "public": 2400,
}
# Where this many draws in a row bring nothing new, a split is as good as exhausted.
_PATIENCE = 2000


class EmbeddedInstructions(Source):
    """Instructions with a context and a response, in ten clients' styles of answering.

    The rows are drawn from a small world of the project's own (``lit_fed/data/embedded/instructions.yaml``)
    and belong to four tasks:

    1. ``reading``: a question on a text of three facts, no two of a kind.
    2. ``sums``: two figures of two digits to add.
    3. ``sorting``: three or four figures of two digits to put in order.
    4. ``rewriting``: one or two facts to say in other words.

    Columns: ``instruction``, ``context`` (empty for sums), ``response``, ``task``, ``author`` (ten clients, a
    natural column; ``public`` in the public split), ``style`` (each client has one: bare, whole sentences,
    polite, a list, …; Chinese is one client's language), ``language`` (``en``, ``zh``), and what
    :func:`lit_fed.data.answer_is_right` needs to judge any other response: ``answer`` (without style) and
    ``facts`` (of rewriting: each fact's wordings).

    Rows are deterministic by ``seed``. No instance (facts or figures, in whatever order, wording or language)
    is in two splits, whatever their sizes and seeds, and no instruction with its context is twice in one.

    Args:
        split: ``train``, ``validation``, ``test``, or ``public`` (for the server: the embedded decoder was
            trained on such rows, most of them in a neutral style that is no client's).
        size: Rows. None: 2400 for train and public, 800 for test, 400 for validation.
        seed: Seed of the drawing.
        tasks: The tasks to draw from. None: all four.

    Raises:
        ValueError: If ``split`` or a task is not among those above, or ``size`` is less than one a task.
            ``load`` raises it if the split has not that many distinct rows.

    Example:
        >>> rows = EmbeddedInstructions("test", size=40).load()
        >>> rows.column_names[:5], len(set(rows["task"]))
        (['instruction', 'context', 'response', 'task', 'author'], 4)
        >>> from lit_fed.data import answer_is_right
        >>> all(answer_is_right(row, row["response"]) for row in rows)
        True
    """

    def __init__(
        self,
        split: InstructionSplit = "train",
        size: int | None = None,
        seed: int = 0,
        tasks: list[InstructionTask] | None = None,
    ) -> None:
        if split not in _DEFAULT_SIZES:
            raise ValueError(
                f"split is expected to be one of {get_args(InstructionSplit)}, but got {split!r}"
            )
        chosen = INSTRUCTION_TASKS if tasks is None else tasks
        unknown = [task for task in chosen if task not in INSTRUCTION_TASKS]
        if unknown or not chosen or len(set(chosen)) < len(chosen):
            raise ValueError(
                f"tasks is expected to name one or more of {INSTRUCTION_TASKS}, each once, but got "
                f"{tasks!r}"
            )
        count = _DEFAULT_SIZES[split] if size is None else size
        if count < len(chosen):
            raise ValueError(
                f"size is expected to be at least {len(chosen)}, one row a task, but got {size}"
            )
        self.split: InstructionSplit = split
        self.size = count
        self.seed = seed
        self.tasks = tuple(task for task in INSTRUCTION_TASKS if task in chosen)

    def load(self) -> Dataset:
        """Draw the rows, shuffled."""
        from datasets import Dataset, Features, List, Value

        number = len(self.tasks)
        rows: list[Instruction] = []
        for i, task in enumerate(self.tasks):
            rows += self._rows(task, (self.size + number - 1 - i) // number)
        random.Random(f"{self.split}/{self.seed}").shuffle(rows)
        names = list(Instruction.__dataclass_fields__)
        features = Features(
            {
                name: List(List(Value("string"))) if name == "facts" else Value("string")
                for name in names
            }
        )
        records = [asdict(row) for row in rows]
        return Dataset.from_dict(
            {name: [record[name] for record in records] for name in names}, features
        )

    def _rows(self, task: InstructionTask, count: int) -> list[Instruction]:
        rng = random.Random(f"{self.split}/{task}/{self.seed}")
        styles, weights = self._styles(task)
        drawn = instances(self.split, task, rng)
        rows: dict[tuple[str, str], Instruction] = {}
        misses = 0
        while len(rows) < count:
            author, style = rng.choices(styles, weights)[0]
            row = worded(next(drawn), style, author, rng)
            key = (row.instruction, row.context)
            misses = misses + 1 if key in rows else 0
            if misses == _PATIENCE:
                raise ValueError(
                    f"size is expected to be at most about {len(rows) * len(self.tasks)} for split "
                    f"{self.split!r} with tasks {list(self.tasks)}, but got {self.size}"
                )
            rows.setdefault(key, row)
        return list(rows.values())

    def _styles(self, task: InstructionTask) -> tuple[list[tuple[str, Style]], list[float]]:
        """Authors with their styles, and how often they do a task."""
        world = instruction_world()
        if self.split == "public":
            styles = [(PUBLIC_AUTHOR, world.styles[name]) for name in world.public]
            return styles, list(world.public.values())
        authors = [(author.name, author.style) for author in world.authors]
        return authors, [author.tasks[task] for author in world.authors]
