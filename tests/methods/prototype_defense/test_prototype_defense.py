"""The prototype defence beside plain loops, what it sends, and what it refuses."""

from __future__ import annotations

import copy
import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer, BertConfig, BertForSequenceClassification

from lit_fed import FedAvg, Payload, PrototypeDefense
from lit_fed.aggregation import Aggregation, FedExLoRA, FLoRA
from lit_fed.attachment import Attachment
from lit_fed.attacks import LabelFlipping, RandomUpdate, SignFlip
from lit_fed.backbones import CausalLM, SequenceClassifier
from lit_fed.client import Client
from lit_fed.configuration_error import ConfigurationError
from lit_fed.defenses import ReferencesOnly
from lit_fed.federation import FederationState, SequentialClients, ShardedClients
from lit_fed.methods.prototype_defense import FittedEncoder, PretrainedEncoder, TeacherEncoder
from lit_fed.methods.prototype_defense.guarding import AGREED
from lit_fed.methods.teachers import FineTunedTeacher, FrozenTeacher, Teacher
from lit_fed.prototypes import AgreementGate, ConformalGate, EarlyMargin, NoGate, prototype_drift
from lit_fed.update import Update
from tests.federation.toy import save_toy_model, toy_backbone, toy_data, toy_rows, toy_trainer
from tests.methods.plain_loop import recorded, trained, under_names_of_payloads
from tests.methods.toy_methods import save_sober_model, save_toy_lm

RATE = 0.2


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sober_model(tmp_path_factory.mktemp("sober") / "model")


def plain_sgd(params: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=RATE)


def defended(model: Path, **settings: Any) -> PrototypeDefense:
    given = {"optimizer": plain_sgd, "num_prototypes": 4, "lambda_distill": 0.0}
    return PrototypeDefense(toy_backbone(model), **given | settings)


def fit(module: FedAvg, root: Path, data: Any = None, **settings: Any) -> Any:
    trainer = toy_trainer(root, **{"max_rounds": 1, "test_at_end": False} | settings)
    trainer.fit(module, data or toy_data())
    return trainer


class Flipping(Attachment):
    """Flips the labels of the first rows of a client."""

    def __init__(self, count: int, clients: list[str]) -> None:
        super().__init__(clients)
        self.count = count
        self._made: dict[str, Dataset] = {}

    def rows(self, client: Client, rows: Dataset) -> Dataset:
        if client.id not in self._made:
            labels = [1 - y if i < self.count else y for i, y in enumerate(rows["label"])]
            self._made[client.id] = rows.remove_columns("label").add_column("label", labels)
        return self._made[client.id]


# ---------------------------------------------------------------- beside references


def embedded(model: Path, texts: list[str]) -> np.ndarray:
    """Means of the last hidden state, by transformers alone."""
    tokenizer, body = AutoTokenizer.from_pretrained(model), AutoModel.from_pretrained(model).eval()
    found = []
    for text in texts:
        with torch.no_grad():
            state = body(**tokenizer(text, return_tensors="pt")).last_hidden_state
        found.append(state[0].mean(0).numpy())
    return np.stack(found)


def test_the_gate_keeps_what_numpy_does(model: Path, tmp_path: Path) -> None:
    module = defended(model, encoder=PretrainedEncoder(), lambda_prototype=0.0)
    flips = Flipping(10, ["client-1"])
    trainer = fit(module, tmp_path, attachments=[flips], clients_per_round=4)
    vectors = module.prototypes.vectors.numpy()
    for own in trainer.datamodule.clients:
        rows = flips._made.get(own.id, own.rows)
        states = embedded(model, list(rows["text"]))
        unit = states / np.linalg.norm(states, axis=1, keepdims=True)
        found = module.prototypes.classes.numpy()[(unit @ vectors.T).argmax(1)]
        wrong = [i for i, y in enumerate(rows["label"]) if y != found[i]]
        told = module.dropped(own.id)
        assert [one.text for one in told] == [rows["text"][i] for i in wrong]
        assert [one.label for one in told] == [str(rows["label"][i]) for i in wrong]
        assert [one.assigned_class for one in told] == [str(found[i]) for i in wrong]
        nearest = (unit @ vectors.T).max(1)[wrong]
        assert [one.similarity for one in told] == pytest.approx(nearest.tolist(), abs=1e-4)
    flipped = set(flips._made["client-1"]["text"][:10])
    assert len([one for one in module.dropped("client-1") if one.text in flipped]) >= 8


