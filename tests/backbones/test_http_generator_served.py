"""HTTPGenerator before a real endpoint: `transformers serve` over the shipped decoder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from lit_fed.backbones import CausalLM, HTTPGenerator
from lit_fed.backbones.embedded.embedded_model import embedded_model
from lit_fed.configuration_error import ConfigurationError
from tests.backbones.endpoint.served import needs_transformers_serve, served

pytestmark = [pytest.mark.slow, needs_transformers_serve]

MODEL = embedded_model("decoder")
QUESTIONS = [
    "How many pens does Anna have?",
    "Write the number that comes after nine.",
    "Say hello.",
    "Which is larger, 3 or 11?",
    "Who is it?",
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(MODEL, tmp_path_factory.mktemp("served") / "log.txt") as url:
        yield url


@pytest.fixture(scope="module")
def model() -> CausalLM:
    return CausalLM(model=str(MODEL), peft=None)


def test_chat_is_the_model_s_own_answer(address: str, model: CausalLM) -> None:
    """The service puts the question into the model's chat template."""
    asked = HTTPGenerator(address, str(MODEL), chat=True, max_new_tokens=24)
    asked.check()
    texts = [
        model.tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
        )
        for question in QUESTIONS
    ]
    own = model.generate(texts, max_new_tokens=24)
    assert asked.generate(QUESTIONS) == [answer or None for answer in own]
    assert asked.failures == Counter(empty=own.count("")) + Counter()
    assert len(set(own)) >= 3


def test_completions_are_the_model_s_own(address: str, model: CausalLM) -> None:
    asked = HTTPGenerator(address, str(MODEL), chat=False, max_new_tokens=24)
    own = model.generate(QUESTIONS, max_new_tokens=24)
    assert asked.generate(QUESTIONS) == [answer or None for answer in own]


def test_a_wrong_model_shows_before_training(address: str) -> None:
    with pytest.raises(ConfigurationError, match=r"`model` .* are expected .* status 400"):
        HTTPGenerator(address, "another-model").check()
