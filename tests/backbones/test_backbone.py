from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import (
    IA3Config,
    LoraConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    get_peft_model_state_dict,
)
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from lit_fed.backbones import Backbone, CausalLM, SequenceClassifier

from .batches import TEXTS, batch_of, change, logits_of, loss_of

Models = Callable[..., str]

CONFIGS: dict[str, Any] = {
    "lora": "lora",
    "all-linear": LoraConfig(r=2, target_modules="all-linear"),
    "dora": LoraConfig(use_dora=True),
    "ia3": IA3Config(),
    "prompt": PromptTuningConfig(num_virtual_tokens=3),
    "prefix": PrefixTuningConfig(num_virtual_tokens=3),
    "full": None,
}
# The file holds what their network computes, not its parameters.
COMPUTED = {
    "p-tuning": PromptEncoderConfig(num_virtual_tokens=3, encoder_hidden_size=4),
    "projection": PrefixTuningConfig(
        num_virtual_tokens=3, prefix_projection=True, encoder_hidden_size=4
    ),
}


def make(folder: str, task: str, peft: Any = "lora", **settings: Any) -> Backbone:
    torch.manual_seed(0)
    if task == "classifier":
        return SequenceClassifier(folder, num_labels=3, peft=peft, **settings)
    return CausalLM(folder, peft=peft, **settings)


def plainly_loaded(folder: str, task: str, saved: Path, peft: Any) -> torch.nn.Module:
    auto: Any = AutoModelForSequenceClassification
    labels: dict[str, Any] = {"num_labels": 3}
    if task != "classifier":
        auto, labels = AutoModelForCausalLM, {}
    if peft is None:
        loaded: torch.nn.Module = auto.from_pretrained(saved).eval()
        return loaded
    return PeftModel.from_pretrained(auto.from_pretrained(folder, **labels), saved).eval()


