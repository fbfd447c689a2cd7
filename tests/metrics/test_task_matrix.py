import re
from collections.abc import Iterator

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from sklearn.metrics import accuracy_score

from lit_fed.metrics import TaskMatrix, above_chance
from lit_fed.metrics.task_metric import last_task

matplotlib.use("Agg")

NAN = float("nan")


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def test_equals_scikit_learn_over_batches() -> None:
    generator = np.random.default_rng(0)
    matrix = TaskMatrix(3)
    expected = np.zeros((3, 3))
    for after in range(3):
        for task in range(3):
            preds, target = generator.integers(0, 4, (2, 101))
            expected[after, task] = accuracy_score(target, preds)
            for start in range(0, 101, 32):
                right = preds[start : start + 32] == target[start : start + 32]
                matrix.update(torch.from_numpy(right), after, task)
    np.testing.assert_allclose(matrix.compute(), expected, rtol=1e-6)


def test_means_weigh_as_much_as_their_examples() -> None:
    matrix = TaskMatrix(1)
    matrix.update(0.5, 0, 0, weight=30)
    matrix.update(torch.ones(10, dtype=torch.bool), 0, 0)
    assert matrix.compute().item() == pytest.approx(0.625)


def test_cells_without_evaluation_are_nan() -> None:
    matrix = TaskMatrix(2)
    matrix.update(1.0, after=0, task=0)
    matrix.update(torch.empty(0), after=0, task=1)
    expected = torch.tensor([[1.0, NAN], [NAN, NAN]])
    torch.testing.assert_close(matrix.compute(), expected, equal_nan=True)


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_before_the_first_update_all_is_nan() -> None:
    assert bool(TaskMatrix(2).compute().isnan().all())


def test_initial_row_is_apart() -> None:
    matrix = TaskMatrix(2)
    matrix.update(0.25, after=-1, task=1)
    assert bool(matrix.compute().isnan().all())
    torch.testing.assert_close(matrix.initial(), torch.tensor([NAN, 0.25]), equal_nan=True)


def test_reset_row_forgets_one_row_only() -> None:
    matrix = TaskMatrix(2)
    matrix.update(0.25, after=0, task=0)
    matrix.update(0.5, after=1, task=0)
    assert matrix.compute()[1, 0] == 0.5
    matrix.reset_row(1)
    matrix.update(0.75, after=1, task=0)
    assert matrix.compute()[0, 0] == 0.25
    assert matrix.compute()[1, 0] == 0.75


def test_reset() -> None:
    matrix = TaskMatrix(1)
    matrix.update(0.0, 0, 0)
    matrix.reset()
    matrix.update(1.0, 0, 0)
    assert matrix.compute().item() == 1.0


def test_usable_after_inference_mode() -> None:
    matrix = TaskMatrix(1)
    with torch.inference_mode():
        matrix.reset()
        matrix.update(0.0, 0, 0)
    matrix.update(1.0, 0, 0)
    matrix.reset_row(0)
    matrix.update(1.0, 0, 0)
    assert matrix.compute().item() == 1.0


@pytest.mark.parametrize(
    ("after", "task", "message"),
    [
        (2, 0, "`after` is expected to be an integer from -1 to 1, but got 2"),
        (-2, 0, "`after` is expected to be an integer from -1 to 1, but got -2"),
        (0, -1, "`task` is expected to be an integer from 0 to 1, but got -1"),
    ],
)
def test_no_such_task(after: int, task: int, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        TaskMatrix(2).update(1.0, after, task)


def test_refused_update_leaves_the_matrix_alone() -> None:
    matrix = TaskMatrix(1)
    matrix.update(1.0, 0, 0)
    with pytest.raises(ValueError, match="a share, not a percentage"):
        matrix.update(50.0, 0, 0)
    assert matrix.compute().item() == 1.0


def test_bad_number_of_tasks() -> None:
    with pytest.raises(ValueError, match="`num_tasks` is expected to be at least 1, but got 0"):
        TaskMatrix(0)
    with pytest.raises(TypeError, match=r"`num_tasks` is expected to be an integer, but"):
        TaskMatrix(1.5)  # type: ignore[arg-type]


def test_above_chance() -> None:
    accuracy = torch.tensor([[0.25, 0.5], [0.625, 1.0], [NAN, 0.0]])
    expected = torch.tensor([[0.0, 0.0], [0.5, 1.0], [NAN, 0.0]])
    torch.testing.assert_close(above_chance(accuracy, [0.25, 0.5]), expected, equal_nan=True)


@pytest.mark.parametrize(
    ("chance", "message"),
    [
        (1.0, "`chance` is expected to lie in [0, 1), but got 1.0"),
        (-0.5, "`chance` is expected to lie in [0, 1), but got -0.5"),
        ([0.5], "`chance` is expected to be a number or 2 numbers, one a task, but has shape [1]"),
    ],
)
def test_bad_chance(chance: float | list[float], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        above_chance(torch.ones(2, 2), chance)


def test_last_task_of_an_empty_matrix() -> None:
    assert last_task(torch.full((2, 2), NAN)) == -1


def test_plot_is_a_heat_map_in_percent() -> None:
    matrix = TaskMatrix(2)
    matrix.update(0.5, after=0, task=0)
    matrix.update(0.25, after=1, task=0)
    matrix.update(1.0, after=1, task=1)
    figure, axes = matrix.plot(labels=["typos", "idioms"])
    assert isinstance(figure, Figure)
    assert [text.get_text() for text in axes.texts if text.get_visible()] == [
        "50.0",
        "25.0",
        "100.0",
    ]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["typos", "idioms"]
    assert axes.get_ylabel() == "after task"
    figure.canvas.draw()


def test_plot_takes_a_matrix_and_axes() -> None:
    _, axes = plt.subplots()
    assert TaskMatrix(2).plot(torch.eye(2), ax=axes, add_text=False)[1] is axes
