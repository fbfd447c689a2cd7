"""What the embedded decoder can do, measured on instances that its training never saw."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lit_fed.data.embedded.answers import answer_is_right
from lit_fed.data.embedded.instructions import INSTRUCTION_TASKS, Instruction, instruction_world
from tools.embedded.decoder_rows import held_out, neutral, prompt, reference_prompt

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

_ROWS = 400
_ROWS_OF_A_STYLE = 100
_AT_ONCE = 100
_NEW_TOKENS = 64


def report(folder: Path, path: Path, made: dict[str, Any]) -> None:
    """Measure the model of a folder and write what comes out, with how it was made."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    began = time.process_time()
    world = instruction_world()
    right = {
        style: {
            task: solved(model, tokenizer, held_out("test", task, world.styles[style], _ROWS, 0))
            for task in INSTRUCTION_TASKS
        }
        for style in ("neutral", "neutral_chinese")
    }
    own_words = {
        name: {
            task: solved(
                model,
                tokenizer,
                held_out("test", task, style, _ROWS_OF_A_STYLE, 1),
                reference=True,
            )
            for task in INSTRUCTION_TASKS
        }
        for name, style in world.styles.items()
        if neutral(style) is not style
    }
    content = {
        "made": made,
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers")},
        "parameters": sum(p.numel() for p in model.parameters()),
        "bytes": sum(file.stat().st_size for file in folder.iterdir()),
        "rows": {"neutral": _ROWS, "own_words": _ROWS_OF_A_STYLE},
        "right": right,
        "right_in_own_words_by_style_of_the_reference": own_words,
        "measured_in_cpu_seconds": round(time.process_time() - began),
    }
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(content["right"], indent=2))


def solved(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    rows: Sequence[Instruction],
    reference: bool = False,
) -> float:
    """Share of rows that are answered right, greedily.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        rows: What is asked.
        reference: Whether the prompt has the row's response as a reference.
    """
    prompts = [reference_prompt(row) if reference else prompt(row) for row in rows]
    answers = answered(model, tokenizer, prompts)
    right = [answer_is_right(asdict(row), text) for row, text in zip(rows, answers, strict=True)]
    return round(sum(right) / len(rows), 4)


@torch.no_grad()
def answered(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, prompts: Sequence[str]
) -> list[str]:
    """The model's greedy answers to users' turns."""
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False
        )
        for prompt in prompts
    ]
    answers: list[str] = []
    for start in range(0, len(texts), _AT_ONCE):
        part = tokenizer(texts[start : start + _AT_ONCE], padding=True, return_tensors="pt")
        output = model.generate(
            **part,
            max_new_tokens=_NEW_TOKENS,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
        new = output[:, part["input_ids"].shape[1] :]
        answers += tokenizer.batch_decode(new, skip_special_tokens=True)
    return answers
