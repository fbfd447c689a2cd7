"""References that a language model writes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lit_fed.backbones import CallableGenerator, CausalLM
from lit_fed.backbones.generation.sampling import Sampling
from lit_fed.prototypes import SyntheticReferences
from tests.methods.toy_methods import save_toy_lm

PROMPTS = {"bad": "text is : bad", "good": "text is : good"}


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> CausalLM:
    return CausalLM(str(save_toy_lm(tmp_path_factory.mktemp("lm") / "model")))


def written(writer: CausalLM, **settings: Any) -> list[dict[str, str]]:
    given = {"per_class": 6, "max_new_tokens": 5}
    return SyntheticReferences(writer, PROMPTS, **given | settings).load().to_list()


def test_a_seed_gives_the_same_rows_whatever_chance_was_before(writer: CausalLM) -> None:
    first = written(writer)
    torch.manual_seed(9)
    assert written(writer) == first
    assert written(writer, sampling=Sampling(temperature=1.0, seed=1)) != first
    assert {row["label"] for row in first} == set(PROMPTS)
    assert len({row["text"] for row in first}) == len(first)
    assert all(row["text"] for row in first)


def test_answers_are_those_of_the_generator(writer: CausalLM) -> None:
    keys = [f"{name} {n}" for n, name in enumerate(["bad"] * 6 + ["good"] * 6)]
    asked = [PROMPTS[key.split()[0]] for key in keys]
    texts = writer.generate(asked, 5, sampling=Sampling(temperature=1.0), keys=keys)
    labels = dict(zip(reversed([t.strip() for t in texts]), reversed(keys), strict=True))
    expected = {text: labels[text].split()[0] for text in labels if text}
    assert {row["text"]: row["label"] for row in written(writer)} == expected


def test_what_is_missing_is_named() -> None:
    silent = CallableGenerator(lambda prompt: "" if "good" in prompt else prompt)
    with pytest.raises(ValueError, match=r"rows of each class, but of 'good' none is left of 3"):
        SyntheticReferences(silent, PROMPTS, per_class=3).load()
    with pytest.raises(ValueError, match=r"`prompts` is expected to have one for each class"):
        SyntheticReferences(silent, {})
    with pytest.raises(ValueError, match=r"`per_class` is expected to be at least 1, but got 0"):
        SyntheticReferences(silent, PROMPTS, per_class=0)
