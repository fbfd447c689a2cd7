import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score

from lit_fed.metrics import CleanAccuracyDrop, clean_accuracy_drop


def test_it_is_the_difference_of_two_accuracies() -> None:
    draw = np.random.default_rng(1)
    labels, preds = draw.integers(3, size=(2, 50))
    metric = CleanAccuracyDrop(reference=80.0)
    for part in np.split(np.arange(50), [11]):
        metric.update(torch.tensor(labels[part] == preds[part]))
    expected = 80 - 100 * accuracy_score(labels, preds)
    assert metric.compute().item() == pytest.approx(expected, abs=1e-4)
    whole = CleanAccuracyDrop(reference=80.0)
    whole.update(accuracy_score(labels, preds), weight=50)
    assert whole.compute().item() == pytest.approx(expected, abs=1e-4)
    assert clean_accuracy_drop(80, 100 * accuracy_score(labels, preds)).item() == pytest.approx(
        expected, abs=1e-4
    )


def test_what_was_never_attacked_loses_nothing() -> None:
    metric = CleanAccuracyDrop(reference=75.0)
    assert metric.compute().isnan()
    metric.update(torch.tensor([True, True, False, True]))
    assert metric.compute().item() == 0.0
    with pytest.raises(ValueError, match="`reference` is expected to be from 0 to 100"):
        CleanAccuracyDrop(101)
