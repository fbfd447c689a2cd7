import re
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, recall_score

from lit_fed.metrics import GeneralizationUnderShift, shift_ratio

SHIFTS = ["typos", "idioms", "negation"]


def filled(mode: Any, accuracies: list[float], in_distribution: float = 1.0) -> float:
    gus = GeneralizationUnderShift(SHIFTS, mode=mode)
    for size, (name, accuracy) in enumerate(zip(SHIFTS, accuracies, strict=True), start=1):
        gus.update(accuracy, name, weight=10 * size)
    gus.update(in_distribution, None, weight=3)
    return gus.compute().item()


def test_macro_equals_scikit_learn() -> None:
    # The mean accuracy over sets is the macro recall with the set as the class.
    generator = np.random.default_rng(0)
    which = generator.integers(0, 3, 200)
    right = generator.uniform(size=200) < 0.6
    gus = GeneralizationUnderShift(SHIFTS)
    for index, name in enumerate(SHIFTS):
        for batch in np.array_split(right[which == index], 4):
            gus.update(torch.from_numpy(batch), name)
    predicted = np.where(right, which, 3)
    expected = recall_score(which, predicted, labels=[0, 1, 2], average="macro")
    assert gus.compute().item() == pytest.approx(100 * expected, rel=1e-5)
    assert expected != accuracy_score(which, predicted)


def test_modes_by_hand() -> None:
    assert filled("macro", [0.25, 0.5, 0.75]) == pytest.approx(50.0)
    assert filled("worst", [0.5, 0.25, 0.75]) == pytest.approx(25.0)
    assert filled("ratio", [0.25, 0.5, 0.75], in_distribution=0.8) == pytest.approx(62.5)
    assert filled("ratio", [1.0, 1.0, 1.0], in_distribution=0.5) == pytest.approx(200.0)


def test_constant_classifier() -> None:
    assert filled("macro", [0.5, 0.5, 0.5], in_distribution=0.5) == 50.0
    assert filled("worst", [0.5, 0.5, 0.5], in_distribution=0.5) == 50.0
    assert filled("ratio", [0.5, 0.5, 0.5], in_distribution=0.5) == 100.0


@pytest.mark.parametrize("mode", ["macro", "worst", "ratio"])
def test_never_right(mode: Any) -> None:
    assert filled(mode, [0.0, 0.0, 0.0], in_distribution=0.0) == 0.0


def test_ratio_to_nothing_cannot_be_told() -> None:
    assert shift_ratio(torch.tensor([0.5]), torch.tensor(0.0)).isnan()
    assert np.isnan(filled("ratio", [0.5, 0.0, 0.0], in_distribution=0.0))


@pytest.mark.parametrize("mode", ["macro", "worst", "ratio"])
def test_set_never_evaluated(mode: Any) -> None:
    gus = GeneralizationUnderShift(SHIFTS, mode=mode)
    gus.update(1.0, "typos")
    gus.update(1.0, None)
    assert gus.compute().isnan()


def test_ratio_needs_the_set_in_distribution() -> None:
    gus = GeneralizationUnderShift(["typos"], mode="ratio")
    gus.update(1.0, "typos")
    assert gus.compute().isnan()


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_empty() -> None:
    assert GeneralizationUnderShift(SHIFTS).compute().isnan()


def test_forward_gives_the_batch() -> None:
    gus = GeneralizationUnderShift(["typos"])
    assert gus(torch.tensor([True, True]), "typos").item() == 100.0
    assert gus(torch.tensor([False, False]), "typos").item() == 0.0
    assert gus.compute().item() == 50.0


@pytest.mark.parametrize("shifts", [[], "typos", ["typos", "typos"]])
def test_bad_shifts(shifts: Any) -> None:
    message = f"expected to list different test sets, at least one, but got {shifts!r}"
    with pytest.raises(ValueError, match=re.escape(message)):
        GeneralizationUnderShift(shifts)


def test_bad_input() -> None:
    with pytest.raises(
        ValueError, match="`mode` is expected to be one of 'macro', 'above_chance', 'worst', 'rat"
    ):
        GeneralizationUnderShift(SHIFTS, mode="mean")  # type: ignore[arg-type]
    message = "`shift` is expected to be one of 'typos', 'idioms', 'negation', but got 'typo'"
    with pytest.raises(ValueError, match=message):
        GeneralizationUnderShift(SHIFTS).update(1.0, "typo")
    with pytest.raises(ValueError, match="a share, not a percentage"):
        GeneralizationUnderShift(SHIFTS).update(80.0, "typos")


def test_above_chance_by_hand() -> None:
    gus = GeneralizationUnderShift(["typos", "idioms"], "above_chance", chance=[0.5, 0.2])
    gus.update(0.75, "typos", 10)
    gus.update(0.1, "idioms", 10)
    assert float(gus.compute()) == pytest.approx(25)
    with pytest.raises(ValueError, match='`chance` is expected with mode="above_chance" only'):
        GeneralizationUnderShift(["typos"], chance=0.5)
    with pytest.raises(ValueError, match=r"`chance` is expected to lie in \[0, 1\)"):
        GeneralizationUnderShift(["typos"], "above_chance", chance=1.0)
