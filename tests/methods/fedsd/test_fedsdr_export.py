"""FedSDR's two models, W_0 + R and W_0 + R + S_k: evaluated, predicted with, and exported for plain peft."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from lit_fed import FederatedModule, FedSDR
from lit_fed.aggregation import FedExLoRA, FlexLoRA
from lit_fed.backbones import CausalLM, SequenceClassifier
from tests.federation.toy import fast_adamw, toy_data, toy_trainer
from tests.methods.toy_methods import lm_data, save_toy_lm
from tests.slow import slow_but

IDS = torch.tensor([[2, 5, 9, 14, 3], [2, 6, 7, 11, 3]])
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "another rank and alpha": {"private_rank": 3, "private_alpha": 5.0},
    "rank-stabilised": {"peft": {"use_rslora": True}, "private_rank": 2},
    "patterns": {"peft": {"rank_pattern": {"query": 2}, "alpha_pattern": {"value": 3}}},
    "embedding": {"peft": {"target_modules": ["word_embeddings", "query"]}},
    "folded": {"aggregation": FedExLoRA},
    "other ranks of R": {"aggregation": partial(FlexLoRA, {"client-1": 2, "client-2": 3})},
    "language model": {"language": True, "private_rank": 3},
}


def method(folder: Path, case: dict[str, Any]) -> FedSDR:
    settings = dict(case)
    language = settings.pop("language", False)
    targets = None if language else ["query", "value"]
    peft = LoraConfig(
        **{"r": 4, "lora_alpha": 8, "target_modules": targets, **settings.pop("peft", {})}
    )
    torch.manual_seed(0)
    backbone = (CausalLM if language else SequenceClassifier)(str(folder), peft=peft)
    rule = settings.pop("aggregation", None)
    return FedSDR(backbone, rule and rule(), optimizer=fast_adamw, **settings)


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def assert_plain_peft_loads(folder: Path, model: Path, module: FederatedModule) -> int:
    """The rank of what it loads; it predicts what the module does."""
    config = AutoConfig.from_pretrained(folder / "model_config.json")
    kinds: Any = (AutoModelForCausalLM, AutoModelForSequenceClassification)
    base = kinds[isinstance(module.backbone, SequenceClassifier)].from_pretrained(
        model, config=config
    )
    loaded = PeftModel.from_pretrained(base, str(folder)).eval()
    ours = logits(module.backbone.eval().model)
    torch.testing.assert_close(logits(loaded), ours, rtol=0, atol=1e-5 * float(ours.abs().max()))
    rank: int = loaded.peft_config["default"].r
    return rank


@pytest.mark.parametrize(
    "name", slow_but("plain", "folded", "other ranks of R", "language model", of=CASES)
)
def test_both_models_are_exported_for_plain_peft(
    name: str, toy_model: Path, tmp_path: Path
) -> None:
    case = CASES[name]
    model = save_toy_lm(tmp_path / "lm") if "language" in case else toy_model
    module, data = method(model, case), lm_data() if "language" in case else toy_data()
    trainer = toy_trainer(tmp_path / "run", max_rounds=2, clients_per_round=2, local_steps=3)
    trainer.fit(module, data)
    root = trainer.log_dir
    states = {n: s for n, s in trainer.federation.clients.items() if s.rounds}
    ranks = {assert_plain_peft_loads(root / "adapter", model, trainer.act_as_server())}
    assert {path.name for path in (root / "client_adapters").iterdir()} == set(states)
    common = logits(trainer.act_as_server().backbone.eval().model)
    for index, client in enumerate(trainer.datamodule.clients):
        if client.id in states:
            own = trainer.act_as_client(index)
            assert not torch.allclose(logits(own.backbone.eval().model), common, atol=1e-3)
            folder = root / "client_adapters" / client.id
            ranks.add(assert_plain_peft_loads(folder, model, own))
    if name in ("plain", "another rank and alpha"):
        assert ranks == {4, 4 + case.get("private_rank", 4)}

    # both are evaluated, and a client's own model predicts
    told = trainer.final_metrics
    assert {
        "test/loss",
        "test/accuracy",
        "clients/test/loss/mean",
        "clients/test/accuracy/min",
    } <= set(told)
    assert told["test/loss"] != told["clients/test/loss/mean"]
    if name == "plain":
        said = {
            client: list(trainer.predictions(module, client=client)) for client in (None, *states)
        }
        chances = [[row["probabilities"] for row in rows] for rows in said.values()]
        assert chances[0] != chances[1] != chances[2]
        evaluated = trainer.validate(module)[0]
        assert {"val/loss", "clients/val/loss/mean"} <= set(evaluated)
