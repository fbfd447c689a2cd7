import re
from typing import Any

import numpy as np
import pytest
import torch

from lit_fed.metrics import TaskTransferAccuracy, forward_transfer, task_transfer

NAN = float("nan")


def test_equals_the_formula() -> None:
    generator = np.random.default_rng(0)
    for num_tasks in (2, 3, 7):
        matrix, initial = (
            generator.uniform(size=(num_tasks, num_tasks)),
            generator.uniform(size=num_tasks),
        )
        # Tasks from 1, as the definition counts them.
        pairs = [(matrix[t - 2, t - 1], initial[t - 1]) for t in range(2, num_tasks + 1)]
        expected = 100 * sum(r for r, _ in pairs) / (num_tasks - 1)
        expected_fwt = 100 * sum(r - b for r, b in pairs) / (num_tasks - 1)
        tta = TaskTransferAccuracy(num_tasks)
        fwt = TaskTransferAccuracy(num_tasks, mode="fwt")
        for metric in (tta, fwt):
            for after in range(-1, num_tasks):
                row = initial if after < 0 else matrix[after]
                for task, value in enumerate(row):
                    metric.update(float(value), after, task, weight=5)
        assert tta.compute().item() == pytest.approx(expected, rel=1e-5)
        assert fwt.compute().item() == pytest.approx(expected_fwt, rel=1e-4, abs=1e-4)


def test_only_the_next_task_counts() -> None:
    matrix = torch.full((3, 3), NAN)
    matrix[0, 1], matrix[1, 2] = 0.5, 1.0
    assert task_transfer(matrix).item() == 75.0
    matrix[0, 2] = matrix[2, 0] = matrix[1, 1] = 0.0
    assert task_transfer(matrix).item() == 75.0


def test_can_be_read_during_the_sequence() -> None:
    matrix = torch.tensor([[0.9, 0.5, 0.1], [NAN, NAN, NAN], [NAN, NAN, NAN]])
    assert task_transfer(matrix).item() == 50.0


def test_missing_cell_is_nan() -> None:
    assert task_transfer(torch.tensor([[0.9, NAN], [0.9, 0.9]])).isnan()
    assert forward_transfer(
        torch.tensor([[0.9, 0.5], [0.9, 0.9]]), torch.tensor([0.5, NAN])
    ).isnan()
    # Not needed: the first task has nothing before it.
    assert forward_transfer(torch.tensor([[0.9, 0.5], [0.9, 0.9]]), torch.tensor([NAN, 0.5])) == 0


def test_one_task_is_nan() -> None:
    tta = TaskTransferAccuracy(1)
    tta.update(1.0, after=0, task=0)
    assert tta.compute().isnan()


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
@pytest.mark.parametrize("mode", ["accuracy", "fwt"])
def test_no_update_is_nan(mode: Any) -> None:
    assert TaskTransferAccuracy(3, mode=mode).compute().isnan()


def test_constant_classifier_and_model_that_never_learns() -> None:
    constant, nothing = torch.full((3, 3), 0.5), torch.zeros(3, 3)
    assert task_transfer(constant).item() == 50.0
    assert forward_transfer(constant, torch.full((3,), 0.5)).item() == 0.0
    assert task_transfer(nothing).item() == 0.0
    assert forward_transfer(nothing, torch.zeros(3)).item() == 0.0


def test_adaptation_rounds_choose_the_evaluation() -> None:
    tta = TaskTransferAccuracy(3, adaptation_rounds=1)
    for after, task in ((0, 1), (1, 2)):
        for rounds, value in enumerate([0.0, 0.5, 1.0]):
            tta.update(value, after, task, rounds=rounds)
        tta.update(1.0, after=after, task=0)
    assert tta.compute().item() == 50.0


def test_forward_transfer_after_adaptation_still_compares_with_the_start() -> None:
    fwt = TaskTransferAccuracy(2, mode="fwt", adaptation_rounds=1)
    fwt.update(0.25, after=-1, task=0)
    fwt.update(0.25, after=-1, task=1)
    fwt.update(0.75, after=0, task=1, rounds=1)
    assert fwt.compute().item() == 50.0


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match="`mode` is expected to be one of 'accuracy', 'fwt', but"):
        TaskTransferAccuracy(2, mode="bwt")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`adaptation_rounds` is expected to be at least 0, but"):
        TaskTransferAccuracy(2, adaptation_rounds=-1)
    with pytest.raises(ValueError, match="`rounds` is expected to be at least 0, but got -1"):
        TaskTransferAccuracy(2).update(1.0, 0, 1, rounds=-1)
    with pytest.raises(ValueError, match=re.escape("shape [2], one accuracy a task, but has [3]")):
        forward_transfer(torch.eye(2), torch.ones(3))
