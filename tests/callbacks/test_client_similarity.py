"""How alike clients' data are: beside gradients by hand, at the same weights."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from lit_fed import FedAvg, FederatedModule, FedSD, SemanticConsensus
from lit_fed.aggregation import LocalOnly
from lit_fed.backbones import CallableGenerator, CausalLM
from lit_fed.callbacks import ClientSimilarity
from lit_fed.data import CausalLMEncoding, ClassificationEncoding, FederatedDataModule
from lit_fed.data.partitioners import IIDPartitioner
from lit_fed.federation import ShardedClients, VectorizedClients
from lit_fed.methods.rewriting import NoFilter, Rewriting
from lit_fed.methods.semantic_consensus import ClientGroup
from lit_fed.metrics import text_jensen_shannon, text_tfidf_cosine
from lit_fed.payload import Payload
from tests.federation.toy import toy_data, toy_module, toy_rows, toy_trainer, without_times
from tests.federation.toy_language_model import save_language_model
from tests.methods.toy_methods import continue_text, lm_data, save_toy_lm


def fit(
    module: FederatedModule, folder: Path, callback: ClientSimilarity | None, **settings: Any
) -> Any:
    data = settings.pop("data", None) or toy_data()
    callbacks = [] if callback is None else [callback]
    given = {"max_rounds": 2, "local_steps": 2, "test_at_end": False}
    trainer = toy_trainer(folder, callbacks=callbacks, **given | settings)
    trainer.fit(module, data)
    return trainer


def cosine_by_hand(trainer: Any, module: FederatedModule, rows: list[Dataset]) -> float:
    """One batch of all rows, one backward pass, and a loop over the pairs."""
    vectors = []
    for own in rows:
        module.eval()
        module.zero_grad()
        (batch,) = module.batches(own, batch_size=len(own))
        prediction = module(batch)
        kept = prediction.mask
        nats = torch.nn.functional.cross_entropy(prediction.logits[kept], prediction.targets[kept])
        nats.backward()
        grads = [p.grad.flatten() for p in module.parameters() if p.grad is not None]
        vectors.append(torch.cat(grads))
    pairs = list(itertools.combinations(vectors, 2))
    return sum(float(torch.cosine_similarity(a, b, dim=0)) for a, b in pairs) / len(pairs)


def test_the_cosine_is_that_of_the_clients_whole_gradients(toy_model: Path, tmp_path: Path) -> None:
    trainer = fit(toy_module(toy_model), tmp_path / "a", ClientSimilarity(every_n_rounds=1))
    first, second = (row["similarity/gradient_cosine"] for row in trainer.federation.history)
    assert "similarity/jensen_shannon" not in trainer.federation.history[0]
    data = trainer.datamodule
    tables = [data.client_data(client.id).rows for client in data.clients]
    # what the second round starts from is what a run of one round ends with
    other = fit(toy_module(toy_model), tmp_path / "b", ClientSimilarity(), max_rounds=1)
    expected = cosine_by_hand(other, other.act_as_server(), tables)
    assert second == pytest.approx(expected, abs=1e-4)
    built = toy_module(toy_model)
    built.datamodule = data
    assert first == pytest.approx(cosine_by_hand(None, built, tables), abs=1e-4)
    assert first != pytest.approx(second, abs=1e-3)
    (row,) = other.federation.history
    assert row["similarity/gradient_cosine"] == pytest.approx(first, abs=1e-6)


def test_it_changes_nothing(toy_model: Path, tmp_path: Path) -> None:
    bare = fit(toy_module(toy_model), tmp_path / "bare", None)
    for name, execution in (("alone", None), ("together", VectorizedClients(3))):
        settings = {} if execution is None else {"execution": execution}
        callback = ClientSimilarity(every_n_rounds=2, max_rows=5)
        trainer = fit(toy_module(toy_model), tmp_path / name, callback, **settings)
        rows = without_times(trainer.federation.history)
        measured = ["similarity/gradient_cosine" in row for row in rows]
        assert measured == [True, False]
        if execution is None:
            assert trainer.federation.broadcast == bare.federation.broadcast


class Same(FedAvg):
    """Lets each client train on the same rewritten rows."""

    def local_data(self, rows: Dataset, stage: str) -> Dataset:
        return Dataset.from_dict({"ask": ["x", "y z"], "say": ["the same", "for all"]})


def test_it_compares_what_the_method_trains_on(tmp_path: Path) -> None:
    model = save_language_model(tmp_path / "model")
    texts = [
        "a fox ran",
        "the dog slept",
        "a dog ran",
        "ships sail",
        "a ship",
        "the sea",
        "so",
        "a",
    ]
    rows = Dataset.from_dict({"ask": ["why", "who"] * 4, "say": texts})

    def data() -> FederatedDataModule:
        return FederatedDataModule(
            train=rows,
            encoding=CausalLMEncoding("{ask} {say}", response="say"),
            partitioner=IIDPartitioner(),
            num_clients=3,
            batch_size=3,
            max_length=48,
            seed=0,
        )

    trainer = fit(FedAvg(CausalLM(str(model))), tmp_path / "a", ClientSimilarity(), data=data())
    held = trainer.datamodule
    tables = [held.client_data(client.id).rows for client in held.clients]
    row = trainer.federation.history[0]
    built = FedAvg(CausalLM(str(model)))
    built.datamodule = held
    expected = cosine_by_hand(None, built, tables)
    assert row["similarity/gradient_cosine"] == pytest.approx(expected, abs=1e-4)
    own = [list(table["say"]) for table in tables]
    assert row["similarity/jensen_shannon"] == pytest.approx(text_jensen_shannon(own).item())
    assert row["similarity/tfidf_cosine"] == pytest.approx(text_tfidf_cosine(own).item())
    assert 0 < row["similarity/jensen_shannon"] < 1

    trainer = fit(Same(CausalLM(str(model))), tmp_path / "b", ClientSimilarity(), data=data())
    row = trainer.federation.history[0]
    assert row["similarity/gradient_cosine"] == pytest.approx(1, abs=1e-5)
    assert row["similarity/jensen_shannon"] == pytest.approx(0, abs=1e-6)
    assert row["similarity/tfidf_cosine"] == pytest.approx(1, abs=1e-6)


class Fails(Rewriting):
    """Cannot rewrite at one client."""

    def prepare(self, module: FederatedModule, rows: Dataset) -> Payload:
        if module.client is not None and module.client.index == 1:
            raise RuntimeError("one site's disk is full")
        return super().prepare(module, rows)


def test_a_client_that_could_not_prepare_is_left_out(tmp_path: Path) -> None:
    model = save_toy_lm(tmp_path / "model")
    similarities = []
    for name, method in (("all", Rewriting), ("two", Fails)):
        rewriting = method(filter=NoFilter(), hint=" the {reference} and", max_new_tokens=6)
        module = continue_text(FedSD, model, rewriting=rewriting)
        settings = {"data": lm_data(num_clients=3), "max_rounds": 1, "clients_per_round": 2}
        trainer = fit(module, tmp_path / name, ClientSimilarity(), **settings)
        similarities.append(trainer.federation.history[0]["similarity/gradient_cosine"])
    everyone, two = similarities
    assert -1 <= two <= 1
    assert two != pytest.approx(everyone, abs=1e-6)


def test_a_client_without_rows_of_the_task_is_left_out(toy_model: Path, tmp_path: Path) -> None:
    def of(rows: Dataset, *tasks: str) -> Dataset:
        return rows.add_column("task", [tasks[i % len(tasks)] for i in range(len(rows))])

    data = FederatedDataModule(
        {
            "both": of(toy_rows(20, 0), "one", "two"),
            "late": of(toy_rows(10, 1), "two"),
            "early": of(toy_rows(10, 2), "one"),
        },
        encoding=ClassificationEncoding(text="text", text_pair=None),
        tasks=["one", "two"],
        validation_fraction=0.0,
        batch_size=8,
        max_length=16,
        seed=0,
    )
    settings = {"data": data, "rounds_per_task": 1, "clients_per_round": 2}
    trainer = fit(
        toy_module(toy_model), tmp_path / "a", ClientSimilarity(every_n_rounds=1), **settings
    )
    assert ["similarity/gradient_cosine" in row for row in trainer.federation.history] == [True] * 2
    rows = [data.client_data(name, "one").rows for name in ("both", "early")]
    built = toy_module(toy_model)
    built.datamodule = data
    expected = cosine_by_hand(None, built, rows)
    first = trainer.federation.history[0]["similarity/gradient_cosine"]
    assert first == pytest.approx(expected, abs=1e-4)


def test_a_black_box_trains_on_no_rows_and_is_left_out(tmp_path: Path) -> None:
    model = save_toy_lm(tmp_path / "model")
    group = ClientGroup(CallableGenerator(str.lower), ["client-1"])
    module = continue_text(SemanticConsensus, model, clients=[group], consensus_rounds=0)
    data = lm_data(num_clients=3)
    trainer = fit(module, tmp_path / "a", ClientSimilarity(every_n_rounds=1), data=data)
    own = [list(data.client_data(id).rows["answer"]) for id in ("client-0", "client-2")]
    for row in trainer.federation.history:
        assert row["similarity/jensen_shannon"] == pytest.approx(text_jensen_shannon(own).item())


def test_a_single_client_is_compared_with_nobody(toy_model: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"data": toy_data(num_clients=1), "clients_per_round": 1}
    with pytest.warns(
        UserWarning, match="ClientSimilarity has nothing to compare, since there is 1"
    ):
        trainer = fit(toy_module(toy_model), tmp_path, ClientSimilarity(), **settings)
    assert not any(name.startswith("similarity/") for name in trainer.federation.history[0])


def test_refusals(toy_model: Path, tmp_path: Path) -> None:
    def refuse(message: str, callback: ClientSimilarity, **settings: Any) -> None:
        with pytest.raises(ValueError, match=message):
            fit(toy_module(toy_model), tmp_path, callback, **settings)

    refuse(
        r"`ClientSimilarity.stage` is expected to be one of \['train'\], but got 'two'",
        ClientSimilarity(stage="two"),
    )
    refuse(
        r"`ClientSimilarity.gradients` is expected to be false or null .* ShardedClients",
        ClientSimilarity(gradients=True),
        execution=ShardedClients(),
    )
    with pytest.raises(ValueError, match=r"`ClientSimilarity.max_rows` is expected"):
        ClientSimilarity(max_rows=0)
    alone = FedAvg(toy_module(toy_model).backbone, aggregation=LocalOnly())
    with pytest.raises(ValueError, match="for a method without a global model"):
        fit(alone, tmp_path / "alone", ClientSimilarity(gradients=True))
