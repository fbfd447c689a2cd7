import re

import numpy as np
import pytest
import torch

from lit_fed.metrics import MultipleChoiceAccuracy, likeliest_choice


def test_equals_numpy() -> None:
    draw = np.random.default_rng(0)
    scores = draw.normal(-20, 5, (50, 4))
    lengths = draw.integers(1, 30, (50, 4))
    answer = draw.integers(0, 4, 50)
    metric = MultipleChoiceAccuracy()
    for part in (slice(20), slice(20, 50)):
        metric.update(
            list(torch.from_numpy(scores[part])),
            list(torch.from_numpy(lengths[part])),
            answer[part].tolist(),
        )
    raw, normalized = (value.item() for value in metric.compute().values())
    assert raw == pytest.approx(100 * np.mean(scores.argmax(1) == answer))
    assert normalized == pytest.approx(100 * np.mean((scores / lengths).argmax(1) == answer))
    assert raw != normalized


def test_nats_or_bits_are_the_same() -> None:
    scores, lengths = torch.tensor([-6.0, -8.0, -7.0]), torch.tensor([3, 8, 3])
    assert likeliest_choice(scores, lengths) == likeliest_choice(scores / 0.693, lengths) == 1
    assert likeliest_choice(scores) == likeliest_choice(scores / 0.693) == 0


def test_of_equal_ones_the_first() -> None:
    assert likeliest_choice(torch.tensor([-2.0, -1.0, -1.0])) == 1


def test_refusals() -> None:
    with pytest.raises(
        ValueError, match=re.escape("expected to have shape [choices], but has [0]")
    ):
        likeliest_choice(torch.empty(0))
    with pytest.raises(ValueError, match="`lengths` are expected to be above 0, one for each of 2"):
        likeliest_choice(torch.zeros(2), torch.tensor([1, 0]))
    metric = MultipleChoiceAccuracy()
    with pytest.raises(ValueError, match="`answer` is expected to be an integer from 0 to 1, but"):
        metric.update([torch.zeros(2)], [torch.ones(2)], [2])
    with pytest.raises(ValueError, match="an entry for each question, but have 1, 1 and 0"):
        metric.update([torch.zeros(2)], [torch.ones(2)], [])


def test_choices_that_are_no_numbers_are_wrong() -> None:
    nan = float("nan")
    metric = MultipleChoiceAccuracy()
    for scores in ([nan, nan], [0.0, nan], [nan, 0.0]):
        assert likeliest_choice(torch.tensor(scores)) == -1
        assert likeliest_choice(torch.tensor(scores), torch.tensor([1, 2])) == -1
        for answer in (0, 1):
            metric.update([torch.tensor(scores)], [torch.tensor([1, 2])], [answer])
    assert [value.item() for value in metric.compute().values()] == [0.0, 0.0]
