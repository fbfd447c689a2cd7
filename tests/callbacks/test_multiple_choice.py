"""Multiple choice by a toy language model, in a federation of two rounds."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from lit_fed import FedAvg, FederatedModule, FedSDR
from lit_fed.aggregation import LocalOnly
from lit_fed.backbones import CausalLM
from lit_fed.callbacks import MultipleChoice
from lit_fed.data import CausalLMEncoding, FederatedDataModule, JSONLSource
from lit_fed.data.partitioners import IIDPartitioner
from lit_fed.methods.rewriting import NoFilter, Rewriting
from tests.federation.toy import fast_adamw, toy_module, toy_trainer
from tests.federation.toy_language_model import save_language_model

QUESTIONS = [
    {"query": "a b c", "choices": ["d", "zz z", "q"], "gold": 0},
    {"query": "b c", "choices": ["d", "yy"], "gold": 1},
    {"query": "d e f g", "choices": ["h", "i", "jjjj", "k"], "gold": 3},
    {"query": "c", "choices": ["aaa", "bb"], "gold": 0},
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_language_model(tmp_path_factory.mktemp("model"))


def data() -> FederatedDataModule:
    letters = "abcdefghij"
    rows = {
        "text": [" ".join(letters[i % 7 : i % 7 + 3]) for i in range(16)],
        "next": [letters[i % 7 + 3] for i in range(16)],
    }
    return FederatedDataModule(
        train=Dataset.from_dict(rows),
        encoding=CausalLMEncoding("{text} {next}", response="next"),
        partitioner=IIDPartitioner(),
        num_clients=2,
        batch_size=4,
        max_length=16,
        seed=0,
    )


def source(folder: Path, questions: list[dict[str, Any]]) -> JSONLSource:
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps(question) + "\n" for question in questions))
    return JSONLSource(path)


def fit(module: FederatedModule, folder: Path, callback: MultipleChoice) -> Any:
    trainer = toy_trainer(
        folder,
        callbacks=[callback],
        max_rounds=3,
        local_steps=2,
        clients_per_round=2,
        test_at_end=False,
    )
    trainer.fit(module, data())
    return trainer


def by_hand(backbone: CausalLM, prompt: str) -> tuple[float, float]:
    """Both accuracies, choice by choice."""
    right = [0, 0]
    model, tokenizer = backbone.model.eval(), backbone.tokenizer
    for question in QUESTIONS:
        scores = []
        for choice in question["choices"]:
            text = prompt.format(**question)
            start = len(text.rstrip())
            ids = torch.tensor([tokenizer(text + choice)["input_ids"]])
            with torch.no_grad():
                nats = model(input_ids=ids).logits[0].log_softmax(-1)
            scores.append(sum(float(nats[i - 1, ids[0, i]]) for i in range(start, ids.shape[1])))
        each = [score / len(c) for score, c in zip(scores, question["choices"], strict=True)]
        right[0] += scores.index(max(scores)) == question["gold"]
        right[1] += each.index(max(each)) == question["gold"]
    return right[0] / len(QUESTIONS), right[1] / len(QUESTIONS)


def test_the_global_model_is_asked_when_it_is_due(model: Path, tmp_path: Path) -> None:
    module = FedAvg(
        CausalLM(str(model)), optimizer=lambda params: torch.optim.AdamW(params, lr=0.05)
    )
    callback = MultipleChoice(source(tmp_path, QUESTIONS), every_n_rounds=2, batch_size=3)
    trainer = fit(module, tmp_path / "run", callback)
    asked = ["multiple_choice/accuracy" in row for row in trainer.federation.history]
    assert asked == [False, True, True]
    expected = by_hand(trainer.act_as_server().backbone, "{query} ")
    row = trainer.federation.history[-1]
    found = row["multiple_choice/accuracy"], row["multiple_choice/accuracy_normalized"]
    assert found == pytest.approx(expected)


def test_clients_are_asked_where_there_is_no_global_model(model: Path, tmp_path: Path) -> None:
    module = FedAvg(CausalLM(str(model)), aggregation=LocalOnly())
    callback = MultipleChoice(source(tmp_path, QUESTIONS), name="letters")
    trainer = fit(module, tmp_path / "run", callback)
    each = [by_hand(trainer.act_as_client(index).backbone, "{query} ")[0] for index in (0, 1)]
    row = trainer.federation.history[-1]
    assert row["clients/letters/accuracy/mean"] == pytest.approx(sum(each) / 2)
    assert row["clients/letters/accuracy/min"] == pytest.approx(min(each))


def test_both_are_asked_where_clients_have_models_beside_the_global_one(
    model: Path, tmp_path: Path
) -> None:
    rewriting = Rewriting(hint=" {reference}", filter=NoFilter(), max_new_tokens=2)
    module = FedSDR(CausalLM(str(model)), rewriting=rewriting, optimizer=fast_adamw)
    trainer = fit(module, tmp_path / "run", MultipleChoice(source(tmp_path, QUESTIONS), name="q"))
    row = trainer.federation.history[-1]
    own = []
    for index in range(2):
        trainer.act_as_client(index)
        assert module.backbone.active_adapters == ("default", "private")
        own.append(by_hand(module.backbone, "{query} ")[0])
    trainer.act_as_server()
    assert row["q/accuracy"] == pytest.approx(by_hand(module.backbone, "{query} ")[0])
    assert row["clients/q/accuracy/mean"] == pytest.approx(sum(own) / 2)
    assert row["clients/q/accuracy/max"] == pytest.approx(max(own))


def test_questions_as_the_hub_has_them(tmp_path: Path) -> None:
    arc = [
        {"question": "Why?", "choices": {"text": ["so", "not"], "label": ["A", "B"]}, "key": "B"},
        {"question": "Who?", "choices": {"text": ["I", "he"], "label": ["1", "2"]}, "key": "1"},
    ]
    template = "Question: {question}\nAnswer: "
    callback = MultipleChoice(source(tmp_path, arc), template, answer="key")
    assert callback.form.read(callback.source.load()) == [
        ("Question: Why?\nAnswer: ", ["so", "not"], 1),
        ("Question: Who?\nAnswer: ", ["I", "he"], 0),
    ]
    copa = [{"premise": "It rained, so", "choice1": "wet", "choice2": "dry", "label": 0}]
    columns = ["choice1", "choice2"]
    callback = MultipleChoice(source(tmp_path, copa), "{premise} ", columns, "label")
    assert callback.form.read(callback.source.load()) == [("It rained, so ", ["wet", "dry"], 0)]


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        (
            {"gold": 7},
            {},
            "`MultipleChoice.answer` is expected to give a position from 0 to 2, but",
        ),
        ({"choices": []}, {}, "`MultipleChoice.choices` is expected to give a list of texts, but"),
        ({"choices": ["a", " "]}, {}, "to give a list of texts, but row 0 has ['a', ' ']"),
        ({}, {"answer": "key"}, "`MultipleChoice.answer` is expected to name a column of the"),
        ({}, {"template": "{asked}"}, "`MultipleChoice.template` is expected to name a column"),
        ({"query": "a" * 80}, {}, "`MultipleChoice.source` has a question that cannot be asked"),
    ],
)
def test_what_cannot_be_asked_is_said_before_training(
    model: Path, tmp_path: Path, change: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    questions = source(tmp_path, [QUESTIONS[0] | change])
    module = FedAvg(CausalLM(str(model)))
    with pytest.raises(ValueError, match=re.escape(message)):
        fit(module, tmp_path / "run", MultipleChoice(questions, **settings))


def test_other_refusals(toy_model: Path, tmp_path: Path) -> None:
    questions = source(tmp_path, QUESTIONS)
    with pytest.raises(ValueError, match=r"`MultipleChoice.template` is expected to have plain"):
        MultipleChoice(questions, "no column")
    with pytest.raises(ValueError, match=r"`MultipleChoice.template` is not well-formed"):
        MultipleChoice(questions, "{query")
    with pytest.raises(
        TypeError, match=r"MultipleChoice expects `model.backbone` to be a CausalLM"
    ):
        MultipleChoice(questions).on_fit_start(None, toy_module(toy_model))
