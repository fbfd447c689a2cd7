"""The task accuracy matrix R[t, j]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor
from torchmetrics.utilities.plot import plot_confusion_matrix

from lit_fed.metrics.task_metric import TaskMetric

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure


class TaskMatrix(TaskMetric):
    """R[t, j]: the accuracy on task j after training on task t, in [0, 1].

    The matrix of Lopez-Paz and Ranzato, "Gradient Episodic Memory for Continual Learning" (2017),
    https://arxiv.org/abs/1706.08840. A cell which was never evaluated is NaN; before the first
    update the whole matrix is. Tasks are counted from 0.

    Args:
        num_tasks: Number T of tasks in the sequence.
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Returns of ``compute``:
        R, [T, T]: a row for what was trained on last, a column for what was evaluated.

    Example:
        >>> import torch
        >>> matrix = TaskMatrix(num_tasks=2)
        >>> logits = torch.tensor([[0.1, 0.9], [0.8, 0.2]])
        >>> labels = torch.tensor([1, 1])
        >>> matrix.update(logits.argmax(-1) == labels, after=0, task=0)
        >>> matrix.update(0.75, after=1, task=0, weight=40)
        >>> matrix.update(1.0, after=1, task=1, weight=40)
        >>> matrix.compute()
        tensor([[0.5000,    nan],
                [0.7500, 1.0000]])
    """

    higher_is_better = True

    def compute(self) -> Tensor:
        """R, [T, T]."""
        return self.matrix()

    def plot(
        self,
        val: Tensor | None = None,
        ax: Axes | None = None,
        add_text: bool = True,
        labels: Sequence[str] | None = None,
        cmap: Colormap | str | None = None,
    ) -> tuple[Figure | None, Axes]:
        """Draws R as a heat map, in percent; cells never evaluated stay empty.

        Args:
            val: A matrix from ``compute``; by default the present one.
            ax: Where to draw; by default in a new figure.
            add_text: Write the numbers into the cells.
            labels: Names of the tasks; by default 0 to T - 1.
            cmap: Matplotlib's colour map.

        Returns:
            The figure and the axes.

        Raises:
            ModuleNotFoundError: If matplotlib is not installed.
            ValueError: If ``labels`` has another length than T.
        """
        matrix = self.compute() if val is None else val
        names = None if labels is None else list(labels)
        figure, axes = plot_confusion_matrix(100 * matrix, ax, add_text, names, cmap)
        axes.set_xlabel("Accuracy (%) on task")
        axes.set_ylabel("after task")
        for text in axes.texts:
            text.set_visible(text.get_text() != "nan")
        return figure, axes
