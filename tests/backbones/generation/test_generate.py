"""What `generate` refuses before it generates, and what it shows while it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from lit_fed.backbones import CausalLM, Sampling
from lit_fed.backbones.generation.progress import GenerationProgress, answer_length

Models = Callable[..., str]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_new_tokens": 0}, "`max_new_tokens` is expected to be at least 1, but got 0"),
        ({"batch_size": 0}, "`batch_size` is expected to be at least 1, but got 0"),
        ({"repetition_penality": 1.2}, "did you mean 'repetition_penalty'"),
        ({"num_return_sequences": 2}, "there is a prompt for each answer, with `keys`"),
        ({"stop_strings": ["a"]}, "`stop_strings` of generate .* there is `stop`"),
        (
            {"temperature": 0.5},
            "`do_sample` of generate is expected to be true where .* temperature",
        ),
        ({"sampling": Sampling(), "do_sample": True}, "left out where `sampling` is given"),
        ({"sampling": Sampling(1.0), "num_beams": 2}, "`num_beams` of generate .* to be 1"),
        ({"do_sample": True, "top_p": 7.0}, "`sampling.top_p` is expected to be above 0"),
    ],
)
def test_settings_that_cannot_be(tiny_model: Models, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        CausalLM(tiny_model("llama")).generate(["a"], **settings)


def test_a_text_is_no_list_of_prompts(tiny_model: Models) -> None:
    with pytest.raises(TypeError, match="`prompts` is expected to be a list of texts"):
        CausalLM(tiny_model("llama")).generate("a b")


def test_a_model_without_an_end_is_named(tiny_model: Models) -> None:
    backbone = CausalLM(tiny_model("llama"))
    backbone.tokenizer.eos_token = None
    backbone._base.generation_config.eos_token_id = None
    for ask in (backbone.generate, backbone.check_prompts):
        with pytest.raises(
            ValueError,
            match=r"`model.backbone.model` is .*llama.*, which is expected to have a token that ends a text, such as",
        ):
            ask(["a"])
    # whoever names one has one
    assert len(backbone.generate(["a"], max_new_tokens=2, eos_token_id=5)) == 1


def test_what_does_not_fit_is_known_before(tiny_model: Models) -> None:
    backbone = CausalLM(tiny_model("llama"))
    backbone.check_prompts(["a"] * 2, max_new_tokens=63)
    with pytest.raises(ValueError, match="`max_new_tokens` is 64 and the longest prompt has 1"):
        backbone.check_prompts(["a"] * 2, max_new_tokens=64)


def test_how_a_module_trains_is_put_back(
    tiny_model: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = CausalLM(tiny_model("llama"))
    backbone.train()
    layer = backbone._base.model.layers[0]
    layer.eval()  # a part on its own
    backbone.generate(["a"], max_new_tokens=2)
    assert backbone.training
    assert not layer.training
    own = backbone._base.generation_config

    def fails(*args: Any, **settings: Any) -> None:
        raise RuntimeError("stop here")

    monkeypatch.setattr(backbone.model, "generate", fails)
    with pytest.raises(RuntimeError, match="stop here"):
        backbone.generate(["a"], max_new_tokens=2)
    assert backbone.training
    assert not layer.training
    assert backbone._base.generation_config is own


@pytest.mark.parametrize("progress", [True, False])
def test_a_line_says_how_much_was_generated_where_there_is_no_terminal(
    tiny_model: Models, capsys: pytest.CaptureFixture[str], progress: bool
) -> None:
    backbone = CausalLM(tiny_model("llama"))
    backbone.generate(["a", "b c", "d"], max_new_tokens=4, batch_size=2, progress=progress)
    out, err = capsys.readouterr()
    assert out == ""
    if progress:
        assert err.startswith("generated 3 answers, ")
        assert err.endswith(" tokens/s\n")
        assert err.count("\n") == 1
    else:
        assert err == ""


def test_a_bar_shows_answers_and_tokens_a_second(
    tiny_model: Models, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"TTY_COMPATIBLE": "1", "COLUMNS": "100", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    backbone = CausalLM(tiny_model("llama"))
    backbone.generate(["a", "b c", "d"], max_new_tokens=4, batch_size=2, progress=True)
    err = capsys.readouterr().err
    assert "generate" in err
    assert "3/3" in err
    assert "tokens/s" in err


def test_tokens_after_the_end_are_not_counted() -> None:
    tokens = [[5, 6, 3, 3], [5, 3, 0, 0], [5, 6, 0, 0], [5, 6, 7, 8]]
    # padding that the model itself has written is its answer
    assert answer_length([5, 0, 6, 0], ends=[3], pad=0) == 3
    assert [answer_length(row, ends=[3], pad=0) for row in tokens] == [3, 2, 2, 4]
    assert [answer_length(row, ends=[3, 6], pad=3) for row in tokens] == [2, 2, 2, 2]
    shown = GenerationProgress(0, shown=True)
    with shown:
        shown.add(0, 0)
    assert shown.tokens == 0


def test_what_ends_a_continuation_is_told_and_is_no_part_of_it(tiny_model: Models) -> None:
    backbone = CausalLM(tiny_model("llama"))
    # a model whose twelve tokens are twelve words, of which the first comes again
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in backbone.model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    never = backbone.tokenizer.unk_token_id
    (free,) = backbone.continuations(["a b"], max_new_tokens=12, eos_token_id=never)
    words = free.text.split()
    assert (free.tokens, free.ended) == (12, False)
    # a word that the tokenizer does not hold for a special token ends the text
    last = next(word for i, word in enumerate(words) if i > 1 and word not in words[:i])
    number = backbone.tokenizer.convert_tokens_to_ids(last)
    place = words.index(last)
    for pad in (backbone.tokenizer.pad_token_id, number):
        (ended,) = backbone.continuations(
            ["a b"], max_new_tokens=12, eos_token_id=number, pad_token_id=pad
        )
        assert ended == (" ".join(words[:place]), place + 1, True)
    (stopped,) = backbone.continuations(["a b"], max_new_tokens=12, stop=[last], eos_token_id=never)
    assert stopped == (" ".join(words[:place]) + " ", place + 1, True)
    # blanks of a prompt of tokens are no answer, and hide no stop string
    tokens = backbone.tokenizer("a b")["input_ids"]
    begins = f"{words[0]} "
    (behind,) = backbone.continuations(
        [tokens], max_new_tokens=12, blanks=[begins], stop=[words[0]], eos_token_id=never
    )
    rest = free.text.removeprefix(begins)
    assert words[0] in rest
    assert behind.text == rest[: rest.find(words[0])]
    with pytest.raises(ValueError, match="`blanks` is expected to have one for each of 1 prompts"):
        backbone.continuations([tokens], blanks=[])
