"""The digest of public prompts, and what is asked of each."""

from typing import Any

import pytest
from datasets import Dataset, concatenate_datasets

from lit_fed.data import (
    CausalLMEncoding,
    ChatRecords,
    ClassificationEncoding,
    FederatedDataModule,
    InstructionEncoding,
)
from lit_fed.data.columns import row_ids
from lit_fed.methods.semantic_consensus.prompts import (
    prompt_digest,
    public_rows,
    require_prompts,
)


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

    def digest(question: str, answer: str, other: str) -> str:
        # the names of labels are those of all rows
        parts = [Dataset.from_dict(table(*one)) for one in ((question, answer), ("Who?", other))]
        rows = concatenate_datasets(parts)
        public = FederatedDataModule(rows, public=rows, encoding=encoding, validation_fraction=0)
        public.num_clients = 1
        public.setup()
        return prompt_digest(public)

    known = digest("Where?", "here", "there")
    assert digest("Where?", "there", "here") == known != digest("When?", "here", "there")
    # of labels, which answers are written by, it is of the names as well
    assert (digest("Where?", "here", "nowhere") == known) == (kind != "labels")


def test_a_prompt_of_a_chat_that_goes_on_asks_for_the_turn_that_is_learnt() -> None:
    """What follows that turn is another question, whose answer would be learnt as this one's."""
    encoding = InstructionEncoding(ChatRecords())

    def public(*more: dict[str, str]) -> FederatedDataModule:
        (turns,) = of_chats("one?", "first")
        rows = Dataset.from_dict({"messages": [[*turns, *more], turns]})
        data = FederatedDataModule(rows, public=rows, encoding=encoding, validation_fraction=0)
        data.num_clients = 1
        data.setup()
        return data

    later = {"role": "user", "content": "two?"}
    data, cut = public(later), public()
    rows = public_rows(data)
    assert encoding.inputs(rows) == ["one?", "one?"]
    assert encoding.responses(rows) == ["first", "first"]
    (labelled, _) = encoding.with_responses(rows, ["label", "label"])["messages"]
    assert labelled == [*of_chats("one?", "label")[0]]
    assert prompt_digest(data) == prompt_digest(cut)
    assert row_ids(rows).tolist() == [0, 1]
    assert public_rows(data) is rows
    blank = {"role": "assistant", "content": " "}
    assert encoding.inputs(public_rows(public(later, blank))) == ["one?", "one?"]


def test_a_pair_of_texts_is_asked_without_its_label_and_weight() -> None:
    encoding = ClassificationEncoding("a", text_pair="c", label="b", weight="w")
    rows = Dataset.from_dict({"a": ["one"], "b": ["yes"], "c": ["two"], "w": [0.5]})
    assert encoding.inputs(rows) == ["one\ntwo"]


@pytest.mark.parametrize("kind", ["labels", "chats"])
def test_prompts_that_are_all_empty_are_refused(kind: str) -> None:
    encoding, table = SETS[kind]

    def asked(*questions: str) -> Dataset:
        rows = concatenate_datasets([Dataset.from_dict(table(one, "yes")) for one in questions])
        train = concatenate_datasets([Dataset.from_dict(table(*one)) for one in ("ay", "bn")])
        data = FederatedDataModule(train, public=rows, encoding=encoding, validation_fraction=0)
        data.num_clients = 1
        data.setup()
        return require_prompts(data)

    with pytest.raises(ValueError, match=r"`data.public` .* all of its 2 rows are empty"):
        asked("", " \n")
    assert len(asked("", "Where?")) == 2
