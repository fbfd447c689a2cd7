"""The share of answers that a program finds right."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lit_fed.metrics.running_ratio import RunningRatio, identity
from lit_fed.metrics.text_arguments import require_same_length, require_texts


class RightAnswers(RunningRatio):
    """Share of answers that a program finds right, from 0 to 100; higher is better.

    NaN (nothing to tell): no answer yet.

    Args:
        judge: Says of a row and an answer to it whether it is right, for instance
            ``lit_fed.data.answer_is_right`` of the embedded instruction world; in YAML, the path of a function.
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Raises:
        TypeError: If ``judge`` is no function.

    Example:
        >>> metric = RightAnswers(lambda row, answer: row["sum"] in answer)
        >>> metric.update(preds=["It is 4.", "5"], rows=[{"sum": "4"}, {"sum": "6"}])
        >>> metric.compute()
        tensor(50.)
    """

    higher_is_better = True
    plot_lower_bound = 0.0
    plot_upper_bound = 100.0

    def __init__(self, judge: Callable[[Mapping[str, Any], str], bool], **kwargs: Any) -> None:
        if not callable(judge):
            raise TypeError(
                "`judge` is expected to be a function of a row and an answer, but got "
                f"{type(judge).__name__}"
            )
        super().__init__([identity(judge)], **kwargs)
        self.judge = judge

    def update(self, preds: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
        """Adds answers and the rows that they answer.

        Args:
            preds: The answers.
            rows: A row for each.

        Raises:
            TypeError: If ``preds`` is no sequence of texts.
            ValueError: If they differ in number.
        """
        answers = require_texts("preds", preds)
        require_same_length(len(answers), len(rows), "rows", "a row")
        right = sum(bool(self.judge(row, text)) for row, text in zip(rows, answers, strict=True))
        self.add(right, len(answers))
