"""Federations whose rule changes the frozen base: every client and every evaluation stands on the right one."""

from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from lit_fed import DDG, FedAvg, FederatedModule, Payload, PrototypeDefense
from lit_fed.aggregation import Aggregation, FedExLoRA, FLoRA
from lit_fed.aggregation.lora.base_change import changes_in
from lit_fed.attachment import Attachment
from lit_fed.attacks import SignFlip
from lit_fed.backbones import Backbone
from lit_fed.backbones.folding import WeightChange
from lit_fed.client import Client
from lit_fed.compression import TopK
from lit_fed.federation import FederationState, VectorizedClients
from lit_fed.federation.client.client_state import ClientState
from lit_fed.federation.client.resident_module import ResidentModule
from lit_fed.methods.ddg import PeerConsensus
from lit_fed.methods.teachers import silent
from tests.federation.execution.agreement import TOLERANCE, adamw, run
from tests.federation.toy import toy_backbone, toy_data, toy_trainer, without_times
from tests.methods.toy_methods import save_sober_model
from tests.slow import slow_but

RULES = [FLoRA, FedExLoRA]


def mixed() -> FLoRA:
    return FLoRA({"client-1": 2, "client-2": 6}, {"client-2": 3.0})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sober_model(tmp_path_factory.mktemp("sober"))


def method(model: Path, rule: Aggregation, kind: Any = FedAvg, **settings: Any) -> FederatedModule:
    module: FederatedModule = kind(
        toy_backbone(model), rule, optimizer=adamw, warmup_steps=0, **settings
    )
    return module


def bases(backbone: Backbone) -> dict[str, Tensor]:
    modules = dict(backbone.model.named_modules())
    found = {n: m for n, m in modules.items() if hasattr(m, "get_delta_weight")}
    return {n: m.get_base_layer().weight.detach().clone() for n, m in found.items()}


class Watching(Callback):
    """Compares the base of each client with what it is to be, and counts the clients that had another one."""

    def __init__(self, loaded: Mapping[str, Tensor]) -> None:
        self.loaded = loaded
        self.seen: list[bool] = []
        self.taught: list[bool] = []

    def _as_broadcast(self, trainer: Any, module: Any) -> bool:
        part = trainer.federation.broadcast.parts.get("base_change", Payload())
        changes, now = changes_in(part), bases(module.backbone)
        right = {n: w + changes[n].dense() if n in changes else w for n, w in self.loaded.items()}
        return all(torch.allclose(now[n], w, rtol=0, atol=1e-6) for n, w in right.items())

    def on_client_start(self, trainer: Any, module: Any, client: Client) -> None:
        self.seen.append(self._as_broadcast(trainer, module))
        if isinstance(module, DDG):
            ids = torch.tensor([[2, 5, 9, 14, 3]])
            batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            own, teacher = (self._logits(module, batch, *names) for names in ((), ("teacher",)))
            self.taught.append(torch.allclose(own, teacher, atol=1e-6))

    def on_round_evaluation(self, trainer: Any, module: Any, metrics: Any) -> None:
        self.seen.append(self._as_broadcast(trainer, module))

    @staticmethod
    def _logits(module: Any, batch: dict[str, Tensor], *adapters: str) -> Tensor:
        with silent(module.backbone, *adapters):
            logits: Tensor = module(batch).logits
        return logits


class OneFails(FedAvg):
    """The second client breaks off in the middle of its round."""

    def on_train_batch_end(self, *args: Any) -> None:
        if self.client is not None and self.client.index == 1:
            raise ValueError("no luck")


@pytest.mark.parametrize(
    ("rule", "kind"),
    slow_but(
        (FLoRA, OneFails),
        (FedExLoRA, DDG),
        (mixed, FedAvg),
        of=[*product(RULES, (FedAvg, OneFails, DDG)), (mixed, FedAvg)],
    ),
)
def test_every_client_and_the_server_stand_on_the_base_of_the_last_broadcast(
    rule: Callable[[], Aggregation], kind: Any, model: Path, tmp_path: Path
) -> None:
    module = method(model, rule(), kind)
    watching = Watching(bases(module.backbone))
    trainer = toy_trainer(tmp_path, max_rounds=2, clients_per_round=4, callbacks=[watching])
    trainer.fit(module, toy_data())
    assert len(watching.seen) == 2 * 5
    assert all(watching.seen)
    assert watching.taught == [True] * (8 if kind is DDG else 0)
    assert all(row["server/lora_distance"] < 1e-6 for row in trainer.federation.history)
    now = bases(module.backbone)
    assert any(not torch.equal(now[n], w) for n, w in watching.loaded.items())
    failed = {"client-1": 2} if kind is OneFails else {}
    assert trainer.federation.failures == failed
    assert all(not s.private.parts for s in trainer.federation.clients.values())


