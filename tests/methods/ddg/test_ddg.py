import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor

from lit_fed import DDG, DDGMSI, FederatedModule, Payload
from lit_fed.aggregation import WeightedAverage
from lit_fed.backbones import CausalLM
from lit_fed.cli import main
from lit_fed.client import Client
from lit_fed.configuration_error import ConfigurationError
from lit_fed.data import FederatedDataModule, InstructionEncoding, InstructionRecords
from lit_fed.losses import kl_distill, mean_pool
from lit_fed.methods.ddg import (
    REPLACED,
    ClassConsensus,
    Consensus,
    PeerConsensus,
    PublicConsensus,
)
from lit_fed.methods.ddg.public_predictions import (
    ClassPredictions,
    PublicPredictions,
    TokenPredictions,
)
from lit_fed.methods.teachers import AdapterTeacher, silent
from lit_fed.update import Update
from tests.federation.toy import toy_data, toy_rows, toy_trainer
from tests.methods.toy_chats import chat_rows, save_chat_lm
from tests.methods.toy_methods import (
    classify,
    continue_text,
    lm_data,
    save_sober_model,
    save_toy_lm,
)
from tests.slow import slow_but

PUBLIC, CLASSES = 24, 2


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sober_model(tmp_path_factory.mktemp("sober") / "model")


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_lm(tmp_path_factory.mktemp("lm") / "model")


