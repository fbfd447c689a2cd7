"""Likelihoods of texts after prompts, beside the model of transformers, one text after the other."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lit_fed.backbones import CausalLM
from lit_fed.backbones.likelihood import log_likelihoods, prompt_and_rest
from tests.federation.toy_language_model import ROOM, save_language_model

PROMPTS = ["The sky is ", "2 + 2 =", "Q: why?\nA: ", "x"]
RESTS = ["blue", " 4, of course", "北", "y"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_language_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def backbone(folder: Path) -> CausalLM:
    return CausalLM(str(folder))


def test_equal_those_of_transformers_one_by_one(folder: Path, backbone: CausalLM) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    expected = []
    for prompt, rest in zip(PROMPTS, RESTS, strict=True):
        # a blank at the prompt's end belongs to what follows
        start = len(prompt.rstrip().encode())
        ids = torch.tensor([tokenizer(prompt + rest)["input_ids"]])
        nats = model(input_ids=ids).logits[0].log_softmax(-1)
        expected.append(sum(nats[i - 1, ids[0, i]].item() for i in range(start, ids.shape[1])))
    pairs = prompt_and_rest(backbone, PROMPTS, RESTS)
    for size in (1, 3):
        assert log_likelihoods(backbone, pairs, size).tolist() == pytest.approx(expected, abs=1e-3)
    assert log_likelihoods(backbone, pairs[::-1]).tolist() == pytest.approx(
        expected[::-1], abs=1e-3
    )


def test_all_that_may_follow_sums_to_one(backbone: CausalLM) -> None:
    ((head, _),) = prompt_and_rest(backbone, ["The sky"], ["a"])
    pairs = [(head, [token]) for token in range(len(backbone.tokenizer))]
    assert log_likelihoods(backbone, pairs, 64).exp().sum().item() == pytest.approx(1, abs=1e-4)


def test_the_model_is_left_as_it_was(backbone: CausalLM) -> None:
    backbone.train()
    state = torch.get_rng_state()
    log_likelihoods(backbone, prompt_and_rest(backbone, PROMPTS, RESTS))
    assert backbone.training
    assert torch.equal(torch.get_rng_state(), state)
    assert log_likelihoods(backbone, prompt_and_rest(backbone, [], [])).shape == (0,)


def test_refusals(backbone: CausalLM) -> None:
    with pytest.raises(
        ValueError, match="the text after prompt 1 is expected to have a token, but"
    ):
        prompt_and_rest(backbone, ["a", "b"], ["c", ""])
    message = f"prompt 0 and the text after it are expected to have at most {ROOM} tokens, which"
    with pytest.raises(ValueError, match=message):
        prompt_and_rest(backbone, ["a" * ROOM], ["b"])