def assert_close(ours: FederationState, theirs: FederationState) -> None:
    for one, other in (
        (ours.broadcast, theirs.broadcast),
        (ours.broadcast.parts["base_change"], theirs.broadcast.parts["base_change"]),
    ):
        assert one.tensors.keys() == other.tensors.keys()
        for name, tensor in one.tensors.items():
            torch.testing.assert_close(tensor, other.tensors[name], rtol=0, atol=TOLERANCE)
    assert ours.ledger == theirs.ledger


@pytest.mark.parametrize(
    ("rule", "kind"),
    slow_but(
        (FedExLoRA, DDG), (mixed, FedAvg), of=[*product(RULES, (FedAvg, DDG)), (mixed, FedAvg)]
    ),
)
def test_vectorized_clients_train_as_single_ones(
    rule: Callable[[], Aggregation], kind: Any, model: Path, tmp_path: Path
) -> None:
    single, together = (
        run(method(model, rule(), kind), toy_data(), tmp_path / str(number), execution)
        for number, execution in enumerate((None, VectorizedClients(2)))
    )
    assert_close(together, single)


class Differing(FLoRA):
    """Clients get different bases, which no two can train on at once."""

    calls = 0

    def __deepcopy__(self, memo: Any) -> "Differing":
        return self

    def base_change(self, part: Payload) -> Mapping[str, WeightChange]:
        self.calls += 1
        layer = next(iter(self.layout.weights))
        return {layer: WeightChange(torch.full((32, 32), 0.01 * self.calls))}


def test_vectorized_clients_of_different_bases_are_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot run clients whose frozen weights differ"):
        run(method(model, Differing()), toy_data(), tmp_path, VectorizedClients(2))


def test_vectorized_clients_cannot_take_what_is_folded_out(model: Path, tmp_path: Path) -> None:
    # a client of the second round is judged by the loaded weights, while the other may be training on changed ones
    given = {"num_prototypes": 4, "lambda_distill": 0.0}
    module = method(model, FLoRA(), PrototypeDefense, **given)
    with pytest.raises(ValueError, match="cannot run passes on frozen weights without what is"):
        run(module, toy_data(), tmp_path, VectorizedClients(2), clients_per_round=2)


@pytest.mark.parametrize("rule", slow_but(FedExLoRA, mixed, of=[*RULES, mixed]))
def test_a_run_goes_on_bit_for_bit_and_is_loaded_and_exported(
    rule: Callable[[], Aggregation], model: Path, tmp_path: Path
) -> None:
    def fit(folder: str, rounds: int, ckpt_path: str | None = None) -> Any:
        module = method(model, rule())
        trainer = toy_trainer(tmp_path / folder, max_rounds=rounds)
        trainer.fit(module, toy_data(), ckpt_path)
        return trainer.federation, module

    (whole, module), _ = fit("whole", 3), fit("parts", 1)
    resumed, _ = fit("parts", 3, "last")
    assert resumed.broadcast == whole.broadcast
    assert resumed.ledger == whole.ledger
    assert without_times(resumed.history) == without_times(whole.history)

    ids = torch.tensor([[2, 5, 9, 14, 3], [2, 6, 7, 11, 3]])
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with torch.no_grad():
        expected = module.eval()(batch).logits
        loaded = FedAvg.from_run(tmp_path / "parts", module=method(model, rule())).eval()
        torch.testing.assert_close(loaded(batch).logits, expected)
        base = AutoModelForSequenceClassification.from_pretrained(model)
        assert not torch.allclose(base(**batch).logits, expected, atol=1e-2)
        plain = PeftModel.from_pretrained(base, str(tmp_path / "parts" / "adapter")).eval()
        torch.testing.assert_close(plain(**batch).logits, expected, rtol=0, atol=1e-5)
    # a loaded module that goes on is the run's own, whatever is folded into it
    more = toy_trainer(tmp_path / "parts", max_rounds=4)
    more.fit(loaded, toy_data(), "last")
    assert more.federation.broadcast == fit("whole", 4, "last")[0].broadcast


