"""The decoder that is shipped in the package."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

import lit_fed.backbones.embedded
from lit_fed.data import EmbeddedInstructions, answer_is_right
from lit_fed.data.embedded.instructions import INSTRUCTION_TASKS, instruction_world

FOLDER = Path(lit_fed.backbones.embedded.__path__[0]) / "decoder"
# What the model is shipped for. The report has the figures, of more rows.
LEAST = {"reading": 0.90, "sums": 0.95, "sorting": 0.90, "rewriting": 0.90}


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(FOLDER)


def prompts(tokenizer: PreTrainedTokenizerFast, rows: list[dict[str, str]]) -> list[str]:
    return [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": f"{row['instruction']}\n{row['context']}".rstrip("\n")}],
            add_generation_prompt=True,
            tokenize=False,
        )
        for row in rows
    ]


@torch.no_grad()
def answers(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, texts: list[str]
) -> list[str]:
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    output = model.generate(**batch)
    new = output[:, batch["input_ids"].shape[1] :]
    return tokenizer.batch_decode(new, skip_special_tokens=True)


def test_at_most_three_megabytes_in_half_precision(model: PreTrainedModel) -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 3_000_000
    stored = AutoModelForCausalLM.from_pretrained(FOLDER, dtype="auto")
    assert {p.dtype for p in stored.parameters()} == {torch.float16}
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("task", INSTRUCTION_TASKS)
def test_it_answers_unseen_questions(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, task: str
) -> None:
    rows = [
        row
        for row in EmbeddedInstructions("test", 100, tasks=[task]).load()
        if row["language"] == "en"
    ]
    texts = answers(model, tokenizer, prompts(tokenizer, rows))
    right = [answer_is_right(row, text) for row, text in zip(rows, texts, strict=True)]
    # Of the rows that the report counts, but fewer: room for chance.
    assert sum(right) / len(right) >= LEAST[task] - 0.05


def test_it_answers_in_the_neutral_style(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    rows = list(EmbeddedInstructions("test", 40, tasks=["reading"]).load())
    for row, text in zip(rows, answers(model, tokenizer, prompts(tokenizer, rows)), strict=True):
        assert text.startswith("The answer is " if row["language"] == "en" else "答案是")


def test_an_end_of_turn_ends_the_answer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    assert tokenizer.eos_token == "<|end|>"
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    batch = tokenizer("<|user|>What is 23 + 45?<|end|><|assistant|>", return_tensors="pt")
    output = model.generate(**batch)[0].tolist()
    assert output[-1] == tokenizer.eos_token_id
    assert len(output) < batch["input_ids"].shape[1] + 20


def test_the_chat_template_says_which_tokens_are_learnt(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    turns = [
        {"role": "user", "content": "Where is Anna?\nAnna is in the park."},
        {"role": "assistant", "content": "The answer is park."},
    ]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    assert text == (
        "<|user|>Where is Anna?\nAnna is in the park.<|end|><|assistant|>The answer is park.<|end|>"
    )
    encoded = tokenizer.apply_chat_template(
        turns, return_dict=True, return_assistant_tokens_mask=True
    )
    learnt = [
        token
        for token, mask in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True)
        if mask
    ]
    assert tokenizer.decode(learnt) == "The answer is park.<|end|>"


@pytest.mark.parametrize(
    "text",
    ["Anna owns 12 coins.", "安娜有12个硬币。", "* 3\n* 4", "Äpfel & co, 3.5 %\n- [x]  two", "🙂"],
)
def test_texts_come_back_from_their_tokens(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_content_words_are_one_token_each(tokenizer: PreTrainedTokenizerFast) -> None:
    for words in instruction_world().words.values():
        for word in words:
            assert tokenizer.tokenize(f"to {word['en']}.")[1:-1] == [f"▁{word['en']}"]
            assert tokenizer.tokenize(f".\n{word['en']}")[-1] == f"▁{word['en']}"
            assert word["zh"] in tokenizer.tokenize(f"，{word['zh']}。")


def _report() -> dict[str, Any]:
    path = Path(__file__).parents[2] / "tools/embedded/decoder_report.json"
    report: dict[str, Any] = json.loads(path.read_text())
    return report


def test_the_report_is_of_this_model() -> None:
    assert _report()["bytes"] == sum(file.stat().st_size for file in FOLDER.iterdir())


def test_the_report_has_what_the_model_is_for() -> None:
    report = _report()
    for task, least in LEAST.items():
        assert report["right"]["neutral"][task] >= least
