"""The digest of public prompts, and what is asked of each."""

from typing import Any

import pytest
from datasets import Dataset

from lit_fed.data import (
    CausalLMEncoding,
    ChatRecords,
    ClassificationEncoding,
    FederatedDataModule,
    InstructionEncoding,
)
from lit_fed.methods.semantic_consensus.prompts import prompt_digest


def of_chats(question: str, answer: str) -> list[Any]:
    return [[{"role": "user", "content": question}, {"role": "assistant", "content": answer}]]


SETS = {
    "labels": (
        ClassificationEncoding("a", text_pair=None, label="b", weight="w"),
        lambda q, a: {"a": [q], "b": [a], "w": [float(len(a))]},
    ),
    "texts": (
        CausalLMEncoding("Q: {a}\nA: {b}", response="b"),
        lambda q, a: {"a": [q], "b": [a]},
    ),
    "chats": (
        InstructionEncoding(ChatRecords()),
        lambda q, a: {"messages": of_chats(q, a)},
    ),
}


@pytest.mark.parametrize("kind", SETS)
def test_the_digest_is_of_the_prompts_and_not_of_what_the_rows_answer(kind: str) -> None:
    encoding, table = SETS[kind]

    def digest(question: str, answer: str) -> str:
        rows = Dataset.from_dict(table(question, answer))
        public = FederatedDataModule(rows, public=rows, encoding=encoding, validation_fraction=0)
        public.num_clients = 1
        public.setup()
        return prompt_digest(public)

    assert digest("Where?", "here") == digest("Where?", "there") != digest("When?", "here")


def test_a_pair_of_texts_is_asked_without_its_label_and_weight() -> None:
    encoding = ClassificationEncoding("a", text_pair="c", label="b", weight="w")
    rows = Dataset.from_dict({"a": ["one"], "b": ["yes"], "c": ["two"], "w": [0.5]})
    assert encoding.inputs(rows) == ["one\ntwo"]