@pytest.mark.parametrize(("rule", "ranks"), [(FLoRA, (3, 3)), (FedExLoRA, (2, 2))])
def test_the_ledger_counts_the_base_s_change_for_every_client(
    rule: type[Aggregation], ranks: tuple[int, int], model: Path, tmp_path: Path
) -> None:
    backbone = toy_backbone(model)
    layers = len(bases(backbone))
    module = FedAvg(backbone, rule(), optimizer=adamw, warmup_steps=0)
    weights = backbone.trainable()
    factors = sum(4 * p.numel() for n, p in weights.items() if "lora_" in n)
    head = sum(4 * p.numel() for n, p in weights.items() if "lora_" not in n)
    trainer = toy_trainer(tmp_path, max_rounds=3, clients_per_round=3)
    trainer.fit(module, toy_data())
    own = head + (factors if rule is FedExLoRA else 0)
    change = [0]
    for number in (1, 2):
        rank = 4 * sum(ranks[:number])  # of r = 4
        change.append(layers * 4 * min(rank * 64, 32 * 32))
    up = 3 * (factors + head)
    assert trainer.federation.ledger.rounds == [(up, 3 * (own + part)) for part in change]


def test_what_is_folded_is_the_downloads_alone(model: Path) -> None:
    module = method(model, FLoRA())
    loaded, resident = bases(module.backbone), ResidentModule(module)
    client = Client("a", 0, 8, round=0, rounds=0, steps=0)
    layer = next(iter(loaded))
    part = Payload({f"{layer}.dense": torch.ones(32, 32)})
    broadcast = module.initial_broadcast().with_parts({"base_change": part})
    resident.act_as_client(client, ClientState(), broadcast)
    assert torch.equal(bases(module.backbone)[layer], loaded[layer] + 1)
    resident.act_as_client(client, ClientState(), module.initial_broadcast())
    assert torch.equal(bases(module.backbone)[layer], loaded[layer])


def test_what_needs_the_clients_own_models_is_refused_before_training(
    model: Path, tmp_path: Path
) -> None:
    for rule in RULES:
        module = method(model, rule(), DDG, consensus=PeerConsensus())
        said = rf"lets them all travel, but `model\.aggregation` is {rule.__name__}"
        with pytest.raises(ValueError, match=said):
            toy_trainer(tmp_path / rule.__name__).fit(module, toy_data())


def test_a_teacher_on_another_adapter_than_the_clients_is_refused(
    model: Path, tmp_path: Path
) -> None:
    said = r"`model\.teacher` AdapterTeacher expects .* adapter default, but got rank_2_alpha_8"
    with pytest.raises(ValueError, match=said):
        toy_trainer(tmp_path, clients_per_round=4).fit(method(model, mixed(), DDG), toy_data())


def test_a_fresh_adapter_starts_every_round_as_it_was_built(model: Path, tmp_path: Path) -> None:
    class Beginning(Callback):
        def __init__(self) -> None:
            self.weights: list[dict[str, Tensor]] = []

        def on_client_start(self, trainer: Any, module: Any, client: Client) -> None:
            own = module.backbone.trainable()
            self.weights.append({n: p.detach().clone() for n, p in own.items() if "lora_" in n})

    module, beginning = method(model, FLoRA()), Beginning()
    built = {n: p.detach().clone() for n, p in module.backbone.trainable().items()}
    toy_trainer(tmp_path, max_rounds=2, callbacks=[beginning]).fit(module, toy_data())
    assert len(beginning.weights) == 6
    for weights in beginning.weights:
        assert weights
        assert all(torch.equal(w, built[n]) for n, w in weights.items())


@pytest.mark.parametrize("attachment", [TopK(0.5), SignFlip(count=1)])
def test_what_acts_on_changes_is_refused_before_training_where_factors_start_anew(
    model: Path, tmp_path: Path, attachment: Attachment
) -> None:
    kind = type(attachment).__name__
    trainer = toy_trainer(tmp_path / "refused", attachments=[attachment])
    with pytest.raises(ValueError, match=rf"{kind} acts on the change .* which it does not down"):
        trainer.fit(method(model, FLoRA()), toy_data())
    assert not (tmp_path / "refused").exists()
    # where they are downloaded, it is not
    trainer = toy_trainer(tmp_path / "taken", attachments=[attachment], max_rounds=1)
    trainer.fit(method(model, FedExLoRA()), toy_data())
    assert len(trainer.federation.history) == 1
