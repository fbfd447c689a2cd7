"""What trains is float32 on a base of 16 bits, and moves at a learning rate of 2e-5."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric import Fabric
from peft import (
    IA3Config,
    LNTuningConfig,
    LoraConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptTuningConfig,
)
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForSequenceClassification

from lit_fed import FedAvg
from lit_fed.backbones import (
    Backbone,
    BitFitConfig,
    BottleneckConfig,
    CausalLM,
    SequenceClassifier,
)
from lit_fed.backbones.master_weights import require_wide, widen
from lit_fed.losses.aggregate_kl import RunningMean
from tests.federation.toy import toy_data, toy_trainer

from .batches import batch_of, change, logits_of, loss_of

Models = Callable[..., str]
CLASSIFIERS: dict[str, Any] = {
    "lora": "lora",
    "dora": LoraConfig(r=2, use_dora=True),
    "bitfit": BitFitConfig(),
    "norms": LNTuningConfig(target_modules=["LayerNorm"]),
}
DECODERS: dict[str, Any] = {
    "ia3": IA3Config(),
    "bottleneck": BottleneckConfig(width=4),
    "prompt": PromptTuningConfig(num_virtual_tokens=3),
    "prefix": PrefixTuningConfig(num_virtual_tokens=3),
    "whole modules": LoraConfig(r=2, modules_to_save=["embed_tokens", "norm"]),
}


def made(tiny_model: Models, name: str, dtype: Any) -> Backbone:
    if name in CLASSIFIERS:
        return SequenceClassifier(tiny_model("bert"), peft=CLASSIFIERS[name], dtype=dtype)
    return CausalLM(tiny_model("llama"), peft=DECODERS[name], dtype=dtype)


def module_of(backbone: Backbone) -> FedAvg:
    return FedAvg(
        backbone,
        optimizer=lambda p: torch.optim.AdamW(p, lr=2e-5, weight_decay=0.0),
        warmup_steps=0,
    )


@pytest.mark.parametrize("precision", ["bf16-true", "bf16-mixed", "32-true"])
@pytest.mark.parametrize("name", [*CLASSIFIERS, *DECODERS])
def test_a_small_step_moves_every_number_that_has_a_gradient(
    name: str, precision: Any, tiny_model: Models
) -> None:
    backbone = made(tiny_model, name, "bfloat16")
    fabric, module = Fabric(accelerator="cpu", precision=precision), module_of(backbone)
    fabric.setup(module)
    frozen = [p for p in backbone.parameters() if not p.requires_grad]
    assert {p.dtype for p in frozen} == {torch.bfloat16}
    optimizer: Any = module.configure_optimizers()
    before = {n: p.detach().clone() for n, p in backbone.trainable().items()}
    assert {p.dtype for p in before.values()} == {torch.float32}
    with fabric._precision.forward_context():
        loss = loss_of(backbone, batch_of(backbone))
    loss.backward()
    optimizer.step()
    stuck = {
        n: int(((p == before[n]) & (p.grad != 0)).sum()) for n, p in backbone.trainable().items()
    }
    assert sum(stuck.values()) == 0, stuck


def test_a_model_that_is_converted_later_keeps_its_adapters(tiny_model: Models) -> None:
    """As Lightning's precisions do, of a stock Trainer as well; gradients and further adapters too."""
    backbone = SequenceClassifier(tiny_model("bert"))
    backbone.add_adapter("private")
    change(backbone)
    loss_of(backbone, batch_of(backbone)).backward()
    values = {n: p.detach().clone() for n, p in backbone.trainable().items()}
    backbone.to(torch.bfloat16)
    assert {p.dtype for p in backbone._base.bert.embeddings.parameters()} == {torch.bfloat16}
    assert all(torch.equal(p, values[n]) for n, p in backbone.trainable().items())
    wide = [*backbone.trainable().values(), *backbone.trainable("private").values()]
    assert {p.dtype for p in wide} == {torch.float32}
    assert {p.grad.dtype for p in wide if p.grad is not None} == {torch.float32}
    assert {p.dtype for p in backbone.double().trainable().values()} == {torch.float64}


def test_a_later_adapter_of_a_narrow_model_is_wide(tiny_model: Models) -> None:
    backbone = SequenceClassifier(tiny_model("bert"), dtype="bfloat16")
    backbone.add_adapter("private")
    assert {p.dtype for p in backbone.trainable("private").values()} == {torch.float32}
    change(backbone, "private")
    batch = batch_of(backbone)
    first = logits_of(backbone, batch)
    backbone.activate("private")
    assert not torch.allclose(first, logits_of(backbone, batch))
    with backbone.using():
        assert logits_of(backbone, batch).dtype == torch.bfloat16


def test_tied_weights_stay_tied() -> None:
    model = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)}).bfloat16()
    model["b"].weight = model["a"].weight
    widen(model, [model["a"].weight])
    assert model["a"].weight is model["b"].weight
    assert (model["a"].weight.dtype, model["a"].bias.dtype) == (torch.float32, torch.bfloat16)


def test_the_file_is_float32_and_plain_peft_predicts_the_same(
    tiny_model: Models, tmp_path: Path
) -> None:
    folder = tiny_model("bert", "BertForSequenceClassification")
    narrow = SequenceClassifier(folder, dtype="bfloat16")
    change(narrow)
    narrow.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {torch.float32}
    batch = batch_of(narrow)
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.bfloat16, 0.05)):
        base = AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype)
        plain = PeftModel.from_pretrained(base, tmp_path).eval()
        with torch.no_grad():
            theirs = plain(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        if dtype == torch.float32:
            ours = SequenceClassifier(folder)
            ours.load_trainable(narrow.trainable())
        else:
            ours = narrow
        torch.testing.assert_close(logits_of(ours, batch), theirs, rtol=0, atol=tolerance)


def test_what_a_method_keeps_outside_its_backbone_stays_wide(tiny_model: Models) -> None:
    """A count of 256 in bfloat16 plus 1 is 256."""
    module = module_of(SequenceClassifier(tiny_model("bert")))
    module.running = RunningMean()
    module.scale = nn.Parameter(torch.ones(()))
    module.bfloat16()
    assert module.scale.dtype == torch.float32
    for _ in range(300):
        module.running.update(torch.ones(1), torch.ones(1, dtype=torch.bool))
    assert module.running.count == 300


@pytest.mark.parametrize(
    ("dtype", "precision"), [("bfloat16", "bf16-mixed"), ("float32", "bf16-true")]
)
def test_all_weights_in_sixteen_bits_are_refused_before_training(
    dtype: Any, precision: Any, toy_model: Path, tmp_path: Path
) -> None:
    backbone = SequenceClassifier(str(toy_model), peft=None, dtype=dtype)
    trainer = toy_trainer(tmp_path, precision=precision)
    with pytest.raises(ValueError, match=r"`model\.backbone\.dtype` float32 and .* bf16-mixed are"):
        trainer.fit(module_of(backbone), toy_data())
    with pytest.raises(ValueError, match="would train in bfloat16"):
        require_wide({"w": torch.ones(1, dtype=torch.bfloat16)})