@pytest.mark.parametrize("config", [*CONFIGS, *COMPUTED])
@pytest.mark.parametrize(
    ("name", "task"), [("bert", "classifier"), ("llama", "classifier"), ("gpt2", "lm")]
)
def test_saved_folder_gives_the_same_logits_in_plain_peft(
    tiny_model: Models, tmp_path: Path, name: str, task: str, config: str
) -> None:
    folder, peft = tiny_model(name), (CONFIGS | COMPUTED)[config]
    backbone = make(folder, task, peft)
    change(backbone)
    # Without padding: see test_sequence_classifier for GPT-like classifiers with prompts.
    batch = batch_of(backbone, ["a b c", "d e f"])
    backbone.save_pretrained(tmp_path)

    plain = plainly_loaded(folder, task, tmp_path, peft)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    inputs = tokenizer(["a b c", "d e f"], padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = plain(**inputs).logits
    if task == "lm":
        logits = logits[:, -inputs["input_ids"].shape[1] :][:, :-1]
    torch.testing.assert_close(logits, logits_of(backbone, batch))


@pytest.mark.parametrize("name", ["distilbert", "t5", "bloom", "gpt_neox"])
def test_saved_folder_of_other_architectures(tiny_model: Models, tmp_path: Path, name: str) -> None:
    folder = tiny_model(name)
    backbone = make(folder, "classifier")
    change(backbone)
    backbone.save_pretrained(tmp_path)
    plain = plainly_loaded(folder, "classifier", tmp_path, "lora")
    inputs = backbone.tokenizer(TEXTS, padding=True, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    with torch.no_grad():
        logits = plain(**inputs).logits
    torch.testing.assert_close(logits, logits_of(backbone, batch_of(backbone)))


def test_saved_configuration_knows_the_labels(tiny_model: Models, tmp_path: Path) -> None:
    folder = tiny_model("llama", pads=False)
    backbone = make(folder, "classifier")
    change(backbone)
    backbone.save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path / "model_config.json")
    assert config.num_labels == 3
    base = AutoModelForSequenceClassification.from_pretrained(folder, config=config)
    plain = PeftModel.from_pretrained(base, tmp_path).eval()
    inputs = backbone.tokenizer(TEXTS, padding=True, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    with torch.no_grad():
        # The model itself has no padding token: without the saved one it would refuse a batch.
        torch.testing.assert_close(plain(**inputs).logits, logits_of(backbone, batch_of(backbone)))


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize(
    ("name", "task"), [("bert", "classifier"), ("gpt2", "lm"), ("llama", "lm")]
)
def test_trainable_is_what_is_saved(
    tiny_model: Models, tmp_path: Path, name: str, task: str, config: str
) -> None:
    peft = CONFIGS[config]
    backbone = make(tiny_model(name), task, peft)
    change(backbone)
    trainable = backbone.trainable()
    backbone.save_pretrained(tmp_path)
    file = "model.safetensors" if peft is None else "adapter_model.safetensors"
    saved: dict[str, Tensor] = load_file(tmp_path / file)
    if config != "adalora":  # its ranks are no floats and are not trained
        assert trainable.keys() == saved.keys()
    if peft is not None:
        asked = get_peft_model_state_dict(backbone.model, save_embedding_layers=False)
        assert saved.keys() == asked.keys()
    for key, parameter in trainable.items():
        assert torch.equal(parameter, saved[key])


@pytest.mark.parametrize("config", [*CONFIGS, *COMPUTED])
def test_trainable_is_what_requires_a_gradient(tiny_model: Models, config: str) -> None:
    backbone = make(tiny_model("bert"), "classifier", (CONFIGS | COMPUTED)[config])
    trains = {id(p) for p in backbone.parameters() if p.requires_grad}
    held = {id(p) for n, p in backbone.trainable().items() if "original_module" not in n}
    if config != "adalora":  # the file has the mask of its ranks as well
        assert trains == held
    loss_of(backbone, batch_of(backbone)).backward()
    assert all(p.grad is not None for p in backbone.parameters() if p.requires_grad)


def test_trainable_is_live(tiny_model: Models) -> None:
    backbone = make(tiny_model("bert"), "classifier")
    batch = batch_of(backbone)
    before = logits_of(backbone, batch)
    first = backbone.trainable()
    assert all(a is b for a, b in zip(first.values(), backbone.trainable().values(), strict=True))
    change(backbone)
    assert not torch.equal(before, logits_of(backbone, batch))


def test_trainable_follows_replaced_parameters_and_copies(tiny_model: Models) -> None:
    backbone = make(tiny_model("bert"), "classifier")
    twin = copy.deepcopy(backbone)
    change(twin)
    name = "base_model.model.classifier.bias"
    assert not torch.equal(twin.trainable()[name], backbone.trainable()[name])
    head = backbone.model.base_model.model.classifier.modules_to_save["default"]
    head.bias = torch.nn.Parameter(torch.ones(3))  # as sharding does
    assert backbone.trainable()[name] is head.bias


@pytest.mark.parametrize("config", [*CONFIGS, *COMPUTED])
def test_load_trainable_restores_the_logits(tiny_model: Models, config: str) -> None:
    backbone = make(tiny_model("bert"), "classifier", (CONFIGS | COMPUTED)[config])
    batch = batch_of(backbone)
    change(backbone, seed=1)
    state = {name: p.detach().clone() for name, p in backbone.trainable().items()}
    logits = logits_of(backbone, batch)
    change(backbone, seed=2)
    assert not torch.equal(logits, logits_of(backbone, batch))
    backbone.load_trainable(state)
    assert all(torch.equal(p, state[name]) for name, p in backbone.trainable().items())
    torch.testing.assert_close(logits, logits_of(backbone, batch))
    assert all(p.requires_grad for n, p in backbone.trainable().items() if "lora_" in n)


def test_load_trainable_is_strict_and_changes_nothing_then(tiny_model: Models) -> None:
    backbone = make(tiny_model("bert"), "classifier")
    before = {name: p.detach().clone() for name, p in backbone.trainable().items()}
    bias = "base_model.model.classifier.bias"
    state = {name: torch.zeros_like(p) for name, p in before.items()}
    with pytest.raises(ValueError, match=f"{bias} are missing and none unknown"):
        backbone.load_trainable({n: t for n, t in state.items() if n != bias})
    with pytest.raises(ValueError, match="none are missing and extra unknown"):
        backbone.load_trainable(state | {"extra": torch.zeros(1)})
    with pytest.raises(ValueError, match=rf"{bias} of shape \[3\], but got \[1\]"):
        backbone.load_trainable(state | {bias: torch.zeros(1)})
    for dtype in (torch.complex64, torch.int64, torch.bool):
        with pytest.raises(ValueError, match=f"of a floating dtype, but got {dtype}"):
            backbone.load_trainable(state | {bias: state[bias].to(dtype)})
    with pytest.raises(KeyError, match="no adapter 'other': there are default"):
        backbone.load_trainable(state, "other")
    assert all(torch.equal(p, before[n]) for n, p in backbone.trainable().items())


def test_labels_and_other_fields_never_reach_the_model(tiny_model: Models) -> None:
    backbone = make(tiny_model("bert"), "classifier")
    seen: list[str] = []
    backbone._base.register_forward_pre_hook(
        lambda module, args, kwargs: seen.extend(k for k, v in kwargs.items() if v is not None),
        with_kwargs=True,
    )
    backbone(batch_of(backbone) | {"text": torch.zeros(1)})
    assert set(seen) & {"labels", "index", "weight", "text"} == set()
    assert {"input_ids", "attention_mask"} <= set(seen)


@pytest.mark.parametrize("config", ["lora", "prompt", "prefix", "full"])
@pytest.mark.parametrize(("name", "task"), [("bert", "classifier"), ("gpt2", "lm")])
def test_hidden_state(tiny_model: Models, name: str, task: str, config: str) -> None:
    backbone = make(tiny_model(name), task, CONFIGS[config]).eval()
    batch = batch_of(backbone)
    prediction = backbone(batch, output_hidden=True)
    assert prediction.hidden is not None
    assert prediction.hidden.shape == (*batch["input_ids"].shape, 16)
    assert backbone(batch).hidden is None
    assert not backbone._base.base_model._forward_hooks
    if config == "full":
        inputs = {k: batch[k] for k in ("input_ids", "attention_mask")}
        states = backbone.model(**inputs, output_hidden_states=True).hidden_states
        torch.testing.assert_close(prediction.hidden, states[-1])


@pytest.mark.parametrize("config", ["full", "prompt", "prefix"])
@pytest.mark.parametrize(
    ("name", "task"),
    [("bert", "classifier"), ("roberta", "classifier"), ("gpt2", "lm"), ("opt", "lm")],
)
def test_max_tokens_is_where_the_model_ends(
    tiny_model: Models, name: str, task: str, config: str
) -> None:
    backbone = make(tiny_model(name), task, CONFIGS[config]).eval()
    room = backbone.max_tokens
    assert room is not None
    for length in (room, room + 1):
        batch = {"input_ids": torch.full((1, length), 5)}
        batch["attention_mask"] = torch.ones_like(batch["input_ids"])
        if length == room:
            backbone(batch)
        else:
            with pytest.raises((IndexError, RuntimeError)):
                backbone(batch)


def test_rotary_positions_have_no_end(tiny_model: Models) -> None:
    assert make(tiny_model("llama"), "lm").max_tokens is None
    assert make(tiny_model("t5"), "classifier").max_tokens is None


@pytest.mark.parametrize("peft", ["lora", None])
@pytest.mark.parametrize(("name", "task"), [("bert", "classifier"), ("llama", "lm")])
def test_gradient_checkpointing_gives_the_same_gradients(
    tiny_model: Models, name: str, task: str, peft: Any
) -> None:
    gradients = []
    for checkpointing in (False, True):
        backbone = make(tiny_model(name), task, peft, gradient_checkpointing=checkpointing)
        for module in backbone.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        change(backbone)
        saved: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, saved=saved: saved.append(t.numel()) or t, lambda t: t
        ):
            loss = loss_of(backbone, batch_of(backbone))
        loss.backward()
        gradients.append([p.grad for p in backbone.trainable().values()])
        gradients[-1].append(torch.tensor(sum(saved)))
    *plain, kept = gradients[0]
    *checkpointed, kept_less = gradients[1]
    assert kept_less < kept
    for a, b in zip(plain, checkpointed, strict=True):
        torch.testing.assert_close(a, b)


def test_a_fresh_backbone_is_in_training_mode(tiny_model: Models) -> None:
    assert all(m.training for m in make(tiny_model("bert"), "classifier").modules())
