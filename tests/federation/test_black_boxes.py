"""A client whose model is a black box: it answers, trains nothing, and the rounds go on around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from lit_fed import Payload
from lit_fed.backbones import BlackBox, CallableGenerator, TextGenerator
from lit_fed.callbacks import AdapterExport, ClientMetrics
from lit_fed.client import Client
from lit_fed.federation import SequentialClients, VectorizedClients, last_checkpoint
from lit_fed.federation.run.checkpoint import load_checkpoint
from lit_fed.stage import Stage
from tests.backbones.endpoint.misbehaving_server import MisbehavingServer, fails_with
from tests.federation.protocol_methods import Answers
from tests.federation.toy import (
    GOOD,
    fast_adamw,
    save_toy_model,
    toy_backbone,
    toy_data,
    toy_rows,
    toy_trainer,
    without_times,
)
from tests.slow import slow_but

NUMBER = 1


def says_good(text: str) -> str | None:
    """Right of most rows; no answer of those with a certain word."""
    words = text.split()
    return None if "book" in words else ("good" if set(GOOD) & set(words) else "bad")


class AnswersAndBlackBoxes(Answers):
    """Client 1 asks instead of training a model."""

    def __init__(self, backbones: Sequence[Any], generator: TextGenerator, **kwargs: Any) -> None:
        super().__init__(backbones, **kwargs)
        self.box = BlackBox(generator, backbones[0])

    def act_as(self, client: Client | None) -> None:
        super().act_as(client)
        asks = client is not None and client.index == NUMBER
        self.stages = () if asks else (Stage("train"),)
        if asks:
            self.backbone = self.box

    def upload(self) -> Payload:
        if self.backbone is not self.box:
            return super().upload()
        answers = self._asked(self.datamodule.public)
        self.log("answers/missing", float(answers.count("")))
        return Payload(strings={"answers": answers})

    def answer_metrics(self, rows: Dataset) -> Mapping[str, float]:
        said = self._asked(rows)
        right = [
            one == ("bad", "good")[label] for one, label in zip(said, rows["label"], strict=True)
        ]
        return {"accuracy": sum(right) / len(right)}

    def _asked(self, rows: Dataset) -> list[str]:
        return [answer or "" for answer in self.box.generate(list(rows["text"]))]


@pytest.fixture(scope="module")
def make(toy_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    other = save_toy_model(tmp_path_factory.mktemp("other") / "model", width=16)

    def build(generator: TextGenerator | None = None) -> AnswersAndBlackBoxes:
        backbones = [toy_backbone(toy_model), toy_backbone(other)]
        return AnswersAndBlackBoxes(
            backbones, generator or CallableGenerator(says_good), optimizer=fast_adamw
        )

    return build


@pytest.fixture(scope="module")
def whole(make: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("whole")
    trainer = toy_trainer(
        folder,
        max_rounds=3,
        clients_per_round=1.0,
        callbacks=[ClientMetrics(), AdapterExport()],
    )
    trainer.fit(make(), toy_data())
    return trainer, folder


def test_it_trains_nothing(whole: tuple[Any, Path]) -> None:
    trainer, _ = whole
    states = dict(trainer.federation.clients)
    own = states.pop(f"client-{NUMBER}")
    assert (own.rounds, own.steps, own.stage_steps) == (3, 0, {})
    assert own.private == Payload()
    assert own.optimizer == Payload()
    assert all(state.steps > 0 and state.private.tensors for state in states.values())


def test_its_rows_in_the_tables(whole: tuple[Any, Path]) -> None:
    trainer, folder = whole
    last = trainer.federation.history[-1]
    missing = sum("book" in text.split() for text in toy_rows(24, 3)["text"])
    assert missing > 0
    assert last["clients/answers/missing/mean"] == missing
    (file,) = folder.rglob("clients.csv")
    head, *rows = [line.split(",") for line in file.read_text().splitlines()]
    table = [dict(zip(head, row, strict=True)) for row in rows]
    asked = [row for row in table if row["client"] == f"client-{NUMBER}"]
    assert len(asked) == 3
    assert all(row["val/loss"] == row["val/accuracy"] == "" for row in asked)
    assert all(float(row["answers/missing"]) == missing for row in asked)
    others = [row for row in table if row["client"] != f"client-{NUMBER}"]
    assert all(float(row["val/loss"]) > 0 and row["answers/missing"] == "" for row in others)


def test_it_is_right_or_not_and_has_no_loss(whole: tuple[Any, Path]) -> None:
    trainer, _ = whole
    right = ["book" not in text.split() for text in toy_rows(40, 2)["text"]]
    # it knows the words, and the models have hardly begun to
    assert trainer.final_metrics["clients/test/accuracy/max"] == sum(right) / 40
    assert "clients/test/loss/mean" in trainer.final_metrics


def test_nothing_of_it_is_exported(whole: tuple[Any, Path]) -> None:
    _, folder = whole
    (exported,) = folder.rglob("adapter")
    assert sorted(one.name for one in exported.iterdir()) == ["client-0", "client-2", "client-3"]


def test_it_resumes(make: Any, whole: tuple[Any, Path], tmp_path: Path) -> None:
    trainer, folder = whole
    settings: dict[str, Any] = {"clients_per_round": 1.0}
    toy_trainer(tmp_path, max_rounds=1, **settings).fit(make(), toy_data())
    resumed = toy_trainer(tmp_path, max_rounds=3, **settings)
    resumed.fit(make(), toy_data(), ckpt_path="last")
    ours, theirs = trainer.federation, resumed.federation
    assert without_times(ours.history) == without_times(theirs.history)
    assert ours.clients == theirs.clients
    kept = load_checkpoint(last_checkpoint(folder))
    assert replace(kept, callbacks=ours.callbacks) == ours


@pytest.mark.parametrize("at_once", slow_but(4, of=[4, "auto"]))
def test_vectorized_is_sequential(make: Any, at_once: Any, tmp_path: Path) -> None:
    runs = []
    for name, execution in (
        ("one", SequentialClients()),
        ("many", VectorizedClients(clients_at_once=at_once)),
    ):
        trainer = toy_trainer(
            tmp_path / name, max_rounds=3, clients_per_round=1.0, execution=execution
        )
        trainer.fit(make(), toy_data())
        runs.append(trainer.federation)
    one, many = runs
    assert one.broadcast == many.broadcast
    assert one.ledger == many.ledger
    for id, state in one.clients.items():
        assert state.steps == many.clients[id].steps
        torch.testing.assert_close(
            state.private.tensors, many.clients[id].private.tensors, atol=1e-4, rtol=1e-3
        )
    for name in ("clients/answers/missing/mean", "clients/val/loss/mean"):
        assert one.history[-1][name] == pytest.approx(many.history[-1][name], rel=1e-3)


def test_a_batch_is_no_prompt(make: Any) -> None:
    module = make()
    module.act_as(Client("client-1", NUMBER, 3, round=0, rounds=0, steps=0))
    with pytest.raises(TypeError, match=r"CallableGenerator\(says_good\) answers prompts by texts"):
        module({"input_ids": torch.zeros(1, 1)})
    with pytest.raises(ValueError, match="to be empty for a black box, but has 1 tensors"):
        module.backbone.load_trainable({"a": torch.zeros(1)})


def test_probabilities_of_a_black_box_are_refused_by_its_client(
    make: Any, whole: tuple[Any, Path]
) -> None:
    trainer = toy_trainer(whole[1])
    with pytest.raises(
        TypeError,
        match=r"`client` is expected .* 'client-1' is a black box: CallableGenerator\(says_good\)",
    ):
        list(trainer.predictions(make(), toy_data(), ckpt_path="last", client="client-1"))


def test_a_dead_endpoint_costs_its_client_alone(make: Any, tmp_path: Path) -> None:
    from lit_fed.backbones import HTTPGenerator

    with MisbehavingServer(otherwise=fails_with(500)) as server:
        asked = HTTPGenerator(server.url, "m", max_retries=0)
        trainer = toy_trainer(tmp_path, max_rounds=2, clients_per_round=1.0)
        trainer.fit(make(asked), toy_data())
    assert trainer.federation.failures == {}
    assert trainer.federation.history[-1]["clients/answers/missing/mean"] == 24
    assert trainer.final_metrics["clients/test/accuracy/min"] == 0
