from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from peft import PrefixTuningConfig, PromptTuningConfig
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM

from lit_fed.backbones import CausalLM, TextGenerator

from .batches import batch_of, change

Models = Callable[..., str]
PROMPTS = ["a b c d e", "f", "g h"]


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_neox", "bloom"])
@pytest.mark.parametrize(
    "peft",
    [
        "lora",
        None,
        PromptTuningConfig(num_virtual_tokens=3),
        PrefixTuningConfig(num_virtual_tokens=3),
    ],
)
def test_prediction_is_shifted(tiny_model: Models, name: str, peft: Any) -> None:
    backbone = CausalLM(tiny_model(name), peft=peft).eval()
    batch = batch_of(backbone)
    prediction = backbone(batch, output_hidden=True)
    rows, length = batch["input_ids"].shape
    assert prediction.logits.shape == (rows, length - 1, 30)
    assert torch.equal(prediction.targets, batch["labels"][:, 1:])
    assert torch.equal(prediction.mask, batch["attention_mask"][:, 1:].bool())
    # The logits at t follow from the tokens up to t: changing the last token changes none.
    changed = batch["input_ids"].clone()
    changed[:, -1] = 7
    assert torch.allclose(backbone(batch | {"input_ids": changed}).logits[0], prediction.logits[0])
    changed[:, 0] = 7
    other = backbone(batch | {"input_ids": changed}).logits[0]
    assert not torch.allclose(other[0], prediction.logits[0, 0])


def test_loss_is_that_of_transformers(tiny_model: Models) -> None:
    backbone = CausalLM(tiny_model("llama"), peft=None)
    batch = batch_of(backbone)
    batch["labels"][0, :3] = -100
    prediction = backbone(batch)
    loss = torch.nn.functional.cross_entropy(
        prediction.logits[prediction.mask], prediction.targets[prediction.mask]
    )
    expected = backbone.model(
        batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["labels"]
    ).loss
    torch.testing.assert_close(loss, expected)


def test_without_labels_the_mask_is_that_of_the_tokens(tiny_model: Models) -> None:
    backbone = CausalLM(tiny_model("gpt2"))
    batch = {k: v for k, v in batch_of(backbone).items() if k != "labels"}
    prediction = backbone(batch)
    assert prediction.targets is None
    assert torch.equal(prediction.mask, batch["attention_mask"][:, 1:].bool())


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_neox", "bloom"])
@pytest.mark.parametrize(
    "peft",
    [
        "lora",
        PromptTuningConfig(num_virtual_tokens=3),
        PrefixTuningConfig(num_virtual_tokens=3),
    ],
)
def test_generation_is_greedy_and_does_not_depend_on_the_batch(
    tiny_model: Models, name: str, peft: Any
) -> None:
    backbone = CausalLM(tiny_model(name), peft=peft)
    change(backbone)
    answers = backbone.generate(PROMPTS, max_new_tokens=6)
    assert backbone.training
    assert answers == backbone.generate(PROMPTS, max_new_tokens=6, batch_size=1)
    assert answers == backbone.generate(PROMPTS[::-1], max_new_tokens=6, batch_size=2)[::-1]
    assert len(set(answers)) > 1
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        assert answer == greedily(backbone, prompt, 6)


@torch.no_grad()
def greedily(backbone: CausalLM, prompt: str, steps: int) -> str:
    ids = backbone.tokenizer(prompt)["input_ids"]
    backbone.eval()
    start = len(ids)
    for _ in range(steps):
        # A last token that the shift takes away.
        batch = {"input_ids": torch.tensor([[*ids, 0]])}
        ids.append(int(backbone(batch).logits[0, -1].argmax()))
        if ids[-1] == backbone.tokenizer.eos_token_id:
            break
    backbone.train()
    text: str = backbone.tokenizer.decode(ids[start:], skip_special_tokens=True)
    return text


def test_generation_can_be_sampled(tiny_model: Models) -> None:
    backbone = CausalLM(tiny_model("gpt2"))
    torch.manual_seed(0)
    one, two = (
        backbone.generate(["a"], max_new_tokens=20, do_sample=True, temperature=9.0)
        for _ in range(2)
    )
    assert one != two


def test_generation_of_nothing_and_from_nothing(tiny_model: Models) -> None:
    backbone = CausalLM(tiny_model("llama"))
    assert backbone.generate([]) == []
    assert len(backbone.generate([""], max_new_tokens=3)) == 1