def plain_steps(
    model: nn.Module,
    start: dict[str, Tensor],
    batches: list[dict[str, Tensor]],
    prototypes: Tensor,
    strength: float,
    margin: float,
) -> dict[str, Tensor]:
    """SGD on CE + λ · mean max(0, 1 − cos − m), written anew."""
    model = copy.deepcopy(model)
    own = trained(model)
    for name, value in start.items():
        own[name].data = value.clone()
    for batch in batches:
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        output = model(**inputs, output_hidden_states=True)
        mask = inputs["attention_mask"].unsqueeze(-1)
        states = (output.hidden_states[-1] * mask).sum(1) / mask.sum(1)
        cosines = (states @ prototypes.T) / states.norm(dim=1, keepdim=True)
        hinge = (1 - cosines.max(1).values - margin).clamp(min=0).mean()
        loss = F.cross_entropy(output.logits, batch["labels"]) + strength * hinge
        gradients = torch.autograd.grad(loss, list(own.values()))
        for parameter, gradient in zip(own.values(), gradients, strict=True):
            parameter.data -= RATE * gradient
    return {name: parameter.detach().clone() for name, parameter in own.items()}


def test_rounds_of_the_literal_margin_are_those_of_a_plain_loop(
    model: Path, tmp_path: Path
) -> None:
    module = defended(
        model,
        encoder=PretrainedEncoder(),
        gate=NoGate(),
        assignment="nearest",
        lambda_prototype=3.0,
        margin=0.02,
    )
    record, trainer, initial = recorded(module, tmp_path, clients_per_round=3, max_rounds=2)
    prototypes = module.prototypes.vectors.double()
    theta = {name: p.detach().clone() for name, p in trained(initial).items() if "gate" not in name}
    for number in range(2):
        sent = {
            client: plain_steps(initial, theta, batches, prototypes, 3.0, 0.02)
            for (at, client), batches in record.batches.items()
            if at == number
        }
        total = sum(record.sizes[client] for client in sent)
        theta = {
            name: sum(record.sizes[c] / total * own[name] for c, own in sent.items())
            for name in theta
        }
    found, expected = trainer.federation.broadcast.tensors, under_names_of_payloads(theta)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-8)
    assert trainer.federation.history[0]["clients/train/prototype/min"] > 0


def test_further_layers_have_prototypes_of_their_own(model: Path, tmp_path: Path) -> None:
    module = defended(
        model,
        encoder=PretrainedEncoder(),
        gate=NoGate(),
        assignment="label",
        layers=[0],
        margin=0.01,
        lambda_prototype=2.0,
    )
    trainer = fit(module, tmp_path, clients_per_round=4, max_rounds=2)
    assert not trainer.federation.failures
    rows = trainer.datamodule.clients[1].rows.select(range(8))
    batch = next(iter(module.batches(rows)))
    told: dict[str, Tensor] = {}
    module.log = lambda name, value, **_: told.update({name: value})  # type: ignore[method-assign]
    module.eval()
    loss = module.training_step(batch, 0)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    output = module.backbone.model(**inputs, output_hidden_states=True)
    mask = inputs["attention_mask"].unsqueeze(-1)
    guard = module.guarding.guard
    hinges = []
    for place, own in ((1, guard.deeper[0]), (2, guard.prototypes)):
        states = (output.hidden_states[place] * mask).sum(1) / mask.sum(1)
        cosines = (states @ own.vectors.T) / states.norm(dim=1, keepdim=True)
        fits = own.classes == batch["labels"].unsqueeze(-1)
        best = cosines.masked_fill(~fits, -2).max(1).values
        hinges.append((1 - best - 0.01).clamp(min=0).mean())
    assert min(hinges) > 0
    assert told["train/prototype"].item() == pytest.approx(float(sum(hinges)), rel=1e-4)
    expected = F.cross_entropy(output.logits, batch["labels"]) + sum(hinges)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


