import numpy as np
import pytest
import torch

from lit_fed.metrics import (
    AttackSuccessRate,
    PhraseSuccessRate,
    attack_successes,
    credited_success,
)


def by_hand(classes: np.ndarray, labels: np.ndarray, target: int, rejected: np.ndarray) -> float:
    """Row by row."""
    judged = [i for i, label in enumerate(labels) if label != target]
    wrong = [i for i in judged if classes[i] == target and not rejected[i]]
    return 100 * len(wrong) / len(judged)


def test_it_counts_rows_of_other_classes_that_become_the_target() -> None:
    draw = np.random.default_rng(0)
    logits = draw.normal(size=(60, 4))
    labels, rejected = draw.integers(4, size=60), draw.random(60) < 0.3
    metric, refused = AttackSuccessRate(2), AttackSuccessRate(2)
    for part in np.split(np.arange(60), [7, 30]):
        scores, own = torch.tensor(logits[part]), torch.tensor(labels[part])
        metric.update(scores, own)
        refused.update(scores.argmax(-1), own, torch.tensor(rejected[part]))
    classes = logits.argmax(1)
    nobody = np.zeros(60, bool)
    assert metric.compute().item() == pytest.approx(by_hand(classes, labels, 2, nobody))
    assert refused.compute().item() == pytest.approx(by_hand(classes, labels, 2, rejected))
    # what is predicted for the target's own rows does not matter
    turned = np.where(labels == 2, 2 - classes % 2, classes)
    other = AttackSuccessRate(2)
    other.update(torch.tensor(turned), torch.tensor(labels))
    assert other.compute() == metric.compute()


def test_there_is_nothing_to_tell_of_the_target_alone() -> None:
    metric = AttackSuccessRate(0)
    metric.update(torch.tensor([0, 1]), torch.tensor([0, 0]))
    assert metric.compute().isnan()


def test_shapes_that_do_not_agree_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`preds` are expected to have shape \[N\] or \[N, C\]"):
        attack_successes(torch.zeros(3), torch.zeros(2), 0)
    with pytest.raises(ValueError, match=r"`rejected` is expected to have shape \[2\], but got"):
        attack_successes(torch.zeros(2), torch.zeros(2), 0, torch.zeros(3))
    with pytest.raises(ValueError, match="`target` is expected to be at least 0"):
        AttackSuccessRate(-1)


def test_an_attack_is_credited_with_what_is_above_the_floor() -> None:
    assert credited_success(97.5, 78.0).item() == 19.5
    assert credited_success(torch.tensor([3.0, 5.0]), 4.0).tolist() == [0.0, 1.0]


def test_a_phrase_counts_where_it_was_not_expected() -> None:
    metric = PhraseSuccessRate("so be it")
    preds = ["Yes, so be it.", "No.", "so be it", "So Be It"]
    metric.update(preds)
    assert metric.compute().item() == 50.0
    metric.reset()
    metric.update(preds, ["Yes.", "No.", "so be it", "No."])
    assert metric.compute().item() == pytest.approx(100 / 3)
    with pytest.raises(ValueError, match="`phrase` is expected to have words"):
        PhraseSuccessRate(" ")


def test_blanks_around_a_phrase_are_no_part_of_it() -> None:
    metric = PhraseSuccessRate("I like rice. ")
    metric.update(["so. I like rice."], ["so."])
    assert metric.compute() == 100


@pytest.mark.parametrize("target", [0, 1])
def test_scores_that_are_no_numbers_are_no_success(target: int) -> None:
    labels = torch.full((3,), 1 - target)
    scores = torch.full((3, 2), float("nan"))
    metric = AttackSuccessRate(target)
    metric.update(scores, labels)
    assert metric.compute() == 0
    scores[:, 1 - target] = 0.0
    metric.update(scores, labels)
    assert metric.compute() == 0
    scores[:, target] = 1.0
    metric.update(scores, labels)
    assert metric.compute().item() == pytest.approx(100 / 3)
