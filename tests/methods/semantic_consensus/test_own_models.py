"""Clients with models of their own: what they share in memory, where it is, and what is exchanged instead of it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig

from lit_fed.backbones import SequenceClassifier
from lit_fed.client import Client
from lit_fed.federation import VectorizedClients
from lit_fed.methods.semantic_consensus import ClientGroup, SoftConsensus
from lit_fed.methods.semantic_consensus.shared_base import share_base
from lit_fed.metric_averager import MetricAverager
from tests.federation.toy import fast_adamw, save_toy_model, toy_backbone, toy_trainer
from tests.methods.semantic_consensus.federations import (
    adapters,
    consenting,
    fitted,
    labels_of,
    small_data,
)
from tests.methods.toy_methods import save_sober_model


@pytest.fixture(scope="module")
def sober(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sober_model(tmp_path_factory.mktemp("sober") / "model")


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_model(tmp_path_factory.mktemp("narrow") / "model", 16, ("unheard", "of"))


def held(backbones: list[SequenceClassifier]) -> int:
    parameters = {id(p): p.numel() for backbone in backbones for p in backbone.parameters()}
    return sum(parameters.values())


def test_backbones_of_one_model_share_what_is_frozen(sober: Path, narrow: Path) -> None:
    kinds = [LoraConfig(r=4, lora_alpha=8), LoraConfig(r=2), IA3Config(), None]
    backbones = [SequenceClassifier(str(sober), peft=kind) for kind in kinds]
    other = SequenceClassifier(str(narrow))
    frozen = sum(p.numel() for p in backbones[0].parameters() if not p.requires_grad)
    before, alone = held([*backbones, other]), held([other])
    batch = backbones[0].tokenizer(["a good film", "a bad day"], padding=True, return_tensors="pt")
    said = [backbone.eval()(batch).logits.detach() for backbone in backbones]
    saved = share_base([*backbones, other, backbones[0]])
    assert saved == before - held([*backbones, other])
    assert saved == pytest.approx(2 * frozen, rel=0.01)
    assert held([other]) == alone
    for backbone, logits in zip(backbones, said, strict=True):
        torch.testing.assert_close(backbone(batch).logits, logits)
    trained = [{id(p) for p in backbone.trainable().values()} for backbone in backbones]
    assert all(not a & b for i, a in enumerate(trained) for b in trained[:i])


def test_what_is_shared_changes_no_result(sober: Path, tmp_path: Path) -> None:
    def run(name: str, **settings: Any) -> Any:
        torch.manual_seed(0)
        group = ClientGroup(SequenceClassifier(str(sober), peft=LoraConfig(r=2)), ["client-1"])
        return fitted(tmp_path / name, consenting(sober, clients=[group]), **settings)

    alone, together = run("alone"), run("together", execution=VectorizedClients(3))
    assert labels_of(alone) == labels_of(together)
    for id, own in adapters(alone).items():
        for name, tensor in own.items():
            torch.testing.assert_close(tensor, adapters(together)[id][name], rtol=1e-3, atol=1e-4)
    ranks = {id: min(t.shape[0] for t in own.values()) for id, own in adapters(alone).items()}
    assert ranks == {"client-0": 2, "client-1": 2, "client-2": 2}


def test_backbones_that_take_turns_wait_where_they_are(sober: Path, narrow: Path) -> None:
    group = ClientGroup(toy_backbone(narrow), ["client-1"])
    module = consenting(sober, clients=[group], take_turns=True)
    first, second = module.backbones.values()
    # a device that holds no values stands for an accelerator that this machine has not
    module.to("meta")
    assert {p.device.type for p in first.parameters()} == {"meta"}
    assert {p.device.type for p in second.parameters()} == {"cpu"}


def test_turns_change_no_result(sober: Path, narrow: Path, tmp_path: Path) -> None:
    def run(name: str, **settings: Any) -> Any:
        group = ClientGroup(toy_backbone(narrow), ["client-1"])
        module = consenting(sober, clients=[group], **settings)
        return module, fitted(tmp_path / name, module, max_rounds=2, precision="64-true")

    (module, turns), (_, plain) = run("turns", take_turns=True), run("plain")
    assert {p.dtype for b in module.backbones.values() for p in b.parameters()} == {torch.float64}
    assert turns.final_metrics == plain.final_metrics
    moved = []
    for backbone in module.backbones.values():
        backbone.to = lambda device, own=backbone: moved.append((own, str(device)))  # type: ignore[method-assign]
    module.act_as(Client("client-1", 1, 1, 0, 0, 0))
    first, second = module.backbones.values()
    assert moved == [(first, "cpu"), (second, "cpu")]  # the one that leaves comes first
    del first.to, second.to  # type: ignore[method-assign]
    group = ClientGroup(toy_backbone(narrow), ["client-1"])
    refused = consenting(sober, clients=[group], take_turns=True)
    with pytest.raises(ValueError, match=r"cannot run `model\.take_turns`"):
        fitted(tmp_path / "v", refused, execution=VectorizedClients(2))


@pytest.mark.slow
def test_soft_predictions_are_averaged_and_learnt(
    sober: Path, narrow: Path, tmp_path: Path
) -> None:
    def make(**settings: Any) -> SoftConsensus:
        group = ClientGroup(toy_backbone(narrow), ["client-1"])
        given: dict[str, Any] = {"optimizer": fast_adamw, "warmup_rounds": 1, "consensus_every": 2}
        return SoftConsensus(toy_backbone(sober), [group], **given | settings)

    module = make()
    trainer = fitted(tmp_path / "soft", module, max_rounds=4)
    assert [up for up, _ in trainer.federation.ledger.rounds] == [3 * 20 * 2 * 2, 0] * 2
    first = fitted(tmp_path / "first", make(), max_rounds=1)
    mean, sizes = torch.zeros(20, 2), [len(one.rows) for one in first.datamodule.clients]
    for index, size in enumerate(sizes):
        first.act_as_client(index)
        own = first.lightning_module.eval()
        batches = own.batches(first.datamodule.public)
        with torch.no_grad():
            mean += size / sum(sizes) * torch.cat([own(b).logits.softmax(-1) for b in batches])
    found = first.federation.broadcast.tensors["probs"].float()
    torch.testing.assert_close(found, mean, atol=2e-3, rtol=0)

    alone = fitted(tmp_path / "alone", make(consensus_rounds=0), max_rounds=2)
    off = fitted(tmp_path / "off", make(eta=0.0), max_rounds=2)
    soft = fitted(tmp_path / "two", make(), max_rounds=2)
    assert alone.final_metrics == off.final_metrics != soft.final_metrics
    # of the first step of round 2, in which there are predictions
    client = first.federation.clients["client-0"]
    batch = next(iter(first.lightning_module.batches(first.datamodule.clients[0].rows)))
    terms: dict[str, float] = {}
    for eta in (0.5, 1.0):
        one = make(eta=eta)
        one.datamodule = first.datamodule
        one.act_as(Client("client-0", 0, 16, 1, 1, 2))
        one.load_private_state(client.private)
        one.download(first.federation.broadcast)
        one.start_stage("train")
        one.term_listener = lambda _, task, found, eta=eta: terms.update(
            {f"{eta}": found["consensus"].item()}
        )
        one.eval()
        torch.manual_seed(0)
        one.metric_averager = MetricAverager()
        one.training_step(batch, 0)
    assert terms["0.5"] == pytest.approx(0.5 * terms["1.0"], rel=1e-6)
    assert terms["1.0"] > 0

    fitted(tmp_path / "parts", make(), max_rounds=2)
    resumed = toy_trainer(
        tmp_path / "parts", max_rounds=4, clients_per_round=1.0, num_sanity_val_steps=0
    )
    resumed.fit(make(), small_data(), ckpt_path="last")
    assert resumed.final_metrics == trainer.final_metrics
    assert resumed.federation.server == trainer.federation.server