class Prepared(FedAvg):
    """Trains on the rows that are named alone."""

    kept: dict[str, Dataset]

    def local_data(self, rows: Dataset, stage: str) -> Dataset:
        return self.kept[self.client.id]


def test_the_gate_is_training_on_the_rows_that_are_kept(model: Path, tmp_path: Path) -> None:
    module = defended(model, lambda_prototype=0.0)
    trainer = fit(module, tmp_path / "a", max_rounds=2)
    held = module.guarding._memory.held
    plain = Prepared(toy_backbone(model), optimizer=plain_sgd)
    plain.kept = {name: one.kept for name, one in held.items()}
    assert any(len(one.kept) < len(one.rows) for one in held.values())
    # What is drawn in a client's round follows from its seed, not from what was fitted before.
    other = fit(plain, tmp_path / "b", toy_data(), max_rounds=2)
    for name, value in other.federation.broadcast.tensors.items():
        assert torch.equal(trainer.federation.broadcast.tensors[name], value), name


def test_a_dropped_row_that_is_pulled_has_no_cross_entropy(model: Path, tmp_path: Path) -> None:
    module = defended(model, pull=True, lambda_prototype=0.0)
    trainer = fit(module, tmp_path, clients_per_round=4)
    client = trainer.datamodule.clients[1]
    trainer._loop.act_as_client(1)
    gated = module.guarding.judge(module, module.client, client.rows)
    assert 0 < int(gated.judgement.kept.sum()) < len(client.rows)
    batch = next(iter(module.batches(client.rows)))
    module.metric_averager = None
    module.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    loss = module.training_step(batch, 0)
    kept = gated.judgement.kept[: len(batch["labels"])]
    alone = {name: value[kept] for name, value in batch.items()}
    expected = F.cross_entropy(module(alone).logits, alone["labels"])
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_flipped_rows_are_dropped_and_the_fitted_encoder_is_right(
    model: Path, tmp_path: Path
) -> None:
    # a toy of random weights has more to learn than a pretrained model
    module = defended(model, encoder=FittedEncoder(epochs=10, lr=2e-3))
    data = toy_data(public=toy_rows(200, 3))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="`model.encoder`")
        trainer = fit(module, tmp_path, data, attachments=[Flipping(20, ["client-1"])])
    row = trainer.federation.history[-1]
    assert row["server/references/encoder_accuracy"] > 0.9
    assert len(module.dropped("client-1")) >= 18
    kept = module.kept_rows(trainer.federation.clients["client-1"].private)
    assert kept is not None
    assert len(kept.dropped) == sum(kept.total) - sum(kept.kept) == len(module.dropped("client-1"))
    assert row["clients/train/dropped_rows/max"] == len(module.dropped("client-1"))
    assert module.embed(["a good film", "bad"]).shape == (2, 32)
    assert module.prototypes.references[0]


def test_the_summary_tells_what_the_gate_does_to_clean_and_to_poisoned_rows(
    model: Path, tmp_path: Path
) -> None:
    module = defended(model, encoder=FittedEncoder(epochs=10, lr=2e-3))
    attack = LabelFlipping(target=1, rate=0.5, clients=["client-1"])
    trainer = fit(
        module,
        tmp_path,
        toy_data(public=toy_rows(200, 3)),
        attachments=[attack],
        clients_per_round=1.0,
    )
    row = trainer.federation.history[-1]
    told = json.loads((tmp_path / "summary.json").read_text())["defenses"]["PrototypeDefense"]
    data = toy_data()
    data.setup("fit")
    assert set(told) == {client.id for client in data.clients}
    total, gone = 96, {id for one in told.values() for id in one["dropped_rows"]}
    bad = set(attack.chosen_rows("client-1"))
    by_hand = {
        "clean_rows_lost": len(gone - bad) / (total - len(bad)),
        "poisoned_rows_kept": len(bad - gone) / len(bad),
    }
    reported = {k: v for k, v in row.items() if k.startswith("defense/")}
    assert reported == {
        f"defense/PrototypeDefense/{k}": pytest.approx(v) for k, v in by_hand.items()
    }
    for client in data.clients:
        one, rows = told[client.id], client.rows
        assert sum(one["total"].values()) == len(rows)
        dropped = set(one["dropped_rows"])
        assert (
            len(dropped) == len(rows) - sum(one["kept"].values()) == len(module.dropped(client.id))
        )
        poisoned = set(attack.chosen_rows(client.id))
        if client.id != "client-1":
            assert not poisoned
            assert "clean_rows_lost" not in one
            continue
        assert len(poisoned) == round(0.5 * list(rows["label"]).count(0))
        assert one["total"]["1"] == list(rows["label"]).count(1) + len(poisoned)
        assert one["poisoned_rows_kept"] == pytest.approx(len(poisoned - dropped) / len(poisoned))
        lost = len(dropped - poisoned) / (len(rows) - len(poisoned))
        assert one["clean_rows_lost"] == pytest.approx(lost)
        assert one["poisoned_rows_kept"] < 0.3


