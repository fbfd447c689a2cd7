"""Instruction data of every form and division, and rows that have nothing to learn from."""

import json
from pathlib import Path

import pytest
from datasets import Dataset

from lit_fed.data import (
    ChatRecords,
    ClientFiles,
    DirichletPartitioner,
    FederatedDataModule,
    HubSource,
    InstructionEncoding,
    InstructionRecords,
    JSONLSource,
    NaturalPartitioner,
    ParquetSource,
    Source,
)
from lit_fed.data.columns import row_ids
from lit_fed.data.reader import PlainReader
from tests.data.encodings import chat_tokenizers
from tests.methods.toy_chats import chat_rows

ENCODING = InstructionEncoding(InstructionRecords(context=None))
READER = {"backbone": PlainReader(chat_tokenizers.smollm())}


def with_blanks(count: int, *blank: int) -> Dataset:
    rows = chat_rows(count).to_dict()
    rows["response"] = [" \n" if i in blank else text for i, text in enumerate(rows["response"])]
    return Dataset.from_dict(rows)


def test_rows_with_nothing_to_learn_from_are_counted_and_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    monkeypatch.setattr("lit_fed.data.datamodule.rank_zero_info", said.append)
    data = FederatedDataModule(
        with_blanks(20, 3, 7), test=with_blanks(5, 0), encoding=ENCODING, num_clients=2
    )
    data.check(READER)
    assert said[:2] == [
        "data.train: 2 of 20 rows are left out, the first is row 3: they have nothing to learn from, which is a "
        "response, or a turn of the assistant, that is not blank",
        "data.test: 1 of 5 rows are left out, the first is row 0: they have nothing to learn from, which is a "
        "response, or a turn of the assistant, that is not blank",
    ]
    held = [i for client in data.clients for i in row_ids(client.rows).tolist()]
    assert data.validation is not None
    left = {*held, *row_ids(data.validation).tolist()}
    # a row's id is its place in the file
    assert left == set(range(20)) - {3, 7}
    assert row_ids(data.tests["test"]).tolist() == [1, 2, 3, 4]


def test_nothing_left_is_an_error() -> None:
    data = FederatedDataModule(with_blanks(2, 0, 1), encoding=ENCODING)
    with pytest.raises(
        ValueError, match=r"`data.train` is expected to have rows with a response.* none of its 2"
    ):
        data.setup()
    clients = {"a": chat_rows(3), "b": with_blanks(1, 0)}
    data = FederatedDataModule(clients, encoding=ENCODING, validation_fraction=0)
    with pytest.raises(ValueError, match=r"`data.train.b` is expected to have rows with something"):
        data.setup()
    data = FederatedDataModule(
        with_blanks(9, 4),
        encoding=InstructionEncoding(InstructionRecords(context=None), drop=False),
    )
    with pytest.raises(ValueError, match=r"1 of 9 have none, the first is row 4; .*encoding.drop"):
        data.setup()


def test_a_chat_that_ends_with_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("lit_fed.data.datamodule.rank_zero_info", said.append)
    ask, tell = {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}
    chats = Dataset.from_dict({"messages": [[ask, tell], [ask], [ask, tell, ask]] * 4})
    encoding = InstructionEncoding(ChatRecords())
    data = FederatedDataModule(chats, test=chats, encoding=encoding, num_clients=2)
    data.check(READER)
    for i, where in enumerate(("data.train", "data.test")):
        assert f"{where}: 4 of 12 rows are left out, the first is row 1" in said[2 * i]
        assert said[2 * i + 1] == (
            f"{where}: 4 of 8 chats go on after the assistant's last turn that is not blank, the first is row 2: what "
            "follows it is not learnt"
        )
    strict = InstructionEncoding(ChatRecords(), drop=False)
    for bad in ([ask, tell, ask], [ask, tell, ask, {**tell, "content": " "}]):
        rows = Dataset.from_dict({"messages": [[ask, tell], bad] * 4})
        with pytest.raises(ValueError, match=r"4 of 8 go on after it, the first is row 1; .*drop"):
            FederatedDataModule(rows, encoding=strict).setup()
    # to be predicted, nothing is left out
    data = FederatedDataModule(chats, test=chats, encoding=encoding, num_clients=2)
    data.setup("predict")
    assert len(data.tests["test"]) == 12
    assert data.unanswered["test"] == {i for i in range(12) if i % 3}
    ids = encoding.prompt_ids(data.tests["test"], READER["backbone"].tokenizer)
    assert ids == encoding.prompt_ids(chats, READER["backbone"].tokenizer)


def test_clients_by_file_by_column_and_by_partitioner(tmp_path: Path) -> None:
    rows = chat_rows(24)
    for place, name in enumerate(("ann", "bo")):
        own = [rows[i] for i in range(place, 24, 2)]
        (tmp_path / f"{name}.json").write_text(json.dumps(own))
    files = FederatedDataModule(ClientFiles(f"{tmp_path}/*.json"), encoding=ENCODING)
    files.check(READER)
    assert [client.id for client in files.clients] == ["ann", "bo"]
    authored = rows.add_column("author", ["cy", "di", "ed"] * 8)
    for partitioner, names in (
        (NaturalPartitioner("author"), {"cy", "di", "ed"}),
        (DirichletPartitioner(alpha=5.0, column="author"), {"client-0", "client-1"}),
        (None, {"client-0", "client-1"}),
    ):
        count = None if isinstance(partitioner, NaturalPartitioner) else 2
        data = FederatedDataModule(
            authored, encoding=ENCODING, partitioner=partitioner, num_clients=count, seed=0
        )
        data.check(READER)
        assert {client.id for client in data.clients} == names
        batch = next(iter(data.dataloader(data.clients[0].rows, READER["backbone"].tokenizer, 0)))
        assert (batch["labels"] != -100).any(1).all()


