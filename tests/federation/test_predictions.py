"""What `predictions` says of each row."""

import warnings
from pathlib import Path

import pytest
import torch
from datasets import ClassLabel, Dataset

from lit_fed import FedAvg
from lit_fed.aggregation import LocalOnly
from lit_fed.backbones import CausalLM
from lit_fed.data import (
    CausalLMEncoding,
    ChatRecords,
    ClassificationEncoding,
    CSVSource,
    FederatedDataModule,
    InstructionEncoding,
)
from tests.federation.toy import (
    fast_adamw,
    toy_backbone,
    toy_data,
    toy_module,
    toy_rows,
    toy_trainer,
)
from tests.methods.toy_chats import save_chat_lm
from tests.methods.toy_methods import continue_text, lm_data, lm_rows, save_toy_lm


def named(rows: Dataset) -> Dataset:
    return rows.cast_column("label", ClassLabel(names=["bad", "good"]))


def test_each_row_has_its_set_text_label_and_probabilities(toy_model: Path, tmp_path: Path) -> None:
    tests = {"near": named(toy_rows(10, 5)), "far": named(toy_rows(70, 6))}
    data = toy_data(train=named(toy_rows(96, 0)), validation=None, test=tests, public=None)
    trainer = toy_trainer(tmp_path / "run", max_rounds=2)
    module = toy_module(toy_model)
    trainer.fit(module, data)
    said = list(trainer.predictions(module))
    assert [(row["set"], row["row"]) for row in said] == [
        *(("near", i) for i in range(10)),
        *(("far", i) for i in range(70)),
    ]
    assert [row["text"] for row in said] == [*tests["near"]["text"], *tests["far"]["text"]]
    logits = torch.cat([output["logits"] for output in trainer.predict(module)])
    for row, expected in zip(said, logits.softmax(-1).tolist(), strict=True):
        assert list(row["probabilities"]) == ["bad", "good"]
        assert list(row["probabilities"].values()) == pytest.approx(expected, abs=1e-5)
        assert row["label"] == ("good" if expected[1] > expected[0] else "bad")
    near = [row["label"] == row["expected"] for row in said[:10]]
    assert sum(near) / 10 == pytest.approx(trainer.final_metrics["test/accuracy"])
    for limit, count in ((1, 74), (0, 0)):
        trainer.limit_predict_batches = limit
        assert len(list(trainer.predictions(module))) == count


def test_the_tables_other_columns_come_along(toy_model: Path, tmp_path: Path) -> None:
    rows = toy_rows(6, 5)
    rows = rows.add_column("id", [f"r{i}" for i in range(6)]).add_column(
        "row", [[i, i] for i in range(6)]
    )
    for unlabelled in (False, True):
        given = rows.remove_columns("label") if unlabelled else rows
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*as it was given")
            trainer = toy_trainer(tmp_path / str(unlabelled))
            said = list(trainer.predictions(toy_module(toy_model), toy_data(test=given)))
        assert [row["id"] for row in said] == rows["id"][:]
        assert [row["row_"] for row in said] == rows["row"][:]
        assert [row["row"] for row in said] == list(range(6))
        keys = {"set", "row", "text", "id", "row_", "label", "probabilities"}
        assert said[0].keys() == keys | (set() if unlabelled else {"expected"})


def test_rows_to_be_predicted_need_no_label(toy_model: Path, tmp_path: Path) -> None:
    module, trainer = toy_module(toy_model), toy_trainer(tmp_path / "run", max_rounds=1)
    answered = toy_rows(40, 6)
    trainer.fit(module, toy_data(test=answered))
    rows = list(trainer.predictions(module))
    tests = {"old": answered, "new": answered.remove_columns("label")}
    data = toy_data(test=tests)
    said = list(trainer.predictions(module, data))
    assert said[:40] == [{**row, "set": "old"} for row in rows]
    assert said[40:] == [
        {name: value for name, value in row.items() if name != "expected"} | {"set": "new"}
        for row in rows
    ]
    assert data.unanswered == {"new": frozenset(range(40))}
    # they are no test
    with pytest.raises(ValueError, match=r"`data.encoding.label` .* column of data.test.new"):
        trainer.test(module, data)
    with pytest.raises(ValueError, match=r"`data.encoding.label` .* column of data.test.new"):
        toy_trainer(tmp_path / "other", max_rounds=1).fit(module, toy_data(test=tests))


def test_rows_whose_label_is_blank_are_predicted_too(toy_model: Path, tmp_path: Path) -> None:
    module, trainer = toy_module(toy_model), toy_trainer(tmp_path / "run", max_rounds=1)
    answered = toy_rows(6, 6)
    trainer.fit(module, toy_data(test=answered))
    rows = list(trainer.predictions(module))
    table = answered.to_pandas()
    table["label"] = [*table["label"].astype(str)[:4], "", " "]
    table.to_csv(tmp_path / "new.csv", index=False)
    data = toy_data(test=CSVSource(tmp_path / "new.csv"))
    said = list(trainer.predictions(module, data))
    assert said[:4] == rows[:4]
    assert said[4:] == [{k: v for k, v in row.items() if k != "expected"} for row in rows[4:]]
    with pytest.raises(ValueError, match=r"data.test: .* no value in 2 of 6 rows, .* \(line 6 of"):
        trainer.test(module, data)


def test_a_question_to_be_answered_needs_no_answer(tmp_path: Path) -> None:
    module = continue_text(FedAvg, save_toy_lm(tmp_path / "lm"))
    trainer = toy_trainer(tmp_path / "run", max_rounds=1, clients_per_round=1.0)
    trainer.fit(module, lm_data())
    told = list(trainer.predictions(module, max_new_tokens=3))
    untold = lm_data(test=lm_rows(8, 2).remove_columns("answer"))
    assert list(trainer.predictions(module, untold, max_new_tokens=3)) == [
        {name: value for name, value in row.items() if name != "expected"} for row in told
    ]


