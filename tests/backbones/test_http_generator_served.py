"""HTTPGenerator before a real endpoint: `transformers serve` over the shipped decoder."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from lit_fed import FederatedModule
from lit_fed.backbones import CausalLM, HTTPGenerator
from lit_fed.backbones.embedded.embedded_model import embedded_model
from lit_fed.cli import main
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


def test_a_merged_export_is_served_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["lit-fed"])
    run, merged = str(tmp_path / "run"), str(tmp_path / "merged")
    small = ["--trainer.max_rounds=1", "--trainer.local_steps=2", "--trainer.clients_per_round=1"]
    small += ["--trainer.limit_val_batches=1", "--trainer.test_at_end=false"]
    where = f"--trainer.default_root_dir={run}"
    main(["fit", "--config", "lora_fedavg_instructions", *small, where])
    main(["export", "--config", f"{run}/config.yaml", f"--output={merged}", "--merge=true"])
    trained = cast("CausalLM", FederatedModule.from_run(run).backbone)
    texts = [
        trained.tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
        )
        for question in QUESTIONS
    ]
    own = trained.generate(texts, max_new_tokens=24)
    with served(Path(merged), tmp_path / "log.txt") as url:
        asked = HTTPGenerator(url, merged, max_new_tokens=24)
        assert asked.generate(QUESTIONS) == [answer or None for answer in own]