def test_chats_of_every_source(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]
    rows = Dataset.from_dict({"conversations": [turns] * 12})
    rows.to_parquet(tmp_path / "chats.parquet")
    rows.save_to_disk(tmp_path / "saved")
    (tmp_path / "chats.jsonl").write_text("\n".join(map(json.dumps, rows.to_list())))
    (tmp_path / "chats.json").write_text(json.dumps(rows.to_list()))
    encoding = InstructionEncoding(ChatRecords("conversations", role="from", content="value"))
    wanted = encoding.encode(rows, READER["backbone"].tokenizer, 100).row("input_ids", 0).tolist()
    sources: list[Source] = [
        ParquetSource(tmp_path / "chats.parquet"),
        HubSource(str(tmp_path / "saved")),
        JSONLSource(tmp_path / "chats.jsonl"),
        JSONLSource(tmp_path / "chats.json"),
    ]
    for source in sources:
        data = FederatedDataModule(source, encoding=encoding, num_clients=2)
        data.check(READER)
        features = encoding.encode(data.clients[0].rows, READER["backbone"].tokenizer, 100)
        assert features.row("input_ids", 0).tolist() == wanted


def test_an_error_names_the_line_of_a_row(tmp_path: Path) -> None:
    lines = [json.dumps({"messages": [{"role": role, "content": "a"}]}) for role in ("user", "bot")]
    (tmp_path / "chats.jsonl").write_text("\n".join(lines))
    data = FederatedDataModule(
        JSONLSource(tmp_path / "chats.jsonl"), encoding=InstructionEncoding(ChatRecords())
    )
    with pytest.raises(ValueError, match=r"data.train: .*turn 0 of row 1 has 'bot'.*\(line 2 of "):
        data.setup()
    data = FederatedDataModule(chat_rows(3), encoding=InstructionEncoding())
    with pytest.raises(ValueError, match=r"`data.encoding.records.context` .* got 'context'"):
        data.setup()


def test_rows_with_other_responses_and_hints() -> None:
    tokenizer = READER["backbone"].tokenizer
    rows = Dataset.from_dict(
        {"instruction": ["a", "b"], "context": ["", "c"], "response": ["d", "e"]}
    )
    encoding = InstructionEncoding()
    changed = encoding.with_responses(rows, ["x", "y"])
    assert encoding.responses(changed) == ["x", "y"]
    assert encoding.prompt_ids(changed, tokenizer) == encoding.prompt_ids(rows, tokenizer)
    hinted = encoding.with_hints(rows, ["\n\nhint", "\n\nhint"])
    assert encoding.prompts(hinted) == ["a\n\nhint", "b\n\nc\n\nhint"]
    said = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"), ("user", "e")]
    turns = [{"role": role, "content": content} for role, content in said]
    chats = Dataset.from_dict({"messages": [turns, turns[:2]]})
    encoding = InstructionEncoding(ChatRecords())
    assert encoding.responses(chats) == ["d", "b"]
    changed = encoding.with_responses(chats, ["x", "y"])
    assert encoding.responses(changed) == ["x", "y"]
    assert changed[0]["messages"][1] == turns[1]
    assert changed.features == chats.features
    hinted = encoding.with_hints(chats, ["\n\nhint", "\n\nhint"])
    assert [one["messages"][i]["content"] for one, i in zip(hinted, (2, 0), strict=True)] == [
        "c\n\nhint",
        "a\n\nhint",
    ]


@pytest.mark.parametrize("last", [["e"], ["e", " "]])
def test_a_hinted_prompt_asks_for_the_turn_that_is_learnt(last: list[str]) -> None:
    """What the user says after it is another question, whose answer would be learnt as this one's."""
    tokenizer = READER["backbone"].tokenizer
    encoding = InstructionEncoding(ChatRecords())
    roles = ["user", "assistant"] * 3
    turns = [
        {"role": r, "content": t} for r, t in zip(roles, ["a", "b", "c", "d", *last], strict=False)
    ]
    whole = Dataset.from_dict({"messages": [turns]})
    cut = Dataset.from_dict({"messages": [turns[:4]]})
    hinted = encoding.with_hints(whole, ["\nhint"])
    assert encoding.responses(hinted) == encoding.responses(whole) == ["d"]
    assert hinted.to_list() == encoding.with_hints(cut, ["\nhint"]).to_list()
    assert encoding.prompts(hinted) == ["user: a\nassistant: b\nuser: c\nhint"]
    assert encoding.prompt_ids(hinted, tokenizer) == encoding.prompt_ids(
        encoding.with_hints(cut, ["\nhint"]), tokenizer
    )
    # to be predicted is the answer to what comes last
    assert "user: e" in encoding.prompts(whole)[0]


@pytest.mark.parametrize("blank", ["", " ", None])
def test_a_chat_that_ends_with_a_blank_answer_is_to_be_predicted(blank: str | None) -> None:
    ask, tell = {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}
    waiting = [ask, {**tell, "content": blank}]
    train = Dataset.from_dict({"messages": [[ask, tell]] * 4})
    test = Dataset.from_dict({"messages": [waiting, [ask, tell], [ask]]})
    encoding = InstructionEncoding(ChatRecords())
    data = FederatedDataModule(train, test=test, encoding=encoding, num_clients=2)
    data.setup("predict")
    assert len(data.tests["test"]) == 3
    assert data.unanswered["test"] == {0, 2}
    ids = encoding.prompt_ids(data.tests["test"], READER["backbone"].tokenizer)
    assert ids[0] == ids[1] == ids[2]
