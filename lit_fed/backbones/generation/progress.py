"""How far generation has come, on the terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor
from transformers import StoppingCriteria

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_REFRESH = 0.25
"""Seconds between two looks at how many tokens a batch has by now."""


class GenerationProgress:
    """Answers that are done, and tokens a second: a bar on a terminal; elsewhere a line at the end.

    It writes to the standard error, so that answers can be printed beside it.

    Args:
        total: Answers to be generated.
        shown: Whether to show anything.

    Attributes:
        tokens: Tokens that have been generated.
    """

    def __init__(self, total: int, shown: bool) -> None:
        self.tokens = 0
        self._total = total
        self._shown = shown and total > 0
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._start = self._next = time.perf_counter()
        if self._shown:
            self._show()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._shown and error is None:
            line = f"generated {self._total} answers, {self.tokens:,} tokens, {self._rate(self.tokens)}"
            print(line, file=sys.stderr, flush=True)

    @property
    def moves(self) -> bool:
        """Whether there is a bar, which moves within a batch as well."""
        return self._bar is not None

    def look(self, lengths: Callable[[], list[int]]) -> None:
        """Show how many tokens the batch under way has by now, if it is time to.

        Args:
            lengths: Gives the tokens of each of its rows.
        """
        now = time.perf_counter()
        if self._bar is not None and self._task is not None and now >= self._next:
            self._next = now + _REFRESH
            self._bar.update(self._task, speed=self._rate(self.tokens + sum(lengths())))

    def add(self, answers: int, tokens: int) -> None:
        """Count a batch.

        Args:
            answers: How many it has.
            tokens: Tokens that were generated for them.
        """
        self.tokens += tokens
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=answers, speed=self._rate(self.tokens))

    def _rate(self, tokens: int) -> str:
        seconds = max(time.perf_counter() - self._start, 1e-9)
        return f"{tokens / seconds:,.0f} tokens/s"

    def _show(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        console = Console(stderr=True)
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[speed]}"),
                console=console,
            )
            self._task = self._bar.add_task("generate", total=self._total, speed="")
            self._bar.start()


class Watch(StoppingCriteria):
    """Lets the progress look at a batch after each token; no row ends by it.

    Args:
        progress: What shows it.
        start: Tokens of the padded prompts.
        ends: Tokens that end an answer.
        pad: The token after that.
    """

    def __init__(self, progress: GenerationProgress, start: int, ends: list[int], pad: int) -> None:
        self._progress = progress
        self._start, self._ends, self._pad = start, ends, pad

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        """Whether each row is to end [B]: none."""
        self._progress.look(
            lambda: [
                answer_length(row, self._ends, self._pad)
                for row in input_ids[:, self._start :].tolist()
            ]
        )
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def answer_length(tokens: Sequence[int], ends: Collection[int], pad: int) -> int:
    """Tokens of an answer, the one that ends it among them.

    Args:
        tokens: The answer's, padded on the right.
        ends: Tokens that end an answer.
        pad: The token after that.

    Example:
        >>> rows = [5, 6, 3, 0], [5, 3, 0, 0], [5, 6, 0, 0], [5, 6, 7, 8]
        >>> [answer_length(row, ends=[3], pad=0) for row in rows]
        [3, 2, 2, 4]
    """
    for place, token in enumerate(tokens):
        if token in ends:
            return place + 1
    length = len(tokens)
    while length and tokens[length - 1] == pad:
        length -= 1
    return length
