from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch import Callback
from peft import PeftModel
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification

from lit_fed import FedAvg
from tests.federation.toy import (
    fast_adamw,
    toy_backbone,
    toy_data,
    toy_module,
    toy_rows,
    toy_trainer,
)


def test_fits_under_a_stock_lightning_trainer(toy_model: Path, tmp_path: Path) -> None:
    trainer = lightning.Trainer(
        max_epochs=6,
        accelerator="cpu",
        default_root_dir=tmp_path,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module, data = toy_module(toy_model), toy_data()
    trainer.fit(module, datamodule=data)
    assert trainer.callback_metrics["train/loss"] < 0.5
    metrics = trainer.test(module, datamodule=data, verbose=False)[0]
    assert metrics["test/accuracy"] >= 0.9
    predictions = trainer.predict(module, datamodule=data)
    assert torch.cat([p["index"] for p in predictions]).tolist() == list(range(40))
    # batches of somebody else's loader, without row ids
    batch = {"input_ids": torch.tensor([[2, 4, 3]]), "attention_mask": torch.ones(1, 3).long()}
    own = DataLoader([batch | {"labels": torch.tensor([1])}], batch_size=None)
    (found,) = trainer.predict(module, dataloaders=own)
    assert set(found) == {"logits"}


def test_a_federated_module_goes_on_under_a_stock_trainer_and_back(
    toy_model: Path, tmp_path: Path
) -> None:
    module, data = toy_module(toy_model), toy_data()
    federated = toy_trainer(tmp_path / "first", max_rounds=1)
    federated.fit(module, data)
    settings = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    stock = lightning.Trainer(max_epochs=1, enable_checkpointing=False, **settings)
    stock.fit(module, datamodule=data)
    assert torch.isfinite(stock.callback_metrics["train/loss"])
    toy_trainer(tmp_path / "second", max_rounds=1).fit(module, data)


def test_stock_and_federated_agree_on_an_evaluation(toy_model: Path, tmp_path: Path) -> None:
    module, data = toy_module(toy_model), toy_data()
    federated = toy_trainer(tmp_path, max_rounds=2)
    federated.fit(module, data)
    stock = lightning.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    fresh = toy_module(toy_model)
    fresh.download(federated.federation.broadcast)
    metrics = stock.test(fresh, datamodule=data, verbose=False)[0]
    assert metrics == pytest.approx(federated.final_metrics, rel=1e-6)


def test_the_exported_adapter_is_a_plain_peft_folder(toy_model: Path, tmp_path: Path) -> None:
    module = toy_module(toy_model)
    trainer = toy_trainer(tmp_path / "run", max_rounds=2)
    trainer.fit(module, toy_data())
    base = AutoModelForSequenceClassification.from_pretrained(toy_model, num_labels=2)
    loaded = PeftModel.from_pretrained(base, tmp_path / "run" / "adapter").eval()
    batch = next(
        iter(trainer.datamodule.dataloader(trainer.datamodule.validation, module.tokenizer))
    )
    with torch.no_grad():
        ours = module.eval()(batch).logits
        theirs = loaded(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    torch.testing.assert_close(ours, theirs)


def test_full_fine_tuning_exchanges_every_weight(toy_model: Path, tmp_path: Path) -> None:
    from lit_fed.backbones import SequenceClassifier

    module = FedAvg(
        SequenceClassifier(str(toy_model), peft=None), optimizer=fast_adamw, warmup_steps=0
    )
    trainer = toy_trainer(tmp_path / "run", max_rounds=1, clients_per_round=2)
    trainer.fit(module, toy_data())
    size = sum(p.numel() * p.element_size() for p in module.backbone.parameters())
    assert trainer.federation.ledger.up == 2 * size
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run" / "adapter")
    name, weight = next(iter(loaded.state_dict().items()))
    assert torch.equal(weight, trainer.federation.broadcast.tensors[name])


def test_a_module_without_data_says_so(toy_model: Path) -> None:
    with pytest.raises(RuntimeError, match="FedAvg needs a FederatedDataModule"):
        next(FedAvg(toy_backbone(toy_model)).batches(toy_rows(4, 0)))


def test_clients_may_have_learning_rates_of_their_own(toy_model: Path, tmp_path: Path) -> None:
    def changes(folder: str, **settings: Any) -> dict[str, float]:
        module = FedAvg(
            toy_backbone(toy_model),
            optimizer=lambda p: torch.optim.SGD(p, lr=0.1),
            warmup_steps=2,
            **settings,
        )
        norms: dict[str, float] = {}
        start = module.initial_broadcast()

        class Norms(Callback):
            def on_client_end(self, trainer: Any, module: Any, update: Any) -> None:
                norms[update.client_id] = module.update_norm(update.payload, start)

        steps = {"max_rounds": 1, "local_steps": 1, "clients_per_round": 4}
        trainer = toy_trainer(tmp_path / folder, callbacks=[Norms()], **steps)
        trainer.fit(module, toy_data())
        return norms

    plain = changes("plain")
    own = changes("own", lr_factors={"client-1": 0.5, "client-3": 4.0})
    ratios = {name: own[name] / plain[name] for name in plain}
    expected = {"client-0": 1.0, "client-1": 0.5, "client-2": 1.0, "client-3": 4.0}
    assert ratios == pytest.approx(expected, rel=1e-3)
    with pytest.raises(ValueError, match=r"`model.lr_factors` .* got 'client-9'; did you mean"):
        changes("unknown", lr_factors={"client-9": 0.5})
    with pytest.raises(ValueError, match=r"`model.lr_factors.client-1` is expected .* but got 0"):
        FedAvg(toy_backbone(toy_model), lr_factors={"client-1": 0.0})
