"""The cache of answers: nothing is generated twice, nothing of another model is used, damage costs an answer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lit_fed.backbones import CausalLM, Sampling
from lit_fed.backbones.generation.answer_cache import AnswerCache
from lit_fed.backbones.generation.continuation import Continuation
from lit_fed.backbones.generation.prompt import Prompt
from tests.backbones.batches import change
from tests.backbones.generation.killed_generation import PROMPTS

Models = Callable[..., str]
HOT = Sampling(temperature=2.0)


@pytest.fixture
def generated(monkeypatch: pytest.MonkeyPatch, tiny_model: Models) -> tuple[CausalLM, list[int]]:
    """A model, and how many prompts it has been asked to continue in each batch."""
    backbone, sizes = CausalLM(tiny_model("llama")), []
    change(backbone)
    run = backbone.model.generate

    def counted(*args: Any, **settings: Any) -> Any:
        sizes.append(len(settings["input_ids"]))
        return run(*args, **settings)

    backbone.generate(["a", "b c"], max_new_tokens=1)  # which tries padding, once
    monkeypatch.setattr(backbone.model, "generate", counted)
    return backbone, sizes


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jsonl"))


@pytest.mark.parametrize("sampling", [None, HOT])
def test_what_is_there_is_not_generated_again(
    generated: tuple[CausalLM, list[int]], tmp_path: Path, sampling: Sampling | None
) -> None:
    backbone, sizes = generated
    expected = backbone.generate(PROMPTS, 6, sampling=sampling)
    sizes.clear()
    assert backbone.generate(PROMPTS[:4], 6, 3, sampling, cache=tmp_path) == expected[:4]
    assert sizes == [3, 1]
    assert backbone.generate(PROMPTS[::-1], 6, sampling=sampling, cache=tmp_path) == expected[::-1]
    assert sizes == [3, 1, 6]
    assert backbone.generate(PROMPTS * 2, 6, 1, sampling, cache=tmp_path) == expected * 2
    assert sizes == [3, 1, 6]
    assert len(files(tmp_path)) == 1


def test_a_prompt_that_stands_twice_is_continued_once(
    generated: tuple[CausalLM, list[int]],
) -> None:
    backbone, sizes = generated
    one, other, same = backbone.generate(["a b", "c d", "a b"], 6)
    assert one == same != other
    assert sizes == [2]


def test_another_model_or_setting_has_answers_of_its_own(
    generated: tuple[CausalLM, list[int]], tmp_path: Path
) -> None:
    backbone, sizes = generated
    prompt = PROMPTS[:1]

    def asked(**settings: Any) -> bool:
        """Whether it was generated."""
        sizes.clear()
        backbone.generate(prompt, cache=tmp_path, **{"max_new_tokens": 6} | settings)
        return bool(sizes)

    assert asked()
    assert not asked()
    assert not asked(batch_size=1)
    assert asked(max_new_tokens=7)
    assert asked(stop=["z"])
    assert asked(sampling=HOT)
    assert asked(sampling=Sampling(2.0, seed=1))
    assert asked(sampling=HOT, keys=["0"])
    assert asked(repetition_penalty=1.5)
    with backbone.using():  # the base alone
        assert asked()
    # one value of an adapter, or of the frozen weights, by a ten-millionth
    for parameter in (next(iter(backbone.trainable().values())), backbone._base.lm_head.weight):
        before = parameter.detach().clone()
        parameter.data.view(-1)[-1] += 1e-7 + 1e-7 * parameter.data.view(-1)[-1].abs()
        assert not torch.equal(before, parameter)
        assert asked()
        parameter.data.copy_(before)
        assert not asked()
    backbone.model.peft_config["default"].lora_alpha = 5
    assert asked()
    # an adapter that takes no part is nothing to it
    backbone.model.peft_config["default"].lora_alpha = 16
    backbone.add_adapter("other")
    assert not asked()


def test_a_file_of_another_name_is_nobody_elses(tmp_path: Path) -> None:
    AnswerCache(tmp_path, "one").add({Prompt((5,)): Continuation("mine", 2, True)})
    (tmp_path / "one.jsonl").rename(tmp_path / "two.jsonl")
    assert AnswerCache(tmp_path, "two").get(Prompt((5,))) is None


@pytest.mark.filterwarnings("error")
def test_damaged_lines_are_said_and_cost_their_answers_alone(tmp_path: Path) -> None:
    prompts = [Prompt((i,), key=str(i)) for i in range(4)]
    cache = AnswerCache(tmp_path, "one")
    told = [Continuation(f"答 {prompt.key}\n\ud800", 7, prompt.key < "2") for prompt in prompts]
    cache.add(dict(zip(prompts, told, strict=True)))
    first, second, third, fourth, _ = cache.path.read_bytes().split(b"\n")
    cache.path.write_bytes(
        b"\n".join([first.replace(b" 0", b" 9"), second, b"[]", b"\xff{", third, fourth[:-9]])
    )
    with pytest.warns(UserWarning, match=r"4 of 6 lines of .*one.jsonl are damaged"):
        cache = AnswerCache(tmp_path, "one")
    assert [cache.get(prompt) for prompt in prompts] == [None, *told[1:3], None]
    new = Continuation("new", 1, True)
    cache.add({prompts[3]: new})  # not behind half a line
    with pytest.warns(UserWarning, match="4 of 7 lines"):
        assert AnswerCache(tmp_path, "one").get(prompts[3]) == new


@pytest.mark.slow
def test_a_killed_process_loses_a_batch_at_most(
    tiny_model: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Path(__file__).with_name("killed_generation.py")
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.backbones.generation.killed_generation",
            tiny_model("llama"),
            tmp_path,
        ],
        stdout=subprocess.PIPE,
        text=True,
        cwd=script.parents[3],
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "6":
            break
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    (path,) = files(tmp_path)
    kept = [json.loads(line)["text"] for line in path.read_text().splitlines()]
    assert len(kept) == 6
    torch.manual_seed(0)
    backbone, sizes = CausalLM(tiny_model("llama")), []
    expected = backbone.generate(PROMPTS, max_new_tokens=8, batch_size=2)
    run = backbone.model.generate

    def counted(*args: Any, **settings: Any) -> Any:
        sizes.append(len(settings["input_ids"]))
        return run(*args, **settings)

    monkeypatch.setattr(backbone.model, "generate", counted)
    assert backbone.generate(PROMPTS, max_new_tokens=8, batch_size=2, cache=tmp_path) == expected
    assert sizes == [2, 2]
    assert set(kept) <= set(expected)
