"""LA by hand, in the course of a sequence as well."""

import pytest
import torch

from lit_fed.metrics import LearningAccuracy, learning_accuracy

NAN = float("nan")


def test_by_hand() -> None:
    matrix = torch.tensor([[0.9, 0.1, 0.2], [0.5, 0.6, 0.2], [0.4, 0.5, 0.3]])
    assert float(learning_accuracy(matrix)) == pytest.approx(60)
    matrix[2] = NAN
    assert float(learning_accuracy(matrix)) == pytest.approx(75)
    matrix[1, 1] = NAN
    assert learning_accuracy(matrix).isnan()
    assert learning_accuracy(torch.full((2, 2), NAN)).isnan()


def test_the_metric_adds_batches_up() -> None:
    metric = LearningAccuracy(2)
    for right in ([True, True, False], [True]):
        metric.update(torch.tensor(right), after=0, task=0)
    metric.update(0.25, after=1, task=1, weight=8)
    assert float(metric.compute()) == pytest.approx(50)