def test_a_run_that_goes_on_reports_the_gate_of_all_clients_that_have_trained(
    model: Path, tmp_path: Path
) -> None:
    def rows_of(name: str, rounds: int, ckpt_path: str | None = None) -> list[dict[str, float]]:
        trainer = toy_trainer(
            tmp_path / name,
            max_rounds=rounds,
            clients_per_round=1,
            test_at_end=False,
            attachments=[LabelFlipping(target=1, rate=0.9)],
        )
        trainer.fit(defended(model, encoder=PretrainedEncoder()), toy_data(), ckpt_path)
        return [
            {k: v for k, v in row.items() if k.startswith("defense/PrototypeDefense/")}
            for row in trainer.federation.history
        ]

    whole = rows_of("whole", 3)
    assert len({row["defense/PrototypeDefense/clean_rows_lost"] for row in whole}) > 1
    rows_of("part", 2)
    assert rows_of("part", 3, "last") == whole


def test_without_an_attack_nothing_is_said_of_poisoned_rows(model: Path, tmp_path: Path) -> None:
    trainer = fit(defended(model, encoder=PretrainedEncoder()), tmp_path)
    assert not [name for name in trainer.federation.history[-1] if name.startswith("defense/")]


def test_a_step_of_the_encoder_is_no_longer_than_its_gradient_may_be(
    model: Path, tmp_path: Path
) -> None:
    def moved(norm: float) -> float:
        # AdamW divides by the gradient's size plus 1e-8: of gradients far below that it makes steps near 0
        encoder = FittedEncoder(epochs=1, weight_decay=0.0, max_grad_norm=norm)
        module = defended(model, encoder=encoder)
        before = {n: p.detach().clone() for n, p in module.backbone.trainable("gate").items()}
        fit(module, tmp_path / str(norm), limit_train_batches=1)
        after = module.guarding.guard.encoder
        return max(float((after[name] - one).abs().max()) for name, one in before.items())

    assert moved(1e-13) < 1e-6 < 1e-4 < moved(1.0)


def test_an_encoder_that_knows_little_is_said(model: Path, tmp_path: Path) -> None:
    module = defended(model, encoder=PretrainedEncoder())
    with pytest.warns(UserWarning, match=r"PretrainedEncoder is right about .* nearer to always"):
        trainer = fit(module, tmp_path)
    assert trainer.federation.history[-1]["server/references/encoder_accuracy"] < 0.75


@pytest.mark.parametrize("rule", [FLoRA, FedExLoRA])
def test_what_clients_change_under_the_adapters_is_no_part_of_the_encoder(
    rule: type[Aggregation], model: Path, tmp_path: Path
) -> None:
    texts = list(toy_rows(6, 5)["text"])
    for encoder in (PretrainedEncoder(), FittedEncoder(epochs=1)):
        module = PrototypeDefense(
            toy_backbone(model), rule(), encoder=encoder, num_prototypes=4, lambda_distill=0.0
        )
        fit(module, tmp_path / type(encoder).__name__)
        folded = {name: change.dense() for name, change in module.backbone.folded.items()}
        assert any(bool(change.any()) for change in folded.values())
        found = module.embed(texts), module.embed_rows(toy_rows(6, 5))
        for name, change in module.backbone.folded.items():
            assert torch.equal(change.dense(), folded[name])
        module.backbone.fold({})
        for one in (*found, module.guarding.embed(module, texts)):
            torch.testing.assert_close(one, found[0], rtol=0, atol=1e-5)
        if isinstance(encoder, PretrainedEncoder):
            assert np.allclose(found[0].numpy(), embedded(model, texts), atol=1e-5)


