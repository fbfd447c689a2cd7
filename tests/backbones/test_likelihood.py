"""Likelihoods of texts after prompts, beside the model of transformers, one text after the other."""

from pathlib import Path

import pytest
import torch
from tokenizers.processors import TemplateProcessing
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


def test_a_prompt_is_cut_alike_for_all_that_follow_it(backbone: CausalLM, tmp_path: Path) -> None:
    prompt, rests = "a" * (ROOM - 2) + "bcd", ["yes", "y"]
    (long, _), (short, _) = prompt_and_rest(backbone, [prompt] * 2, rests, cut=True)
    assert long == short
    assert len(long) == ROOM - 3
    (alone, _), *_ = prompt_and_rest(backbone, [prompt], rests[1:], cut=True)
    assert alone[-len(long) :] == long
    # what a text begins with stays
    folder = save_language_model(tmp_path / "begins")
    other = CausalLM(str(folder))
    begin = other.tokenizer.eos_token_id
    other.tokenizer._tokenizer.post_processor = TemplateProcessing(
        single="[EOS] $A", special_tokens=[("[EOS]", begin)]
    )
    ((kept, _),) = prompt_and_rest(other, [prompt], ["yes"], cut=True)
    assert kept == [begin, *long[1:]]


def test_refusals(backbone: CausalLM) -> None:
    with pytest.raises(
        ValueError, match="the text after each prompt is expected to have a token, but after 'b'"
    ):
        prompt_and_rest(backbone, ["a", "b"], ["c", ""])
    message = f"a prompt and the text after it are expected to have at most {ROOM} tokens, which"
    with pytest.raises(ValueError, match=message):
        prompt_and_rest(backbone, ["a" * ROOM], ["b"])
    with pytest.raises(ValueError, match=message):
        prompt_and_rest(backbone, ["a"], ["b" * ROOM], cut=True)


def test_a_prompt_that_is_too_long_is_cut_at_its_beginning(backbone: CausalLM) -> None:
    long = "x" * 20 + "b" * (ROOM - 2)
    whole, room = prompt_and_rest(backbone, [long, "b" * (ROOM - 2)], ["cd", "cd"], cut=True)
    assert whole == room
    assert len(whole[0]) + len(whole[1]) == ROOM
    assert log_likelihoods(backbone, [whole]).isfinite().all()
