"""Seeded drawing: exactly the softmax, and the same for a row in whatever batch it stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from lit_fed.backbones import CausalLM, Sampling
from lit_fed.backbones.generation.prompt import Prompt
from lit_fed.backbones.generation.seeded_choice import SeededChoice, choice
from tests.backbones.batches import change

Models = Callable[..., str]
PROMPTS = ["a b c d e", "f", "g h", "i j k", "l"]
HOT = Sampling(temperature=2.0, seed=3)


def frequencies(processors: Any, logits: torch.Tensor, rows: int) -> torch.Tensor:
    scores = processors(torch.zeros(rows, 1), logits.expand(rows, -1).clone())
    assert ((scores == 0).sum(-1) == 1).all()
    return torch.bincount(scores.argmax(-1), minlength=len(logits)).double() / rows


def test_tokens_are_drawn_by_their_probabilities() -> None:
    """Compared with the softmax: chi-squared of 29 degrees of freedom, whose 99.9 % quantile is 58.3."""
    torch.manual_seed(0)
    logits, rows = 2 * torch.randn(30), 40_000
    expected = torch.softmax(logits.double(), -1)
    found = frequencies(SeededChoice(list(range(rows)), start=1, steps=1), logits, rows)
    chi_squared = (rows * (found - expected) ** 2 / expected).sum()
    assert chi_squared < 58.3
    # the same test finds another temperature
    other = torch.softmax(logits.double() / 1.05, -1)
    assert (rows * (found - other) ** 2 / other).sum() > 58.3


def test_temperature_and_the_likeliest_tokens_restrict_what_is_drawn() -> None:
    logits = torch.tensor([0.5, 0.25, 0.15, 0.1]).log()
    prompts = [Prompt((i,)) for i in range(8000)]
    for sampling, expected in (
        (Sampling(temperature=1.0), [0.5, 0.25, 0.15, 0.1]),
        (Sampling(temperature=0.5), [0.7246, 0.1812, 0.0652, 0.0290]),
        (Sampling(temperature=1.0, top_k=2), [2 / 3, 1 / 3, 0, 0]),
        (Sampling(temperature=1.0, top_p=0.8), [0.5 / 0.9, 0.25 / 0.9, 0.15 / 0.9, 0]),
    ):
        found = frequencies(choice(sampling, prompts, 1, 1), logits, len(prompts))
        assert found.tolist() == pytest.approx(expected, abs=0.02)
    assert len(choice(Sampling(), prompts, 1, 1)) == 0


def test_a_tokens_draw_is_its_rows_and_its_steps_own() -> None:
    logits = torch.zeros(2, 50)
    first = SeededChoice([1, 2], start=3, steps=2)
    steps = [first(torch.zeros(2, 3 + step), logits).argmax(-1).tolist() for step in range(2)]
    swapped = SeededChoice([2, 1], start=7, steps=2)
    assert [
        swapped(torch.zeros(2, 7 + step), logits).argmax(-1).tolist()[::-1] for step in range(2)
    ] == steps
    assert steps[0] != steps[1]


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_answers_do_not_depend_on_batch_or_order(tiny_model: Models, name: str) -> None:
    backbone = CausalLM(tiny_model(name))
    change(backbone)
    together = backbone.generate(PROMPTS, max_new_tokens=12, sampling=HOT)
    assert len(set(together)) == len(PROMPTS)
    torch.manual_seed(5)  # which has nothing to do with it
    for size in (1, 2, 3):
        assert backbone.generate(PROMPTS, 12, size, sampling=HOT) == together
    assert backbone.generate(PROMPTS[::-1], 12, 2, sampling=HOT) == together[::-1]
    assert backbone.generate(PROMPTS[1:3], 12, sampling=HOT) == together[1:3]
    assert backbone.generate(PROMPTS, 12, sampling=Sampling(2.0, seed=4)) != together
    # fewer tokens are the beginning
    shorter = backbone.generate(PROMPTS, 5, sampling=HOT)
    assert all(whole.startswith(text) for whole, text in zip(together, shorter, strict=True))


def test_one_prompt_has_several_answers_by_keys(tiny_model: Models) -> None:
    backbone = CausalLM(tiny_model("llama"))
    change(backbone)
    same = backbone.generate(["a b"] * 3, 10, sampling=HOT)
    assert len(set(same)) == 1
    keyed = backbone.generate(["a b"] * 3, 10, sampling=HOT, keys=["0", "1", "2"])
    assert len(set(keyed)) == 3
    assert backbone.generate(["a b"], 10, sampling=HOT, keys=["1"]) == keyed[1:2]
    assert len(set(backbone.generate(["a b"] * 3, 10, keys=["0", "1", "2"]))) == 1
    with pytest.raises(ValueError, match="`keys` is expected to have one for each of 2 prompts"):
        backbone.generate(["a", "b"], 10, sampling=HOT, keys=["0"])


def test_in_the_words_of_transformers_the_seed_is_torchs(tiny_model: Models) -> None:
    backbone = CausalLM(tiny_model("llama"))
    words: dict[str, Any] = {"do_sample": True, "temperature": 2.0, "top_k": 0, "top_p": 1.0}
    torch.manual_seed(1)
    first, second = (backbone.generate(PROMPTS, 12, **words) for _ in range(2))
    assert first != second
    torch.manual_seed(1)
    assert backbone.generate(PROMPTS, 12, **words) == first


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"temperature": -1.0}, "`sampling.temperature` is expected to be finite and at least 0"),
        (
            {"temperature": 1.0, "top_p": 0.0},
            "`sampling.top_p` is expected to be above 0 and at most 1",
        ),
        ({"temperature": 1.0, "top_p": 1.01}, "above 0 and at most 1, but got 1.01"),
        ({"temperature": 1.0, "top_k": 0}, "`sampling.top_k` is expected to be at least 1"),
        ({"top_p": 0.9}, "`sampling.temperature` is expected to be above 0 where"),
        ({"seed": -1}, "`sampling.seed` is expected to be at least 0"),
    ],
)
def test_numbers_out_of_range(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Sampling(**settings)