# ---------------------------------------------------------------- what is sent


def test_the_prototypes_take_their_bytes_once(model: Path, tmp_path: Path) -> None:
    module = defended(model, gate=NoGate(), assignment="nearest", encoder=PretrainedEncoder())
    ours = fit(module, tmp_path / "a", clients_per_round=4, max_rounds=2).federation
    plain = FedAvg(toy_backbone(model), optimizer=plain_sgd)
    theirs = fit(plain, tmp_path / "b", clients_per_round=4, max_rounds=2).federation
    sent = module.guarding.parts_for(is_new=True)
    vectors, agreed = sent["prototypes"].nbytes, sent[AGREED].nbytes
    assert vectors == 4 * 32 * 4
    # Beside the vectors: a class of 2 bytes and a count of 4 a prototype, and the texts.
    facts = sent["prototype_facts"]
    assert facts.nbytes == 4 * (2 + 4) + agreed + len("01")
    for number, beside in enumerate((vectors + facts.nbytes, 0)):
        up, down = ours.ledger.rounds[number]
        assert down - theirs.ledger.rounds[number][1] == 4 * (beside + agreed)
        assert up - theirs.ledger.rounds[number][0] == 4 * agreed


def test_a_client_goes_by_the_servers_prototypes_alone(model: Path, tmp_path: Path) -> None:
    module = defended(model)
    trainer = fit(module, tmp_path)
    state = trainer.federation
    client = Client("client-0", 0, 8, round=1, rounds=1, steps=1)
    broadcast = module.broadcast_to(client, state.broadcast)
    (prepared,) = {one.prepared.nbytes: one.prepared for one in state.clients.values()}.values()
    _, encoder, digest = module.prototypes.about
    module.act_as(client)
    module.prepared = prepared
    module.download(broadcast)
    other = Payload(strings={"about": ["1", encoder, "0" * 16]})
    with pytest.raises(
        ValueError, match=rf"client 'client-0' .* version 1, encoder .* version 0, .*{digest}"
    ):
        module.download(broadcast.with_parts({AGREED: other}))
    module.prepared = Payload()
    with pytest.raises(ValueError, match=r"client 'client-0' .* but says nothing of prototypes"):
        module.download(broadcast)
    module.prepared = prepared
    weights = {n: t + 1 for n, t in prepared.parts["gate_encoder"].tensors.items()}
    module.guarding.guard = None
    module.prepared = prepared.with_parts({"gate_encoder": Payload(weights)})
    with pytest.raises(
        ValueError, match=rf"of the encoder \w+, a FittedEncoder, .* one, {encoder}"
    ):
        module.download(broadcast)
    module.prepared = prepared
    module.download(broadcast)
    upload = module.upload()
    module.check_update(Update("client-0", upload, 8, 1, {}))
    with pytest.raises(ValueError, match=r"client 'client-0' is expected to go by the prototypes"):
        module.check_update(Update("client-0", upload.with_parts({AGREED: other}), 8, 1, {}))


def test_a_run_goes_on_with_other_rows_and_the_prototypes_that_it_has(
    model: Path, tmp_path: Path
) -> None:
    before = fit(defended(model), tmp_path, clients_per_round=4).federation
    module = defended(model)
    meant = {"max_rounds": 2, "clients_per_round": 4, "test_at_end": False}
    trainer = toy_trainer(tmp_path, resume_with_changes=True, **meant)
    with pytest.warns(UserWarning, match=r"`data.train`"):
        trainer.fit(module, toy_data(train=toy_rows(96, 9)), "last")
    after = trainer.federation
    assert (after.round, after.failures) == (2, {})
    for name, one in after.clients.items():
        assert one.prepared == before.clients[name].prepared
    assert after.server == before.server


