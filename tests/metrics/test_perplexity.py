import math
import re

import pytest
import torch
from torchmetrics.text import Perplexity as TorchmetricsPerplexity

from lit_fed.metrics import Perplexity

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = 3 * torch.randn(4, 6, 11, generator=GENERATOR)
TARGET = torch.randint(11, (4, 6), generator=GENERATOR)
TARGET[0, 3:] = TARGET[2, :5] = -100


def perplexity(logits: torch.Tensor, target: torch.Tensor) -> float:
    metric = Perplexity()
    metric.update(logits[:1], target[:1])
    metric.update(logits[1:], target[1:])
    return metric.compute().item()


def test_equals_torchmetrics_and_a_sum_by_hand() -> None:
    theirs = TorchmetricsPerplexity(ignore_index=-100)
    theirs.update(LOGITS, TARGET)
    assert perplexity(LOGITS, TARGET) == pytest.approx(theirs.compute().item(), rel=1e-5)
    nats = [
        torch.logsumexp(scores, 0) - scores[token]
        for row, tokens in zip(LOGITS, TARGET.tolist(), strict=True)
        for scores, token in zip(row, tokens, strict=True)
        if token != -100
    ]
    assert perplexity(LOGITS, TARGET) == pytest.approx(math.exp(sum(nats) / len(nats)), rel=1e-5)


def test_what_is_masked_and_what_is_added_to_all_scores_change_nothing() -> None:
    expected = perplexity(LOGITS, TARGET)
    noise = torch.randn(LOGITS.shape, generator=GENERATOR)
    masked = torch.where((TARGET == -100).unsqueeze(-1), noise, LOGITS)
    assert perplexity(masked + 7, TARGET) == pytest.approx(expected, rel=1e-5)


def test_a_very_unlikely_token_leaves_it_finite_where_torchmetrics_rounds_to_zero() -> None:
    logits, target = torch.tensor([[[0.0, 200.0]]]), torch.tensor([[0]])
    theirs = TorchmetricsPerplexity()
    theirs.update(logits, target)
    assert theirs.compute().isinf()
    metric = Perplexity()
    metric.update(logits, target)
    metric.update(torch.zeros(1, 3, 2), torch.zeros(1, 3, dtype=torch.int64))
    assert metric.compute().item() == pytest.approx(math.exp((200 + 3 * math.log(2)) / 4), rel=1e-5)


def test_no_token() -> None:
    metric = Perplexity()
    metric.update(LOGITS, torch.full_like(TARGET, -100))
    assert metric.compute().isnan()


def test_other_shapes() -> None:
    message = "[batch, tokens, vocabulary] and [batch, tokens], but have [4, 6, 11] and [4, 5]"
    with pytest.raises(ValueError, match=re.escape(message)):
        Perplexity().update(LOGITS, TARGET[:, 1:])
