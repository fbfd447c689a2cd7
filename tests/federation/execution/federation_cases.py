"""Federations run in one process and in several: ``… <execution> <devices> <model> <folder> <cases>``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback
from peft import LoraConfig
from torch import Tensor
from torchmetrics import MeanMetric, SumMetric

from lit_fed import (
    DDG,
    SCAFFOLD,
    Distillation,
    FedAvg,
    FederatedTrainer,
    FedProx,
    PrototypeDefense,
    SemanticConsensus,
)
from lit_fed.aggregation import Aggregation, FedAdam, FedExLoRA, FLoRA
from lit_fed.attacks import LabelFlipping, Neurotoxin, TeacherCorruption, TriggerPoisoning
from lit_fed.attacks.triggers import WordTrigger
from lit_fed.backbones import CallableGenerator, CausalLM, SequenceClassifier
from lit_fed.callbacks import BackdoorEvaluation
from lit_fed.compression import EightBit, TopK
from lit_fed.data import ClassificationEncoding, IIDPartitioner
from lit_fed.federation import (
    ClientExecution,
    DistributedClients,
    ShardedClients,
    VectorizedClients,
)
from lit_fed.methods.semantic_consensus import ClientGroup, ConfidenceWeight
from lit_fed.methods.teachers import AdapterTeacher, FineTunedTeacher
from tests.federation.malformed_clients import WAYS, Malformed, fit
from tests.federation.protocol_methods import Answers, TwoAdapters
from tests.federation.toy import GOOD, fast_adamw, toy_backbone, toy_data, toy_module, toy_trainer
from tests.methods.toy_methods import lm_data

EXECUTIONS = {"one": None, "distributed": DistributedClients, "sharded": ShardedClients}


class OneFails(FedAvg):
    """The second of the clients can never be trained."""

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        if self.client is not None and self.client.index == 1:
            raise ValueError("the second client has no luck")
        return super().training_step(batch, batch_idx)


class Metered(FedAvg):
    """Logs torchmetrics in training and in evaluation, and computes one by itself in a client's round."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seen, self.rows = MeanMetric(), SumMetric()

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        self.seen.update(loss.detach(), weight=len(batch["labels"]))
        self.log("train/seen", self.seen)
        return loss

    def on_train_epoch_end(self) -> None:
        self.log("train/seen/so_far", self.seen.compute())

    def validation_step(
        self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        super().validation_step(batch, batch_idx)
        self.rows.update(len(batch["labels"]))
        self.log("val/rows", self.rows)


class StopAfterTwo(Callback):
    """Asks for an early end in the first process only, as a callback that measures time may."""

    def on_round_end(self, trainer: Any, module: Any, metrics: Any) -> None:
        if trainer.is_global_zero and trainer.current_round == 2:
            trainer.should_stop = True


def plain(model: Path, root: Path, **settings: Any) -> FederatedTrainer:
    """Everything that lasts of a client: dropout's randomness, moments, its own validation."""
    given = {"keep_optimizer_state": True, "validate_clients": True}
    trainer = toy_trainer(root, **given | settings)
    ckpt_path = "last" if root.exists() else None
    trainer.fit(toy_module(model), toy_data(client_validation_fraction=0.2), ckpt_path)
    return trainer


def private(model: Path, root: Path, **settings: Any) -> FederatedTrainer:
    trainer = toy_trainer(root, max_rounds=2, callbacks=[StopAfterTwo()], **settings)
    trainer.fit(TwoAdapters(toy_backbone(model), optimizer=fast_adamw, warmup_steps=0), toy_data())
    return trainer


def metered(model: Path, root: Path, **settings: Any) -> FederatedTrainer:
    """Three clients, of which one process has one more than the other."""
    trainer = toy_trainer(root, max_rounds=2, clients_per_round=3, **settings)
    trainer.fit(Metered(toy_backbone(model), optimizer=fast_adamw, warmup_steps=0), toy_data())
    return trainer


def compressed(model: Path, root: Path, **settings: Any) -> FederatedTrainer:
    """Uploads of the largest changes in 8 bits, and of predictions in 8 bits."""
    attachments = [TopK(0.25), EightBit(parts=["consensus"])]
    trainer = toy_trainer(root, max_rounds=2, attachments=attachments, **settings)
    trainer.fit(DDG(toy_backbone(model), optimizer=fast_adamw, warmup_steps=0), toy_data())
    return trainer


def poisoned(model: Path, root: Path, **settings: Any) -> FederatedTrainer:
    """Rows with a trigger, wrong labels, a corrupted teacher, and changes where the global model is still."""
    trigger = WordTrigger(["place"])
    attachments = [
        TriggerPoisoning(trigger, 1, 0.2, until=2),
        LabelFlipping(count=1, rate=0.5),
        TeacherCorruption(1, trigger),
        Neurotoxin(0.2, count=2),
    ]
    evaluation = [BackdoorEvaluation(trigger, 1)]
    trainer = toy_trainer(root, attachments=attachments, callbacks=evaluation, **settings)
    ckpt_path = "last" if root.exists() else None
    trainer.fit(DDG(toy_backbone(model), optimizer=fast_adamw), toy_data(), ckpt_path)
    return trainer


def two_models(model: Path, root: Path, **settings: Any) -> FederatedTrainer:
    """Two clients of two models and tokenizers, the other in the folder ``other`` beside the first."""
    trainer = toy_trainer(root, clients_per_round=2, **settings)
    backbones = [toy_backbone(folder, dropout=0.1) for folder in (model, model.parent / "other")]
    module = Answers(backbones, optimizer=fast_adamw, warmup_steps=0)
    trainer.fit(module, toy_data(num_clients=2, partitioner=IIDPartitioner()))
    return trainer


def consenting(model: Path, root: Path, **settings: Any) -> FederatedTrainer:
    """Four clients of two models exchange answers, those that have changed alone, by how sure they are."""
    own, other = (toy_backbone(folder, 0.1) for folder in (model, model.parent / "other"))
    module = SemanticConsensus(
        own,
        [ClientGroup(other, ["client-1", "client-2"])],
        vote_weight=ConfidenceWeight(),
        warmup_rounds=1,
        consensus_every=1,
        optimizer=fast_adamw,
    )
    trainer = toy_trainer(root, clients_per_round=4, **settings)
    trainer.fit(module, toy_data(partitioner=IIDPartitioner()))
    return trainer


def guarded(model: Path, root: Path, **settings: Any) -> FederatedTrainer:
    """Four clients whose rows are judged, and who move the prototypes that the server merges."""
    module = PrototypeDefense(
        toy_backbone(model, 0.1), num_prototypes=4, adaptation=0.5, optimizer=fast_adamw
    )
    trainer = toy_trainer(root, clients_per_round=4, **settings)
    trainer.fit(module, toy_data(partitioner=IIDPartitioner()))
    return trainer


def knows(text: str) -> str:
    return "good" if set(GOOD) & set(text.split()) else "bad"


def knows_at_first(text: str) -> str:
    """Answers in the first process alone, and not everything."""
    if os.environ.get("LOCAL_RANK", "0") != "0" or "cruel" in text.split():
        raise TimeoutError("the service does not answer")
    return knows(text)


def asking(
    model: Path, root: Path, answer: Callable[[str], str] = knows, **settings: Any
) -> FederatedTrainer:
    """One of four clients answers, and trains nothing."""
    module = SemanticConsensus(
        toy_backbone(model, 0.1),
        [ClientGroup(CallableGenerator(answer), ["client-1"])],
        warmup_rounds=1,
        consensus_every=1,
        optimizer=fast_adamw,
    )
    trainer = toy_trainer(root, clients_per_round=4, **settings)
    encoding = ClassificationEncoding("text", None, label_names=["bad", "good"])
    trainer.fit(module, toy_data(partitioner=IIDPartitioner(), encoding=encoding))
    return trainer


def asking_one(model: Path, root: Path, **settings: Any) -> FederatedTrainer:
    """The client that answers is a service that fails now and then, and would not answer the second process."""
    return asking(model, root, knows_at_first, **settings)


def failing(model: Path, root: Path, **settings: Any) -> FederatedTrainer:
    trainer = toy_trainer(
        root, max_rounds=5, clients_per_round=4, callbacks=[StopAfterTwo()], **settings
    )
    trainer.fit(OneFails(toy_backbone(model), optimizer=fast_adamw, warmup_steps=0), toy_data())
    return trainer


def malformed(model: Path, root: Path, **settings: Any) -> FederatedTrainer:
    """The second of three clients gives something else that cannot be used in every round."""
    return fit(Malformed, model, root, [0, 1, 2], max_rounds=len(WAYS), **settings)


def too_few(model: Path, root: Path, **settings: Any) -> str:
    trainer = toy_trainer(root, min_clients=4, clients_per_round=4, **settings)
    try:
        module = OneFails(toy_backbone(model), optimizer=fast_adamw, warmup_steps=0)
        trainer.fit(module, toy_data())
    except RuntimeError as error:
        return str(error)
    return "no error"


def still(model: Path) -> SequenceClassifier:
    """A backbone without dropout: processes that share a batch draw other masks than a single one."""
    backbone = toy_backbone(model)
    for part in backbone.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    return backbone


def vectorized(model: Path, root: Path, **settings: Any) -> FederatedTrainer:
    """Every process trains its own clients two at a time, in double precision: see ``TOLERANCE``."""
    if settings.get("execution") is not None:
        settings["execution"] = DistributedClients(VectorizedClients(clients_at_once=2))
    given = {"precision": "64-true", "max_rounds": 2, "clients_per_round": 4}
    trainer = toy_trainer(root, **given, **settings)
    module = FedAvg(still(model), optimizer=lambda p: torch.optim.SGD(p, lr=0.1), warmup_steps=0)
    trainer.fit(module, toy_data())
    return trainer


def sgd(model: Path, root: Path, **settings: Any) -> FederatedTrainer:
    """A batch of an odd number of rows, clipping, two batches a step."""
    trainer = toy_trainer(root, max_rounds=2, accumulate_grad_batches=2, **settings)
    module = FedAvg(still(model), optimizer=lambda p: torch.optim.SGD(p, lr=0.1), warmup_steps=0)
    trainer.fit(module, toy_data(batch_size=7), "last" if root.exists() else None)
    return trainer


def slow_adamw(params: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(params, lr=1e-2, eps=1e-4)


def adamw(model: Path, root: Path, **settings: Any) -> FederatedTrainer:
    given = {"keep_optimizer_state": True, "validate_clients": True, "clients_per_round": 4}
    trainer = toy_trainer(root, **given | settings)
    module = FedAvg(still(model), optimizer=slow_adamw, warmup_steps=0)
    trainer.fit(module, toy_data(), "last" if root.exists() else None)
    return trainer


def distilled(model: Path, root: Path, **settings: Any) -> FederatedTrainer:
    """Two batches a step, of whose loss the alignment takes a backward pass of its own."""
    trainer = toy_trainer(root, max_rounds=2, accumulate_grad_batches=2, **settings)
    module = DDG(
        still(model),
        optimizer=slow_adamw,
        warmup_steps=0,
        lambda_aggregate=0.0,
        teacher=AdapterTeacher(cache_mb=0.0),
    )
    trainer.fit(module, toy_data())
    return trainer


def stages(model: Path, root: Path, **settings: Any) -> FederatedTrainer:
    trainer = toy_trainer(root, max_rounds=1, **settings)
    trainer.fit(
        TwoAdapters(still(model), optimizer=slow_adamw, warmup_steps=0),
        toy_data(batch_size=6),
    )
    return trainer


def language(model: Path, root: Path, **settings: Any) -> FederatedTrainer:
    """A causal language model: the parts of a batch differ in the tokens that are learnt."""
    return _continue_text(model, root, settings, peft=LoraConfig(r=4), gradient_checkpointing=True)


def every_weight(model: Path, root: Path, **settings: Any) -> FederatedTrainer:
    return _continue_text(model, root, settings, peft=None)


def _continue_text(
    model: Path, root: Path, settings: dict[str, Any], **given: Any
) -> FederatedTrainer:
    torch.manual_seed(0)
    trainer = toy_trainer(root, max_rounds=2, clients_per_round=2, **settings)
    backbone = CausalLM(str(model.parent / "lm"), **given)
    trainer.fit(FedAvg(backbone, optimizer=slow_adamw, warmup_steps=0), lm_data(batch_size=5))
    return trainer


def slow_sgd(params: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=0.1)


def half(model: Path, root: Path, **settings: Any) -> FederatedTrainer:
    """A base of 16 bits, whose adapters and head train in float32."""
    torch.manual_seed(0)
    given = {"max_rounds": 1, "clients_per_round": 2, "precision": "bf16-true"}
    trainer = toy_trainer(root, **given | settings)
    backbone = SequenceClassifier(str(model), peft=LoraConfig(r=4), dtype="bfloat16")
    for part in backbone.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    trainer.fit(FedAvg(backbone, optimizer=slow_sgd, warmup_steps=0), toy_data(batch_size=6))
    return trainer


def folding(rule: type[Aggregation]) -> Callable[..., FederatedTrainer]:
    """A rule that changes the frozen base, of weights in double precision: see ``TOLERANCE``."""

    def fit(model: Path, root: Path, **settings: Any) -> FederatedTrainer:
        trainer = toy_trainer(root, max_rounds=3, **settings)
        module = FedAvg(still(model).double(), rule(), optimizer=slow_adamw, warmup_steps=0)
        trainer.fit(module, toy_data(batch_size=6))
        return trainer

    return fit


def taught(model: Path, root: Path, **settings: Any) -> FederatedTrainer:
    """A teacher that has learnt the public set in each process, and reads rows by a tokenizer of its own."""
    trainer = toy_trainer(root, max_rounds=2, **settings)
    teacher = FineTunedTeacher(toy_backbone(model.parent / "other"), epochs=1)
    trainer.fit(
        Distillation(toy_backbone(model, 0.1), teacher=teacher, optimizer=fast_adamw), toy_data()
    )
    return trainer


def corrected(model: Path, root: Path, **settings: Any) -> FederatedTrainer:
    """Control variates of the clients and of the server."""
    trainer = toy_trainer(root, max_rounds=2, **settings)
    trainer.fit(SCAFFOLD(still(model), optimizer=slow_sgd), toy_data(batch_size=6))
    return trainer


def adaptive(model: Path, root: Path, **settings: Any) -> FederatedTrainer:
    """A server with moments, and clients that stay near its model."""
    trainer = toy_trainer(root, max_rounds=2, **settings)
    module = FedProx(toy_backbone(model, dropout=0.1), FedAdam(), optimizer=fast_adamw, mu=0.5)
    trainer.fit(module, toy_data())
    return trainer


CASES: dict[str, Callable[..., FederatedTrainer | str]] = {
    "plain": plain,
    "private": private,
    "metered": metered,
    "compressed": compressed,
    "poisoned": poisoned,
    "two_models": two_models,
    "consenting": consenting,
    "guarded": guarded,
    "asking": asking,
    "taught": taught,
    "failing": failing,
    "malformed": malformed,
    "too_few": too_few,
    "vectorized": vectorized,
    "corrected": corrected,
    "adaptive": adaptive,
}
SHARDED: dict[str, Callable[..., FederatedTrainer | str]] = {
    "sgd": sgd,
    "adamw": adamw,
    "distilled": distilled,
    "stages": stages,
    "language": language,
    "half": half,
    "every_weight": every_weight,
    "corrected": corrected,
    "asking_one": asking_one,
    "failing": failing,
    "malformed": malformed,
}
FOLDING: dict[str, Callable[..., FederatedTrainer | str]] = {
    "flora": folding(FLoRA),
    "fedex_lora": folding(FedExLoRA),
}


def main() -> None:
    name, devices, model, folder, *cases = sys.argv[1:]
    for case in cases:
        execution: ClientExecution | None = EXECUTIONS[name]() if EXECUTIONS[name] else None
        settings = {"execution": execution, "devices": int(devices)}
        result = {**CASES, **SHARDED, **FOLDING}[case](Path(model), Path(folder) / case, **settings)
        if isinstance(result, str):
            path = Path(folder) / f"{case}.{os.environ.get('LOCAL_RANK', 0)}.txt"
            path.write_text(result)
            continue
        # what every process holds in the end, to compare them
        weights = {f"w/{k}": v for k, v in result.federation.broadcast.tensors.items()}
        path = Path(folder) / f"{case}.{result.fabric.global_rank}.pt"
        torch.save({"weights": weights, "history": result.federation.history}, path)


if __name__ == "__main__":
    main()