class FirstProcessHas(SequentialClients):
    """One of several processes, of which the first one begins with another server state."""

    def __init__(self, server: Payload) -> None:
        self.server = server

    def settle(self, state: FederationState) -> FederationState:
        return state if state.round else replace(state, server=self.server)


def test_all_processes_go_by_the_prototypes_of_the_first_one(model: Path, tmp_path: Path) -> None:
    first, module = defended(model, seed=1), defended(model)
    server = fit(first, tmp_path / "first").federation.server
    trainer = fit(module, tmp_path / "other", execution=FirstProcessHas(server))
    told = first.guarding.agreed_on
    assert module.guarding.agreed_on == told
    assert not trainer.federation.failures
    for one in trainer.federation.clients.values():
        assert one.prepared.parts["prototype_facts"].strings["about"] == told


def test_clients_adapt_the_prototypes_and_the_server_merges_them(
    model: Path, tmp_path: Path
) -> None:
    module = defended(model, adaptation=0.5, assignment="nearest")
    trainer = fit(module, tmp_path, max_rounds=2, clients_per_round=4)
    guard = module.guarding.guard
    assert (module.prototypes.version, guard.prototypes.version) == (2, 0)
    kept = sum(int(one.judgement.kept.sum()) for one in module.guarding._memory.held.values())
    assert int(module.prototypes.counts.sum()) == kept
    # of the very prototypes that the round has merged
    drift = [row["server/prototype_drift"] for row in trainer.federation.history]
    assert drift[-1] == pytest.approx(prototype_drift(guard.prototypes, module.prototypes))
    assert drift[-1] > drift[0] > 1e-4
    # One that has not been there comes to the merged ones.
    assert "merged_prototypes" in trainer.federation.broadcast.parts


class Boasts(Attachment):
    """Says that one client's prototypes are those of very many rows."""

    def upload(
        self, client: Client, upload: Payload, broadcast: Payload, memory: Payload
    ) -> tuple[Payload, Payload]:
        adapted = upload.parts["adapted_prototypes"]
        counts = torch.full_like(adapted.tensors["counts"], 2**29)
        lied = Payload({**adapted.tensors, "counts": counts})
        return Payload(
            upload.tensors, upload.strings, {**upload.parts, "adapted_prototypes": lied}
        ), memory


@pytest.mark.parametrize("adaptation", [0.0, 0.3])
def test_what_acts_on_uploads_has_no_part_in_the_prototypes(
    model: Path, tmp_path: Path, adaptation: float
) -> None:
    """Neither in how often the encoder is fitted, nor in what it is fitted from; nor has an earlier fit."""
    fits, digests = [], []

    def counted(fit: Any) -> Any:
        return lambda *given: fits.append(given) or fit(*given)

    for name, attached in {
        "none": [],
        "several": [SignFlip(clients=["client-0"]), RandomUpdate(1.0, clients=["client-1"])],
    }.items():
        encoder = FittedEncoder(epochs=1)
        module = defended(model, encoder=encoder, adaptation=adaptation)
        encoder.fit = counted(encoder.fit)
        for again in (name, f"{name} again"):
            fit(module, tmp_path / again, attachments=attached, clients_per_round=2)
            digests.append(module.guarding.guard.prototypes.digest)
    assert len({*digests}) == 1
    assert len(fits) == 4


def test_prototypes_are_adapted_to_a_clients_own_rows_alone(model: Path, tmp_path: Path) -> None:
    module = defended(model, adaptation=0.5)
    with pytest.raises(ValueError, match=r"`model.adaptation` .* 0 with .* ReferencesOnly"):
        fit(module, tmp_path, attachments=[ReferencesOnly()])


def test_a_client_has_no_more_rows_near_its_prototypes_than_it_has(
    model: Path, tmp_path: Path
) -> None:
    module = defended(model, adaptation=0.5, assignment="nearest")
    attached = [Boasts(clients=["client-1"])]
    trainer = fit(module, tmp_path, max_rounds=2, clients_per_round=4, attachments=attached)
    assert trainer.federation.failures == {"client-1": 2}
    kept = {
        name: int(one.judgement.kept.sum()) for name, one in module.guarding._memory.held.items()
    }
    assert int(module.prototypes.counts.sum()) <= sum(kept.values())


