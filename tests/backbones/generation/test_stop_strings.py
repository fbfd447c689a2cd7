"""Stop strings end an answer and are cut off it; rows that have one are not gone on with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from lit_fed.backbones import CausalLM
from lit_fed.backbones.embedded import embedded_model
from lit_fed.backbones.generation.stop_strings import StopStrings, cut_at
from tests.backbones.batches import change

Models = Callable[..., str]
PROMPTS = ["a b c d e", "f", "g h"]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast.from_pretrained(str(embedded_model("decoder")))


def test_the_answer_ends_before_the_stop_string_and_the_row_ends_with_it(
    tiny_model: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = CausalLM(tiny_model("llama"))
    change(backbone)
    whole = backbone.generate(PROMPTS, max_new_tokens=20)
    words = whole[0].split()
    stop = f"{words[2]} {words[3]}"
    steps: list[int] = []
    run = backbone.model.generate

    def counted(*args: Any, **settings: Any) -> Any:
        output = run(*args, **settings)
        steps.append(output.shape[1] - settings["input_ids"].shape[1])
        return output

    monkeypatch.setattr(backbone.model, "generate", counted)
    (answer,) = backbone.generate(PROMPTS[:1], max_new_tokens=20, stop=[stop, "unheard of"])
    assert answer == whole[0][: whole[0].index(stop)]
    assert 0 < steps[0] < 20
    # a token less, and it had not been there
    assert stop not in backbone.generate(PROMPTS[:1], max_new_tokens=steps[0] - 1)[0]
    # with others in the batch it is the same
    together = backbone.generate(PROMPTS, max_new_tokens=20, stop=[stop])
    assert together == [cut_at(text, [stop]) for text in whole]


def test_the_prompts_text_does_not_count(tokenizer: PreTrainedTokenizerFast) -> None:
    r"""A prompt's line end and one that begins the answer are not the stop string of two."""
    ids = tokenizer("7\n\n5")["input_ids"]
    start = ids.index(tokenizer.convert_tokens_to_ids("\n")) + 1
    criterion = StopStrings(tokenizer, ["\n\n"], start, [""])
    assert not criterion(torch.tensor([ids]), None).item()
    assert StopStrings(tokenizer, ["\n\n"], 0, [""])(torch.tensor([ids]), None).item()


@pytest.mark.parametrize("text", ["12 + 5 = 17.\nNext", "北京很大。\n然后", "a  b\n\nc"])
def test_a_stop_string_is_found_at_the_token_that_completes_it(
    tokenizer: PreTrainedTokenizerFast, text: str
) -> None:
    ids = tokenizer(text * 6, add_special_tokens=False)["input_ids"]
    for stop in (text[-4:], text[2:4], "\n"):
        criterion = StopStrings(tokenizer, [stop], 0, [""])
        found = [criterion(torch.tensor([ids[:n]]), None).item() for n in range(1, len(ids) + 1)]
        decoded = [
            tokenizer.decode(ids[:n], skip_special_tokens=True) for n in range(1, len(ids) + 1)
        ]
        first = next((n for n, so_far in enumerate(decoded) if stop in so_far), None)
        # signs of several tokens may hide it for a while
        late = 0 if text.isascii() else 15
        assert first is not None
        assert first <= found.index(True) <= first + late


def test_blanks_that_are_the_prompts_are_no_part_of_the_answer(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    ids = torch.tensor([tokenizer("5 7", add_special_tokens=False)["input_ids"]])
    assert StopStrings(tokenizer, ["5"], 0, [""])(ids, None).item()
    assert not StopStrings(tokenizer, ["5"], 0, ["5"])(ids, None).item()


def test_what_is_no_list_of_texts_or_empty(tiny_model: Models) -> None:
    backbone = CausalLM(tiny_model("llama"))
    with pytest.raises(ValueError, match=r"`stop` is expected to have no empty text"):
        backbone.generate(["a"], stop=["\n", ""])
    with pytest.raises(TypeError, match=r"`stop` is expected to be a list of texts, but got 'ab'"):
        backbone.generate(["a"], stop="ab")


def test_each_beam_has_its_prompts_blanks(
    tiny_model: Models, tokenizer: PreTrainedTokenizerFast
) -> None:
    blank, word = (tokenizer.convert_tokens_to_ids(token) for token in ("\n", "7"))
    rows = torch.tensor([[blank, word]] * 4)
    # a line end of the second prompt's own is no part of its answers
    seen = StopStrings(tokenizer, ["\n"], 0, ["", "\n"])(rows, None)
    assert seen.tolist() == [True, True, False, False]
    backbone = CausalLM(tiny_model("llama"))
    change(backbone)
    whole = backbone.generate(PROMPTS, max_new_tokens=8, num_beams=2)
    ended = backbone.generate(PROMPTS, max_new_tokens=8, num_beams=2, stop=["unheard of"])
    assert ended == whole
