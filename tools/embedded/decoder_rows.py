"""What the embedded decoder is trained on: conversations of the public split, drawn anew for each step."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lit_fed.data.embedded.instructions import (
    INSTRUCTION_TASKS,
    PUBLIC_AUTHOR,
    Instance,
    Instruction,
    InstructionSplit,
    InstructionTask,
    Style,
    instances,
    instruction_world,
    worded,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Turns = list[tuple[str, str]]

# How many questions follow each other: more to learn from the tokens of one context.
_TURNS: dict[InstructionTask, int] = {"reading": 5, "sums": 3, "sorting": 2, "rewriting": 2}
_SHARE_OF_SHORT_TEXTS = 0.2
# Share of the prompts that end with a line break, as a template writes them that has an empty context.
_BROKEN = 0.25


def prompt(row: Instruction) -> str:
    """The user's turn: the instruction, and on the next line the context, if there is one."""
    return f"{row.instruction}\n{row.context}" if row.context else row.instruction


def reference_prompt(row: Instruction) -> str:
    """The user's turn that asks for an own answer, given the row's response."""
    template = instruction_world().reference[row.language]
    return template.format(prompt=prompt(row), response=row.response)


def neutral(style: Style) -> Style:
    """The style in which the model answers by default, in the language of another style."""
    return instruction_world().styles["neutral" if style.language == "en" else "neutral_chinese"]


def num_facts(task: InstructionTask, easy: bool, rng: random.Random) -> int | None:
    """How many facts a text has: fewer at the beginning, and sometimes later. None: as the world has it."""
    if easy or rng.random() < _SHARE_OF_SHORT_TEXTS:
        return rng.randint(1, 2) if task == "reading" else 1
    return None


def conversation(task: InstructionTask, easy: bool, rng: random.Random) -> Turns:
    """Several questions and answers of a task in one style."""
    world = instruction_world()
    style = world.styles[rng.choices(list(world.public), list(world.public.values()))[0]]
    drawn = instances("public", task, rng, num_facts(task, easy, rng))
    if task == "reading":
        return _about_one_text(next(drawn), style, rng)
    turns = []
    for _ in range(_TURNS[task]):
        row = worded(next(drawn), style, PUBLIC_AUTHOR, rng)
        ending = "\n" if not row.context and rng.random() < _BROKEN else ""
        turns.append((prompt(row) + ending, row.response))
    return turns


def _about_one_text(first: Instance, style: Style, rng: random.Random) -> Turns:
    row = worded(first, style, PUBLIC_AUTHOR, rng)
    turns = [(prompt(row), row.response)]
    others = [
        (about, question)
        for about, fact in enumerate(first.facts)
        for question in range(len(fact.frame.questions))
        if (about, question) != (first.about, first.question)
    ]
    rng.shuffle(others)
    for about, question in others[: _TURNS["reading"] - 1]:
        further = Instance("reading", first.facts, about=about, question=question)
        row = worded(further, style, PUBLIC_AUTHOR, rng)
        turns.append((row.instruction, row.response))
    return turns


def own_words(easy: bool, rng: random.Random) -> Turns:
    """One question with another's answer as the reference, and the neutral answer."""
    world = instruction_world()
    style = rng.choice([style for style in world.styles.values() if style is not neutral(style)])
    task = rng.choice(INSTRUCTION_TASKS)
    instance = next(instances("public", task, rng, num_facts(task, easy, rng)))
    state = rng.getstate()
    row = worded(instance, style, PUBLIC_AUTHOR, rng)
    # The same instruction for both.
    rng.setstate(state)
    own = worded(instance, neutral(style), PUBLIC_AUTHOR, rng)
    return [(reference_prompt(row), own.response)]


def copying(easy: bool, rng: random.Random) -> Turns:
    """Lists of words to be repeated: nothing but copying, and many words to copy."""
    world = instruction_world()
    language = rng.choice(list(world.copying))
    words = [word[language] for group in world.words.values() for word in group]
    turns = []
    for _ in range(_TURNS["rewriting"]):
        text = world.commas[language].join(rng.sample(words, rng.randint(4, 10)))
        turns.append((f"{world.copying[language]}\n{text}", text))
    return turns


IGNORED = -100

KINDS: dict[str, Callable[[bool, random.Random], Turns]] = {
    **{task: partial(conversation, task) for task in INSTRUCTION_TASKS},
    "own_words": own_words,
    "copying": copying,
}


def batch(conversations: list[Turns], tokenizer: PreTrainedTokenizerFast) -> tuple[Tensor, Tensor]:
    """Tokens [B, L] and labels [B, L], which are -100 but for the answers and their end."""
    texts = [
        [
            tokens
            for question, answer in turns
            for tokens in (
                (f"<|user|>{question}<|end|><|assistant|>", False),
                (f"{answer}<|end|>", True),
            )
        ]
        for turns in conversations
    ]
    flat = tokenizer([text for parts in texts for text, _ in parts])["input_ids"]
    encoded = iter(flat)
    rows, labels = [], []
    for parts in texts:
        ids: list[int] = []
        learnt: list[int] = []
        for _, is_answer in parts:
            tokens = next(encoded)
            ids += tokens
            learnt += tokens if is_answer else [IGNORED] * len(tokens)
        rows.append(ids)
        labels.append(learnt)
    length = max(map(len, rows))
    pad = tokenizer.pad_token_id
    return (
        torch.tensor([row + [pad] * (length - len(row)) for row in rows]),
        torch.tensor([row + [IGNORED] * (length - len(row)) for row in labels]),
    )


def held_out(
    split: InstructionSplit, task: InstructionTask, style: Style, count: int, seed: int
) -> list[Instruction]:
    """Rows with distinct prompts, in one style, of a split that training does not see."""
    rng = random.Random(f"{split}/{task}/{style.name}/{seed}")
    rows: dict[str, Instruction] = {}
    for instance in instances(split, task, rng):
        row = worded(instance, style, PUBLIC_AUTHOR, rng)
        rows.setdefault(prompt(row), row)
        if len(rows) == count:
            break
    return list(rows.values())