def test_generation_leaves_out_the_tokenizers_end(tiny_model: Models) -> None:
    folder = tiny_model("gpt2")
    backbone = CausalLM(folder)
    expected = backbone.generate(PROMPTS, max_new_tokens=4)
    ends = CausalLM(folder)
    tokenizer: Any = ends.tokenizer
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 3)]
    )
    assert tokenizer("a")["input_ids"][-1] == 3
    assert ends.generate(PROMPTS, max_new_tokens=4) == expected


def test_prompt_without_room(tiny_model: Models) -> None:
    backbone = CausalLM(tiny_model("gpt2"), peft=PromptTuningConfig(num_virtual_tokens=4))
    message = "`max_new_tokens` is 60 and the longest prompt has 9 tokens, .* 64 together"
    with pytest.raises(ValueError, match=message):
        backbone.generate(PROMPTS, max_new_tokens=60)


class FromAnyone(TextGenerator):
    """Answers by a callable."""

    def __init__(self, answer: Callable[[str], str]) -> None:
        self.answer = answer

    def generate(self, prompts: Sequence[str]) -> list[str]:
        return [self.answer(prompt) for prompt in prompts]


def test_whoever_answers_can_stand_for_a_model(tiny_model: Models) -> None:
    """A method that only asks for answers gets the same kind of them from a model and from a callable."""

    def ask(generator: TextGenerator) -> list[str]:
        return generator.generate(PROMPTS)

    backbone = CausalLM(tiny_model("llama", max_position_embeddings=256))
    replies = FromAnyone(lambda prompt: backbone.generate([prompt])[0])
    asked = ask(backbone)
    assert isinstance(backbone, TextGenerator)
    assert ask(replies) == asked
    assert [type(answer) for answer in asked] == [str] * len(PROMPTS)


def test_answers_are_those_of_transformers(tiny_model: Models) -> None:
    """Greedy, one prompt at a time, with the prompt cut off."""
    backbone = CausalLM(tiny_model("llama"), peft=None)
    model = AutoModelForCausalLM.from_pretrained(tiny_model("llama")).eval()
    tokenizer = backbone.tokenizer
    for prompt, answer in zip(PROMPTS, backbone.generate(PROMPTS, max_new_tokens=6), strict=True):
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        out = model.generate(ids, do_sample=False, max_new_tokens=6, pad_token_id=0)
        assert answer == tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("peft", [None, "lora"])
def test_generation_uses_nothing_of_the_checkpoints_settings_but_its_ends(
    tiny_model: Models, peft: Any
) -> None:
    backbone = CausalLM(tiny_model("gpt2"), peft=peft)
    expected = backbone.generate(PROMPTS, max_new_tokens=8)
    base = backbone._base
    own = base.generation_config
    written = backbone.tokenizer(expected[0], add_special_tokens=False)["input_ids"]
    own.suppress_tokens = written
    own.bad_words_ids = [[token] for token in written]
    own.min_new_tokens = 8
    own.repetition_penalty = 9.0
    own.do_sample = True
    own.temperature = 5.0
    assert backbone.generate(PROMPTS, max_new_tokens=8) == expected
    # and it is left as it was
    assert base.generation_config is own
    assert own.suppress_tokens == written


def test_both_the_tokenizers_end_and_those_of_the_checkpoint_stop(tiny_model: Models) -> None:
    backbone = CausalLM(tiny_model("gpt2"), peft=None)
    backbone.eval()
    ids = backbone.tokenizer(PROMPTS[0])["input_ids"]
    whole = backbone.model.generate(
        torch.tensor([ids]), do_sample=False, max_new_tokens=8, min_new_tokens=8
    )[0, len(ids) :].tolist()
    stop = whole[3]
    until = whole.index(stop)
    backbone.model.generation_config.eos_token_id = [stop, backbone.tokenizer.eos_token_id]
    (said,) = backbone.generate([PROMPTS[0]], max_new_tokens=8)
    # what ends an answer is no part of it, also where it is no special token
    text = backbone.tokenizer.decode(whole[:until], skip_special_tokens=True)
    assert said == text
    backbone.model.generation_config.eos_token_id = None
    backbone.tokenizer.eos_token = backbone.tokenizer.convert_ids_to_tokens(stop)
    assert backbone._ends() == [stop]
    assert backbone.generate([ids], max_new_tokens=8) == [text]