class Logged(Callback):
    """What a module logs at every training step."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_train_batch_start(self, trainer: Any, module: DDG, batch: Any, index: int) -> None:
        row: dict[str, float] = {"step": float(index)}
        self.rows.append(row)

        def note(name: str, value: Any, *args: Any, **kwargs: Any) -> None:
            row[name] = float(torch.as_tensor(value).detach())
            type(module).log(module, name, value, *args, **kwargs)

        object.__setattr__(module, "log", note)


def fit(module: DDG, root: Path, data: Any = None, **settings: Any) -> Any:
    trainer = toy_trainer(root, **settings)
    trainer.fit(module, data or toy_data())
    return trainer


def broadcast(module: DDG, **consensus: Tensor) -> Payload:
    """The weights of a module, and a consensus if one is given."""
    return Payload(module.backbone.trainable(), parts={"consensus": Payload(consensus)})


def batch_of(data: Any, module: DDG, rows: Any, seed: int | None = None) -> dict[str, Tensor]:
    batch: dict[str, Tensor] = next(iter(data.dataloader(rows, module.tokenizer, seed)))
    return batch


# ---------------------------------------------------------------- the terms


@pytest.mark.parametrize("kind", ["classifier", "language model"])
def test_first_step_distillation_and_alignment_are_exactly_zero(
    kind: str, model: Path, language_model: Path, tmp_path: Path
) -> None:
    logged = Logged()
    if kind == "classifier":
        module, data = classify(DDG, model), toy_data()
    else:
        consensus = PublicConsensus(top_k=4)
        module, data = continue_text(DDG, language_model, consensus=consensus), lm_data()
    fit(module, tmp_path, data, max_rounds=2, clients_per_round=2, callbacks=[logged])
    first = [row for row in logged.rows if row["step"] == 0]
    later = [row for row in logged.rows if row["step"] > 0]
    assert len(first) == 4
    assert all(row["train/distill"] == row["train/align"] == 0.0 for row in first)
    assert all(row["train/distill"] > 0 and row["train/align"] > 0 for row in later)
    assert all(row["train/alpha"] == 0.5 for row in first if "train/alpha" in row)
    bounds = [row for row in logged.rows if "train/alpha" in row]
    assert bounds
    top = 1 / (1 + math.exp(-module.gamma * math.sqrt(2)))
    for row in bounds:
        least, mean, most = (row[f"train/alpha{end}"] for end in ("_min", "", "_max"))
        assert 0.5 <= least <= mean * 1.00001
        assert mean <= most * 1.00001
        assert most <= top


def test_round_0_has_no_aggregate_term(model: Path, tmp_path: Path) -> None:
    trainer = fit(classify(DDG, model), tmp_path, max_rounds=2)
    first, second = trainer.federation.history
    assert "clients/train/aggregate/mean" not in first
    assert second["clients/train/aggregate/mean"] > 0


def test_the_loss_is_the_equation(model: Path) -> None:
    data = toy_data()
    data.setup()
    module = classify(DDG, model, lambda_distill=0.7, lambda_align=0.03, temperature=2.0)
    module.datamodule = data
    module.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    q = torch.rand(PUBLIC, CLASSES).softmax(-1).half()
    module.download(broadcast(module, probs=q))
    with torch.no_grad():
        for value in module.backbone.trainable().values():
            value += 0.1 * torch.randn_like(value)
    batch = batch_of(data, module, data.clients[0].rows)
    torch.manual_seed(5)
    ours = module.training_step(batch, 0)
    torch.manual_seed(5)
    u = next(module.consensus.batches(module))

    student, on_public = module(batch, output_hidden=True), module(u)
    with module.backbone.using("teacher"), torch.no_grad():
        teacher, teacher_on_public = module(batch, output_hidden=True), module(u)
    ce = torch.nn.functional.cross_entropy(student.logits, batch["labels"])
    kd = kl_distill(student.logits, teacher.logits, student.mask, 2.0)
    pooled = [mean_pool(p.hidden, p.attention_mask) for p in (student, teacher)]
    align = (pooled[0] - pooled[1]).square().sum(-1).mean()
    delta = (on_public.logits.softmax(-1) - teacher_on_public.logits.softmax(-1)).norm(dim=-1)
    target = q[u["index"]].float()
    target = target / target.sum(-1, keepdim=True)
    log_q = (on_public.logits / 2.0).log_softmax(-1)
    rows = 4.0 * (target * (target.log() - log_q)).sum(-1)
    expected = ce + 0.7 * kd + 0.03 * align + 0.5 * (torch.sigmoid(3.0 * delta) * rows).mean()
    torch.testing.assert_close(ours, expected)


# ---------------------------------------------------------------- the consensus


def test_the_consensus_survives_shuffling(model: Path, language_model: Path) -> None:
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    logits, mask = torch.randn(7, 3), torch.ones(7, dtype=torch.bool)
    straight = ClassPredictions.of_model([(torch.arange(7), mask, logits)], 3.0)
    mixed_up = ClassPredictions.of_model(
        [(order[:3], mask[:3], logits[order[:3]]), (order[3:], mask[3:], logits[order[3:]])], 3.0
    )
    assert torch.equal(straight.probs, mixed_up.probs)
    asked = straight.of(order, mask)
    torch.testing.assert_close(asked.float(), (logits[order] / 3).softmax(-1), atol=1e-3, rtol=0)

    lengths, tokens = torch.tensor([2, 0, 3, 1, 4, 2, 1]), torch.randn(7, 4, 9)
    places = torch.arange(4) < lengths[:, None]
    whole = TokenPredictions.of_model([(torch.arange(7), places, tokens)], 3.0, 9)
    halves = [(o, places[o], tokens[o]) for o in (order[:3], order[3:])]
    parts = TokenPredictions.of_model(halves, 3.0, 9)
    assert whole.tensors().keys() == parts.tensors().keys()
    for name, value in whole.tensors().items():
        assert torch.equal(value, parts.tensors()[name])
    found = whole.of(order, places[order])
    dense = torch.zeros(7, 4, 9).scatter(-1, found.indices, found.probs)
    expected = (tokens[order] / 3).softmax(-1).masked_fill(~places[order].unsqueeze(-1), 0.0)
    torch.testing.assert_close(dense, expected, atol=1e-3, rtol=0)
    with pytest.raises(ConfigurationError, match="about the same tokens as the public batch"):
        whole.of(torch.tensor([0]), torch.ones(1, 4, dtype=torch.bool))


@pytest.mark.parametrize("method", [DDG, DDGMSI])
def test_states_of_packed_rows_are_not_aligned(
    method: type[FederatedModule], tmp_path: Path
) -> None:
    """Their mean would be one over rows that have nothing to do with each other."""
    encoding = InstructionEncoding(InstructionRecords(context=None), packing=True)
    data = FederatedDataModule(chat_rows(24), encoding=encoding, num_clients=2, max_length=128)
    backbone = CausalLM(str(save_chat_lm(tmp_path / "model")))
    given: Any = {"lambda_aggregate": 0.0, "lambda_align": 0.1}
    with pytest.raises(ConfigurationError, match=r"encoding\.packing` .* `model\.lambda_align`"):
        toy_trainer(tmp_path / "run", clients_per_round=2).fit(method(backbone, **given), data)


@pytest.mark.parametrize("public", ["given", "carved", "of some tasks"])
def test_every_public_row_meets_its_own_prediction(public: str, model: Path) -> None:
    """A student that learnt nothing since its upload has a KD of 0 to itself, in any order."""
    tasks = {
        name: rows.add_column("task", ["a", "a", "a", "b"] * (len(rows) // 4))
        for name, rows in (("train", toy_rows(160, 0)), ("public", toy_rows(24, 3)))
    }
    settings: dict[str, dict[str, Any]] = {
        "given": {},
        "carved": {"public": None, "public_size": 18},
        "of some tasks": {**tasks, "tasks": ["b"], "validation": None, "test": None},
    }
    data = toy_data(**settings[public])
    data.setup()
    module = classify(DDG, model)
    module.datamodule = data
    module.download(broadcast(module))
    module.download(module.upload())
    for _ in range(5):
        assert module.aggregate_kl_loss(*module.consensus.guidance(module, {}, None, None)) < 1e-5


def test_every_round_has_its_own_consensus(model: Path) -> None:
    data = toy_data()
    data.setup()
    module = classify(DDG, model)
    module.datamodule = data
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        q = torch.randn(PUBLIC, CLASSES, generator=generator).softmax(-1).half()
        module.download(broadcast(module, probs=q))
        torch.manual_seed(0)
        rows = next(module.consensus.batches(module))["index"]
        guidance = module.consensus.guidance(module, {}, None, None)
        assert torch.equal(guidance.consensus, q[rows])
    module.download(broadcast(module))
    student = object()
    assert module.consensus.guidance(module, {}, student, None) == (student, None, None, None)


def test_payload_bytes(model: Path, tmp_path: Path) -> None:
    module = classify(DDG, model)
    trainer = fit(module, tmp_path, clients_per_round=2)
    adapter = sum(p.nbytes for p in module.backbone.trainable().values())
    extra = PUBLIC * CLASSES * 2
    up = 2 * (adapter + extra)
    assert trainer.federation.ledger.rounds == [(up, 2 * adapter), (up, up), (up, up)]


@pytest.mark.parametrize("k", [3, 1000])
def test_payload_bytes_of_a_language_model(k: int, language_model: Path, tmp_path: Path) -> None:
    module = continue_text(DDG, language_model, consensus=PublicConsensus(top_k=k))
    data = lm_data()
    trainer = fit(module, tmp_path, data, clients_per_round=2, max_rounds=2)
    adapter = sum(p.nbytes for p in module.backbone.trainable().values())
    labels = [b["labels"] for b in data.dataloader(data.public, module.tokenizer)]
    tokens = sum(int((part[:, 1:] != -100).sum()) for part in labels)
    vocabulary = module.backbone.model.config.vocab_size
    extra = 6 * min(k, vocabulary) * tokens + 4 * 12
    up = 2 * (adapter + extra)
    assert trainer.federation.ledger.rounds == [(up, 2 * adapter), (up, up)]


def test_the_aggregate_is_the_weighted_mixture(model: Path) -> None:
    module = classify(DDG, model)
    q = [torch.tensor([[0.75, 0.25]]).half(), torch.tensor([[0.25, 0.75]]).half()]
    updates = [
        Update(f"{k}", broadcast(module, probs=q[k]), num_samples=n) for k, n in enumerate((3, 1))
    ]
    mixed = module.aggregate(updates).parts["consensus"].tensors["probs"]
    torch.testing.assert_close(mixed, torch.tensor([[0.625, 0.375]]).half())


class FirstOnly(WeightedAverage):
    """A rule that leaves all clients but the first out."""

    def weights(self, updates: Any) -> list[float]:
        return [1.0] + [0.0] * (len(updates) - 1)


@pytest.mark.parametrize("kind", ["public", "peers", "class"])
def test_whom_the_rule_leaves_out_has_no_say_in_the_consensus(kind: str, model: Path) -> None:
    made = {"public": PublicConsensus, "peers": PeerConsensus, "class": ClassConsensus}[kind]()
    module = classify(DDG, model, consensus=made, aggregation=FirstOnly())
    q = [torch.tensor([[0.75, 0.25]]).half(), torch.tensor([[0.25, 0.75]]).half()]
    updates = [Update(f"{k}", broadcast(module, probs=q[k]), num_samples=1) for k in range(2)]
    mixed = module.aggregate(updates).parts["consensus"].tensors
    if kind == "peers":
        assert mixed["weights"].tolist() == [1.0]
        assert not [name for name in mixed if name.startswith("1.")]
    else:
        assert torch.equal(mixed["probs"], q[0])


def test_class_consensus_leaves_out_clients_without_the_class(model: Path, tmp_path: Path) -> None:
    module = classify(DDG, model, consensus=ClassConsensus())
    weights = module.backbone.trainable()
    q = [torch.tensor([[0.75, 0.25], [0.0, 0.0]]), torch.tensor([[0.25, 0.75], [0.5, 0.5]])]
    updates = [
        Update(f"{k}", broadcast(module, probs=q[k].half()), num_samples=1) for k in range(2)
    ]
    mixed = module.aggregate(updates).parts["consensus"].tensors["probs"].float()
    torch.testing.assert_close(mixed, torch.tensor([[0.5, 0.5], [0.5, 0.5]]))
    trainer = fit(module, tmp_path, toy_data(public=None), clients_per_round=2)
    adapter = sum(p.nbytes for p in weights.values())
    assert trainer.federation.ledger.rounds[0] == (2 * (adapter + CLASSES**2 * 2), 2 * adapter)
    assert trainer.federation.history[-1]["clients/train/aggregate/mean"] > 0


def test_peers_are_run_on_private_rows(model: Path) -> None:
    data = toy_data()
    data.setup()
    module = classify(DDG, model, consensus=PeerConsensus())
    generator = torch.Generator().manual_seed(0)
    adapters = [
        {
            name: value + 0.1 * torch.randn(value.shape, generator=generator)
            for name, value in module.backbone.trainable().items()
        }
        for _ in range(2)
    ]
    updates = [Update(f"{k}", Payload(adapters[k]), num_samples=n) for k, n in enumerate((3, 1))]
    sent = module.aggregate(updates)
    module.download(sent)
    batch = batch_of(data, module, data.clients[0].rows)
    expected = torch.zeros(())
    for adapter, weight in zip(adapters, (0.75, 0.25), strict=True):
        module.backbone.load_trainable(adapter)
        expected = expected + weight * (module(batch).logits.detach() / 3.0).softmax(-1)
    module.download(sent)
    student, teacher = module(batch), module.teacher(batch)
    consensus = module.consensus.guidance(module, batch, student, teacher).consensus
    torch.testing.assert_close(consensus, expected)


def test_server_steps_bring_the_global_model_closer_to_the_consensus(
    model: Path, language_model: Path
) -> None:
    for data, build in ((toy_data(), classify), (lm_data(), continue_text)):
        data.setup()
        folder = model if build is classify else language_model
        distances = []
        for steps in (0, 20):
            consensus = PublicConsensus(server_steps=steps, server_lr=1e-2)
            module = build(DDG, folder, consensus=consensus)
            module.datamodule = data
            sent = module.upload().parts["consensus"]
            weights = {n: v + 0.2 for n, v in module.backbone.trainable().items()}
            torch.manual_seed(0)
            update = Update("a", Payload(weights, parts={"consensus": sent}), 1)
            received = module.aggregate([update])
            module.download(received)
            mixed = received.parts["consensus"].tensors
            assert torch.allclose(mixed["probs"], sent.tensors["probs"], atol=1e-3)
            losses, predictions = [], PublicPredictions.read(mixed)
            with silent(module.backbone):
                for batch in module.batches(data.public):
                    student = module(batch)
                    own = predictions.of(batch["index"], student.mask)
                    losses.append(module.aggregate_kl_loss(student, student, own))
            distances.append(float(sum(losses)))
        assert distances[1] < 0.7 * distances[0]


# ---------------------------------------------------------------- the teacher


def test_rows_that_come_again_cost_the_teacher_nothing(model: Path, tmp_path: Path) -> None:
    calls: list[int] = []

    class Counting(AdapterTeacher):
        def predict(self, batch: Any, hidden: bool) -> Any:
            calls.append(1)
            return super().predict(batch, hidden)

    counts = []
    for epochs in (1, 3):
        calls.clear()
        module = classify(DDG, model, lambda_aggregate=0.0, teacher=Counting())
        fit(module, tmp_path / str(epochs), max_rounds=1, local_epochs=epochs, clients_per_round=1)
        counts.append(len(calls))
    assert counts[0] == counts[1] > 1


@pytest.mark.parametrize("kind", slow_but("language model", of=["classifier", "language model"]))
def test_the_cache_changes_nothing(
    kind: str, model: Path, language_model: Path, tmp_path: Path
) -> None:
    """Shuffled epochs pad rows differently; what is kept is the same up to rounding."""
    runs = []
    for cache in (0.0, 0.02, 1024.0):
        if kind == "classifier":
            module, data = classify(DDG, model, teacher=AdapterTeacher(cache)), toy_data()
        else:
            module = continue_text(DDG, language_model, teacher=AdapterTeacher(cache))
            data = lm_data()
        trainer = fit(
            module, tmp_path / str(cache), data, local_epochs=2, max_rounds=2, clients_per_round=1
        )
        runs.append(trainer.federation.broadcast.tensors)
    for other in runs[1:]:
        for name, value in runs[0].items():
            torch.testing.assert_close(other[name], value, atol=5e-3, rtol=1e-2)


def test_the_teacher_is_frozen_and_sober(model: Path) -> None:
    data = toy_data()
    data.setup()
    module = classify(DDG, model).train()
    module.download(Payload(module.backbone.trainable()))
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.5
    batch = batch_of(data, module, data.clients[0].rows)
    before = torch.get_rng_state()
    prediction = module.teacher(batch)
    assert torch.equal(torch.get_rng_state(), before)
    assert not prediction.logits.requires_grad
    assert module.backbone.training
    assert module.backbone.active_adapters == ("default",)
    teacher = module.backbone.trainable("teacher")
    assert not any(p.requires_grad for p in teacher.values())
    assert all(p.requires_grad for p in module.backbone.trainable().values())


def test_a_lone_step_is_said_once(model: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="with a single local step") as caught:
        fit(classify(DDG, model), tmp_path / "one", local_steps=1)
    assert len([w for w in caught if "single local step" in str(w.message)]) == 1


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("part", "settings", "message"),
    [
        (PublicConsensus, {"top_k": 0}, "`model.consensus.top_k` is expected"),
        (PublicConsensus, {"batch_size": 0}, "`model.consensus.batch_size` is expected"),
        (PublicConsensus, {"server_steps": -1}, "`model.consensus.server_steps` is expected"),
        (PublicConsensus, {"server_lr": 0.0}, "`model.consensus.server_lr` is .* above 0"),
        (PeerConsensus, {"cache_mb": -1.0}, "`model.consensus.cache_mb` is expected"),
        (AdapterTeacher, {"cache_mb": -1.0}, "`model.teacher.cache_mb` is expected"),
    ],
)
def test_bad_settings(part: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        part(**settings)


@pytest.mark.parametrize("method", [DDG, DDGMSI])
@pytest.mark.parametrize("name", REPLACED)
def test_a_former_setting_names_what_has_taken_its_place(name: str, method: Any) -> None:
    with pytest.raises(
        ValueError, match=f"`model.{name}` is no setting any more: use `model."
    ) as e:
        method(**{name: 1})
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("name", REPLACED)
@pytest.mark.parametrize("given", ["as an argument", "in a file"])
def test_a_former_setting_is_named_on_the_command_line(
    given: str, name: str, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    setting = f"    {name}: 1\n" if given == "in a file" else ""
    config.write_text(f"model:\n  class_path: lit_fed.DDG\n  init_args:\n    gamma: 2.0\n{setting}")
    argument = [] if setting else [f"--model.{name}=1"]
    with pytest.raises(SystemExit) as stop:
        main(["fit", f"--config={config}", *argument])
    expected = f"lit-fed: error: `model.{name}` is no setting any more: use {REPLACED[name]}"
    assert stop.value.code == expected


def test_missing_public_set_and_classes(model: Path, language_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`data\.public` or `data\.public_size` is expected"):
        fit(classify(DDG, model), tmp_path / "a", toy_data(public=None))
    module = continue_text(DDG, language_model, consensus=ClassConsensus())
    with pytest.raises(ValueError, match="ClassConsensus, which is for classifiers"):
        fit(module, tmp_path / "b", lm_data(), clients_per_round=2)


def test_rows_of_classes_that_nobody_has_seen_have_no_alpha(model: Path) -> None:
    """As in the first round of a task whose classes are new."""
    data = toy_data()
    data.setup()
    module = classify(DDG, model, consensus=ClassConsensus())
    logged: dict[str, Tensor] = {}
    module.log = lambda name, value, *args, **kwargs: logged.update({name: value})  # type: ignore[method-assign]
    probs = torch.zeros(CLASSES, CLASSES)
    module.download(broadcast(module, probs=probs.half()))
    batch = batch_of(data, module, data.clients[0].rows)
    assert module.training_step(batch, 0).isfinite()
    assert logged["train/aggregate"] == 0
    assert not [name for name in logged if "alpha" in name]


@pytest.mark.parametrize("method", [DDG, DDGMSI])
def test_only_training_needs_a_public_set(
    method: type[FederatedModule], model: Path, tmp_path: Path
) -> None:
    data = toy_data(public=None)
    tested = toy_trainer(tmp_path / "test").test(classify(method, model), data)
    assert 0 <= tested[0]["test/accuracy"] <= 1
    with pytest.raises(ValueError, match=r"`data\.public` or `data\.public_size` is expected"):
        fit(classify(method, model), tmp_path / "fit", data)


class BiasFree(WeightedAverage):
    """Lets no bias travel."""

    def receives(self, names: Sequence[str], client: Client | None) -> list[str]:
        return [name for name in names if not name.endswith("bias")]

    def sends(self, names: Sequence[str], client: Client) -> list[str]:
        return self.receives(names, client)


@pytest.mark.parametrize("consensus", [PeerConsensus(), PublicConsensus(server_steps=2)])
def test_a_consensus_of_all_weights_needs_a_rule_that_sends_them(
    consensus: Consensus, model: Path, tmp_path: Path
) -> None:
    module = classify(DDG, model, aggregation=BiasFree(), consensus=consensus)
    with pytest.raises(
        ValueError, match=r"model.consensus.*Consensus .* `model.aggregation` is Bias"
    ):
        toy_trainer(tmp_path).fit(module, toy_data())