def test_the_margin_may_end_and_states_may_be_projected(model: Path, tmp_path: Path) -> None:
    other = save_toy_model(tmp_path / "wide", width=16)
    teacher = FrozenTeacher(SequenceClassifier(str(other), peft=None))
    given: dict[str, Any] = {
        "teacher": teacher,
        "lambda_distill": 0.5,
        "encoder": TeacherEncoder(),
        "assignment": "label",
        "margin": 0.0,
        "margin_schedule": EarlyMargin(rounds=1),
    }
    module = defended(model, project=True, **given)
    trainer = fit(module, tmp_path / "a", max_rounds=2)
    first, second = trainer.federation.history
    assert first["clients/train/prototype/min"] > 0
    assert "clients/train/prototype/min" not in second
    assert module.prototypes.vectors.shape == (4, 16)
    with pytest.raises(ConfigurationError, match=r"`model.project` .* true .* width, 32, .* 16"):
        fit(defended(model, **given), tmp_path / "b")


# ---------------------------------------------------------------- what is refused


def test_bad_settings_are_named(model: Path) -> None:
    for settings, message in (
        ({"assignment": "best"}, "`model.assignment` is expected to be one of nearest, label"),
        ({"num_prototypes": 0}, "`model.num_prototypes` is expected to be at least 1, but got 0"),
        ({"held_out": 1.0}, "`model.held_out` is expected to be at least 0 and below 1"),
        ({"margin": 2.0}, "`model.margin` is expected to be at least 0 and below 2"),
        ({"adaptation": 2.0}, "`model.adaptation` is expected to be from 0 to 1, but got 2.0"),
        ({"encoder": TeacherEncoder()}, "expects `model.teacher` to be a FrozenTeacher"),
        ({"layers": [1]}, r"`model.layers` .* different numbers from 0 to 0.* but got \[1\]"),
        ({"layers": [0], "project": True}, "`model.project` is expected to be false where"),
    ):
        with pytest.raises(ValueError, match=message):
            defended(model, **settings)
    with pytest.raises(
        TypeError, match=r"`model.gate` .* instance of Gate, but got the class Agree"
    ):
        defended(model, gate=AgreementGate)
    whole = SequenceClassifier(str(model), peft=None)
    for encoder in (FittedEncoder(), PretrainedEncoder()):
        with pytest.raises(ValueError, match=f"`model.encoder` {type(encoder).__name__} expects"):
            PrototypeDefense(whole, encoder=encoder, lambda_distill=0.0)