def test_a_chat_that_waits_for_an_answer_is_told_as_it_is(tmp_path: Path) -> None:
    def turns(*texts: str) -> list[dict[str, str]]:
        roles = ("user", "assistant")
        return [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]

    train = Dataset.from_dict({"messages": [turns(f"What is {i}?", "It is so.") for i in range(8)]})
    chats = [turns("Who?", "Ann.", "Why?"), turns("Where?"), turns("When?", "Now.")]
    data = FederatedDataModule(
        train,
        test=Dataset.from_dict({"messages": chats}),
        encoding=InstructionEncoding(ChatRecords()),
        num_clients=2,
        batch_size=4,
        max_length=128,
        validation_fraction=0,
    )
    module = FedAvg(CausalLM(str(save_chat_lm(tmp_path / "model"))))
    said = list(
        toy_trainer(tmp_path / "run", clients_per_round=2).predictions(
            module, data, max_new_tokens=2
        )
    )
    assert [row["messages"] for row in said] == chats
    assert [row.get("expected") for row in said] == [None, None, "Now."]


def test_without_a_global_model_a_client_is_named(toy_model: Path, tmp_path: Path) -> None:
    module = FedAvg(
        toy_backbone(toy_model), aggregation=LocalOnly(), optimizer=fast_adamw, warmup_steps=0
    )
    data = toy_data()
    trainer = toy_trainer(tmp_path / "run", max_rounds=1, clients_per_round=1.0)
    trainer.fit(module, data)
    with pytest.raises(ValueError, match=r"FedAvg has none: name the client whose model predicts"):
        trainer.predictions(module)
    with pytest.raises(
        ValueError, match=r"`client` is expected to be one of client-0, .* did you mean 'client-1'"
    ):
        trainer.predictions(module, client="clint-1")
    own = {c.id: list(trainer.predictions(module, client=c.id)) for c in data.clients}
    assert len(own["client-0"]) == 40
    assert own["client-0"] != own["client-1"]
    module.eval()
    trainer.act_as_client(1)
    rows = trainer.datamodule.tests["test"]
    batch = next(iter(data.dataloader(rows, module.tokenizer)))
    with torch.no_grad():
        first = module(batch).logits[0].softmax(-1).tolist()
    assert list(own["client-1"][0]["probabilities"].values()) == pytest.approx(first, abs=1e-5)


@pytest.mark.parametrize("entry", ["predict", "predictions"])
def test_without_test_rows_there_is_an_error(entry: str, toy_model: Path, tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path / "run")
    with (
        pytest.warns(UserWarning, match="this trainer has not trained"),
        pytest.raises(ValueError, match=r"predict expects `data.test` to have rows"),
    ):
        getattr(trainer, entry)(toy_module(toy_model), toy_data(test=None))


def test_columns_of_a_fields_name_are_set_apart(toy_model: Path, tmp_path: Path) -> None:
    rows = toy_rows(20, 0).rename_column("text", "set")
    data = toy_data(
        train=rows,
        validation=None,
        test=rows,
        public=None,
        encoding=ClassificationEncoding("set", text_pair=None),
    )
    trainer = toy_trainer(tmp_path / "run")
    with pytest.warns(UserWarning, match="this trainer has not trained"):
        first = next(trainer.predictions(toy_module(toy_model), data))
    assert (first["set"], first["set_"]) == ("test", rows["set"][0])


def test_an_encoding_of_another_kind_is_named(toy_model: Path, tmp_path: Path) -> None:
    data = toy_data(encoding=CausalLMEncoding("{text} {label}", response="label"))
    message = (
        "`data.encoding` is expected to be a ClassificationEncoding, since `model.backbone` is a SequenceClassifier, "
        "which learns one label a row, but got a CausalLMEncoding"
    )
    with pytest.raises(ValueError, match=message):
        toy_trainer(tmp_path / "run").fit(toy_module(toy_model), data)


def test_a_language_model_answers_its_prompts(tmp_path: Path) -> None:
    module = continue_text(FedAvg, save_toy_lm(tmp_path / "lm"))
    trainer = toy_trainer(tmp_path / "run", max_rounds=1, clients_per_round=1.0)
    trainer.fit(module, lm_data())
    said = list(trainer.predictions(module, max_new_tokens=3))
    rows = lm_rows(8, 2)
    assert [list(row) for row in said[:1]] == [["set", "row", "text", "expected", "generated"]]
    assert [row["text"] for row in said] == rows["text"][:]
    assert [row["expected"] for row in said] == rows["answer"][:]
    prompts = [f"text : {text} is : " for text in rows["text"]]
    assert [row["generated"] for row in said] == module.backbone.generate(prompts, max_new_tokens=3)
    # the model has 64 positions: fewer new tokens than by default
    assert len(list(trainer.predictions(module))) == 8
    with pytest.raises(ValueError, match="`max_new_tokens` is expected to be at least 1"):
        trainer.predictions(module, max_new_tokens=0)


def test_a_language_model_is_not_given_labels(tmp_path: Path) -> None:
    rows = toy_rows(16, 0)
    data = lm_data(
        train=rows,
        validation=None,
        test=None,
        public=None,
        encoding=ClassificationEncoding("text", text_pair=None),
    )
    module = continue_text(FedAvg, save_toy_lm(tmp_path / "lm"))
    with pytest.raises(
        ValueError,
        match=r"expected to be a CausalLMEncoding, since `model.backbone` is a CausalLM,",
    ):
        toy_trainer(tmp_path / "run", clients_per_round=2).fit(module, data)
