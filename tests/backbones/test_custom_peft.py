"""The configurations that peft does not have, in a federation and from YAML."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from peft import PeftModel
from transformers import AutoModelForSequenceClassification

from lit_fed import FedAvg
from lit_fed.backbones import Backbone, BitFitConfig, BottleneckConfig, SequenceClassifier
from tests.federation.toy import fast_adamw, save_toy_model, toy_data, toy_rows, toy_trainer

from .batches import batch_of, logits_of

Models = Callable[..., str]


@pytest.mark.parametrize("peft", [BottleneckConfig(width=8), BitFitConfig()])
def test_a_federation_learns_with_it(tmp_path: Path, peft: Any) -> None:
    folder = save_toy_model(tmp_path / "model")
    torch.manual_seed(0)
    backbone = SequenceClassifier(str(folder), peft=peft)
    frozen = {n: p.clone() for n, p in backbone.named_parameters() if not p.requires_grad}
    trainer = toy_trainer(tmp_path / "run", max_rounds=4, clients_per_round=1.0, local_epochs=2)
    data = toy_data(train=toy_rows(160, 0))
    trainer.fit(FedAvg(backbone, optimizer=fast_adamw, warmup_steps=0), data)
    assert trainer.final_metrics["test/accuracy"] >= 0.8
    sent = sum(p.numel() * 4 for p in backbone.trainable().values())
    assert trainer.federation.ledger.rounds[0] == (4 * sent, 4 * sent)
    after = dict(backbone.named_parameters())
    assert all(torch.equal(p, after[n]) for n, p in frozen.items())

    # What the run leaves is what it trained.
    exported = PeftModel.from_pretrained(
        AutoModelForSequenceClassification.from_pretrained(folder),
        str(tmp_path / "run" / "adapter"),
    ).eval()
    batch = batch_of(backbone, ["the film was good", "a grey day"])
    with torch.no_grad():
        logits = exported(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    torch.testing.assert_close(logits, logits_of(backbone, batch))


@pytest.mark.parametrize(
    ("kind", "settings"), [(BottleneckConfig, {"width": 3}), (BitFitConfig, {})]
)
def test_by_class_path(tiny_model: Models, kind: Any, settings: dict[str, Any]) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(Backbone, "backbone")
    peft = {"class_path": f"lit_fed.backbones.{kind.__name__}", "init_args": settings}
    document = {
        "class_path": "lit_fed.backbones.SequenceClassifier",
        "init_args": {"model": tiny_model("bert"), "peft": peft},
    }
    config = parser.parse_args([f"--config={yaml.safe_dump({'backbone': document})}"])
    again = parser.parse_args([f"--config={parser.dump(config, skip_unset=False)}"])
    backbone = parser.instantiate(again).backbone
    python = SequenceClassifier(tiny_model("bert"), peft=kind(**settings))
    made = backbone.model.peft_config["default"]
    assert type(made) is kind
    assert made == python.model.peft_config["default"]


def test_the_package_names_them_only() -> None:
    import lit_fed.backbones

    with pytest.raises(AttributeError, match="no attribute 'HoulsbyConfig'"):
        _ = lit_fed.backbones.HoulsbyConfig