def save_deeper(folder: Path, model: Path, layers: int, width: int = 32) -> Path:
    """A random BERT of the toy's vocabulary."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng():
        BertForSequenceClassification(
            BertConfig(
                vocab_size=len(tokenizer),
                hidden_size=width,
                num_hidden_layers=layers,
                num_attention_heads=2,
                intermediate_size=32,
                max_position_embeddings=32,
            )
        ).save_pretrained(folder)
    return folder


def test_layers_that_the_teacher_has_not_are_named(model: Path, tmp_path: Path) -> None:
    deep = save_deeper(tmp_path / "deep", model, layers=4)
    given: dict[str, Any] = {"lambda_distill": 0.5, "encoder": TeacherEncoder(), "layers": [2]}
    with pytest.raises(
        ValueError,
        match=r"`model.layers` .* TeacherEncoder as well, numbers from 0 to 1, but got \[2\]",
    ):
        defended(deep, teacher=FrozenTeacher(SequenceClassifier(str(model), peft=None)), **given)
    given |= {"gate": NoGate(), "assignment": "nearest", "layers": [0]}
    wide = save_deeper(tmp_path / "wide", model, layers=2, width=48)
    module = defended(
        model, teacher=FrozenTeacher(SequenceClassifier(str(wide), peft=None)), **given
    )
    with pytest.raises(
        ConfigurationError,
        match=r"`model.layers` .* null where the student's width, 32, .* 48, .* but got \[0\]",
    ):
        fit(module, tmp_path / "run")


def test_a_teacher_that_does_not_encode_rows_as_they_are_is_refused(
    model: Path, tmp_path: Path
) -> None:
    def taught(teacher: Teacher) -> None:
        defended(model, teacher=teacher, lambda_distill=0.5, encoder=TeacherEncoder())

    # the server's prototypes would be of the model before it has learnt, and judge rows by it afterwards
    with pytest.raises(ValueError, match=r"to be a FrozenTeacher, .* but got a FineTunedTeacher"):
        taught(FineTunedTeacher(toy_backbone(model)))


@pytest.mark.parametrize("assignment", ["nearest", "trusted"])
def test_a_teacher_of_another_family_reads_rows_by_its_own_tokenizer(
    assignment: Any, model: Path, tmp_path: Path
) -> None:
    folder = save_toy_model(tmp_path / "wide", extra_words=("and", "more"), width=48)
    rows = toy_rows(200, 3)
    module = defended(
        model,
        teacher=FrozenTeacher(SequenceClassifier(str(folder), peft=None)),
        lambda_distill=0.5,
        lambda_prototype=1.0,
        margin=0.0,
        encoder=TeacherEncoder(),
        assignment=assignment,
        project=True,
        held_out=0.0,
        supervised=True,
    )
    trainer = fit(module, tmp_path / "run", toy_data(public=rows))
    assert trainer.federation.history[-1]["clients/failed"] == 0
    assert trainer.federation.history[-1]["clients/train/prototype/mean"] > 0
    # by transformers alone: the mean of a class's unit vectors
    states = embedded(folder, list(rows["text"]))
    states /= np.linalg.norm(states, axis=1, keepdims=True)
    for label, vector in zip(
        module.prototypes.classes.tolist(), module.prototypes.vectors, strict=True
    ):
        mean = states[np.array(rows["label"]) == label].mean(0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)
    found = module.embed(["a good film"]).numpy()
    np.testing.assert_allclose(found, embedded(folder, ["a good film"]), atol=1e-5)


def test_references_that_will_not_do_are_named_before_training(model: Path, tmp_path: Path) -> None:
    few = toy_rows(80, 3)
    for settings, data, message in (
        (
            {"num_prototypes": 50},
            {"public": toy_rows(20, 3)},
            r"`model.num_prototypes` .* 16 of 20, but got 50",
        ),
        (
            {"references": few.filter(lambda row: row["label"] == 1)},
            {},
            r"`model.references` are expected to have rows of each class, but have none of '0'",
        ),
        ({}, {"public": None}, r"`model.references` is expected where .* there is no public set"),
        ({"references": few.remove_columns("label")}, {}, r"`model.references`: .*label"),
        (
            {"gate": ConformalGate(0.01)},
            {"public": few},
            r"`model.held_out` .* at least 99 references .* but leaves 16",
        ),
    ):
        with pytest.raises(ConfigurationError, match=message):
            fit(defended(model, **settings), tmp_path, toy_data(**data))


def test_a_client_of_which_nothing_is_kept_is_left_out(model: Path, tmp_path: Path) -> None:
    module = defended(model, references=toy_rows(200, 3), encoder=FittedEncoder(epochs=20, lr=2e-3))
    all_rows = Flipping(1000, ["client-3"])
    with pytest.warns(UserWarning, match=r"left out: `model.gate` keeps none of the \d+ rows"):
        trainer = fit(module, tmp_path, attachments=[all_rows], clients_per_round=4)
    assert list(trainer.federation.failures) == ["client-3"]


def test_where_it_cannot_run_it_says_so(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`model.gate` .* NoGate .* split over processes"):
        fit(defended(model), tmp_path, execution=ShardedClients())
    generating = CausalLM(str(save_toy_lm(tmp_path / "lm")))
    with pytest.raises(ValueError, match=r"`model.gate` is expected to be NoGate.* as CausalLM"):
        PrototypeDefense(generating)


def test_a_stock_trainer_pulls_but_does_not_judge(model: Path, tmp_path: Path) -> None:
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        default_root_dir=tmp_path,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    with pytest.raises(ConfigurationError, match=r"a stock Trainer has no clients whose rows"):
        trainer.fit(defended(model), datamodule=toy_data())
    module = defended(model, gate=NoGate(), assignment="label", margin=0.0)
    trainer.fit(module, datamodule=toy_data())
    assert trainer.callback_metrics["train/prototype"] > 0
