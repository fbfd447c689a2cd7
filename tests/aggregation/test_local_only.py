from pathlib import Path

import torch
from peft import LoraConfig
from torch.optim import SGD

from lit_fed import FedAvg, FederatedTrainer
from lit_fed.aggregation import LocalOnly
from lit_fed.backbones import SequenceClassifier
from lit_fed.data import ClassificationEncoding, FederatedDataModule
from tests.federation.toy import toy_rows


def trained(toy_model: Path, clients: int, rounds: int, folder: Path) -> FederatedTrainer:
    torch.manual_seed(0)
    module = FedAvg(
        SequenceClassifier(str(toy_model), num_labels=2, peft=LoraConfig(r=2)),
        aggregation=LocalOnly(),
        optimizer=lambda params: SGD(params, lr=0.5),
    )
    data = FederatedDataModule(
        toy_rows(40, 0),
        validation=toy_rows(20, 1),
        test=toy_rows(20, 2),
        encoding=ClassificationEncoding("text", text_pair=None),
        num_clients=clients,
        batch_size=8,
    )
    trainer = FederatedTrainer(
        max_rounds=rounds, enable_progress_bar=False, default_root_dir=str(folder), loggers=False
    )
    trainer.fit(module, data)
    return trainer


def test_nothing_travels_and_clients_keep_what_they_learn(toy_model: Path, tmp_path: Path) -> None:
    trainer = trained(toy_model, clients=2, rounds=2, folder=tmp_path)
    state = trainer.federation
    assert (state.ledger.up, state.ledger.down) == (0, 0)
    kept = [state.clients[id].private.parts["kept"].tensors for id in ("client-0", "client-1")]
    assert kept[0].keys() == kept[1].keys()
    assert not torch.equal(*(torch.cat([t.flatten() for t in own.values()]) for own in kept))
    assert {"clients/test/accuracy/mean", "clients/test/accuracy/min"} <= set(trainer.final_metrics)
    assert "test/accuracy" not in trainer.final_metrics
