"""Every method that the installed peft has: it works, or is refused by name. A new one fails until it is decided."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import nullcontext
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import (
    AdaLoraConfig,
    AdamssConfig,
    AdaptionPromptConfig,
    ArrowConfig,
    BOFTConfig,
    CPTConfig,
    KasaConfig,
    LilyConfig,
    LoftQConfig,
    LoraConfig,
    MontecloraConfig,
    MultitaskPromptTuningConfig,
    OSFConfig,
    PeftModel,
    PolyConfig,
    ShadowConfig,
    VeloraConfig,
    XLoraConfig,
)
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from lit_fed import FedAvg
from lit_fed.backbones import (
    Backbone,
    BitFitConfig,
    BottleneckConfig,
    CausalLM,
    SequenceClassifier,
)
from lit_fed.backbones.peft_methods import REFUSED, keeping_base
from lit_fed.federation.execution.vectorized.vectorizable import CannotVectorize
from tests.federation.execution.agreement import assert_same_federation
from tests.federation.toy import toy_data
from tests.slow import slow_but

from .batches import batch_of, change, logits_of, loss_of

Models = Callable[..., str]
BERT = "BertForSequenceClassification"
OWN = (BitFitConfig, BottleneckConfig)  # their modules make them known to peft
NOT_VECTORIZED = {"LOHA", "LOKR", "PVERA"}  # they draw random numbers of their own
KEEPS_ITS_TYPE = "ADAMSS"  # that of the model when it was made: dtype, not precision, sets it
SINGLE = {"ADAMSS", "FOURIERFT"}  # they compute in float32 whatever the model does

# Settings that fit a tiny model, by peft's name of the method. Further ones of a method have a name of their own.
WORKS: dict[str, dict[str, Any]] = {
    "ADAMSS": {},
    "BEFT": {},
    "BITFIT": {},
    "BOFT": {},
    "BOTTLENECK": {"width": 4},
    "C3A": {"block_size": 8},
    "CARTRIDGE": {"num_virtual_tokens": 3},
    "DEFT": {},
    "DELORA": {},
    "FOURIERFT": {"n_frequency": 20},
    "FROD": {"progressbar": False},
    "GLORA": {},
    "GRALORA": {},
    "HIRA": {},
    "HRA": {},
    "IA3": {},
    "LN_TUNING": {"target_modules": ".*(layernorm|LayerNorm)"},
    "LOHA": {},
    "LOKR": {},
    "LORA": {},
    "MISS": {"r": 4},
    "OFT": {},
    "PEANUT": {},
    "PREFIX_TUNING": {"num_virtual_tokens": 3},
    "PROMPT_TUNING": {"num_virtual_tokens": 3},
    "PSOFT": {"r": 4},
    "PVERA": {},
    "P_TUNING": {"num_virtual_tokens": 3, "encoder_hidden_size": 4},
    "RANDLORA": {},
    "ROAD": {"group_size": 8},
    "SHIRA": {"r": 2},
    "SUPERTUNING": {},
    "TINYLORA": {},
    "TRAINABLE_TOKENS": {"token_indices": [4, 5, 6]},
    "UNILORA": {},
    "VBLORA": {"vector_length": 8, "num_vectors": 16},
    "VERA": {},
    "WAVEFT": {"n_frequency": 20},
}
LORAS: dict[str, dict[str, Any]] = {
    "gaussian": {"init_lora_weights": "gaussian"},
    "orthogonal": {"init_lora_weights": "orthogonal"},
    "random": {"init_lora_weights": False},
    "mica": {"init_lora_weights": "mica"},
    "dora": {"use_dora": True},
    "rslora": {"use_rslora": True},
    "bias of B": {"lora_bias": True},
    "tokens": {"trainable_token_indices": [4, 5]},
    "qalora": {"use_qalora": True, "qalora_group_size": 4},
    "velora": {"velora_config": VeloraConfig()},
    "bdlora": {
        "use_bdlora": {
            "target_modules_bd_a": ["q_proj", "query"],
            "target_modules_bd_b": ["v_proj", "value"],
            "nblocks": 2,
        }
    },
}


REFUSALS: list[tuple[Any, str]] = [
    (AdaLoraConfig(total_step=9), "AdaLoraConfig, .* would never prune"),
    (AdamssConfig(use_asa=True), "AdamssConfig with use_asa True, .* never prune"),
    (AdaptionPromptConfig(adapter_len=2, adapter_layers=1), "no adapter can be switched off"),
    (CPTConfig(cpt_token_ids=[4], task_type="CAUSAL_LM"), "CPTConfig, .* which no encoding gives"),
    (LilyConfig(), "LilyConfig, .* rows and padding of a batch"),
    (MultitaskPromptTuningConfig(num_virtual_tokens=2), "MultitaskPrompt.* number of a task"),
    (PolyConfig(), "PolyConfig, .* number of a task"),
    (XLoraConfig(hidden_size=16, adapters={"a": "a"}), "XLoraConfig, .* trained before"),
    (LoraConfig(arrow_config=ArrowConfig()), "arrow_config .* trained before"),
    (OSFConfig(), "OSFConfig, .* hooks on its parameters"),
    (ShadowConfig(), "ShadowConfig, .* a loss of its own"),
    (LoraConfig(monteclora_config=MontecloraConfig()), "monteclora_config .* a loss of its own"),
    (LoraConfig(kasa_config=KasaConfig()), "kasa_config .* the model's own weights"),
    (LoraConfig(bias="all"), "LoraConfig with bias 'all', .* own biases"),
    (BOFTConfig(bias="all"), "BOFTConfig with bias 'all', .* own biases"),
    (LoraConfig(layer_replication=[(0, 2)]), r"layer_replication \[\(0, 2\)\], .* another one"),
    (LoraConfig(init_lora_weights="loftq", loftq_config=LoftQConfig()), "'loftq', .* own weights"),
    *(
        (LoraConfig(init_lora_weights=init), f"with init_lora_weights '{init}', .* {why}")
        for init, why in {
            "pissa": "the model's own weights",
            "pissa_niter_4": "the model's own weights",
            "olora": "the model's own weights",
            "eva": "from data before training",
            "corda": "from data before training",
            "lora_ga": "from data before training",
        }.items()
    ),
]
ENCODERS_ONLY = {"BITFIT"}  # a Llama has no biases

DTYPES = ["float32", "bfloat16"]
# every method once, and what differs by the kind of model or by its type once more
QUICK = [
    *(
        (name, "classifier" if name in ENCODERS_ONLY else "lm", "float32")
        for name in [*WORKS, *LORAS]
    ),
    *((name, "classifier", "float32") for name in ("LORA", "PREFIX_TUNING", "TRAINABLE_TOKENS")),
    *((name, "lm", "bfloat16") for name in ("LORA", "PROMPT_TUNING", KEEPS_ITS_TYPE, "FOURIERFT")),
]


def config_of(name: str) -> Any:
    kind: Any = PEFT_TYPE_TO_CONFIG_MAPPING["LORA" if name in LORAS else name]
    settings = LORAS.get(name, WORKS.get(name, {}))
    return kind(**settings)


def made(name: str, kind: str, folder: str, **given: Any) -> Backbone:
    if kind == "classifier":
        return SequenceClassifier(folder, peft=config_of(name), **given)
    return CausalLM(folder, peft=config_of(name), **given)


def cases() -> list[Any]:
    names = [*WORKS, *LORAS]
    return [
        (name, kind)
        for name in names
        for kind in ("lm", "classifier")
        if kind == "classifier" or name not in ENCODERS_ONLY
    ]


def test_every_method_of_the_installed_peft_is_decided() -> None:
    there = {str(getattr(name, "value", name)) for name in PEFT_TYPE_TO_CONFIG_MAPPING}
    assert there == WORKS.keys() | REFUSED.keys()
    assert not WORKS.keys() & REFUSED.keys()
    # every way to begin that LoRA has
    choices = LoraConfig.__annotations__["init_lora_weights"]
    inits = set(re.findall(r"[\"'](\w+)[\"']", str(choices)))
    decided = {str(c.init_lora_weights) for c, _ in REFUSALS if isinstance(c, LoraConfig)}
    working = {str(settings.get("init_lora_weights")) for settings in LORAS.values()}
    assert inits <= decided | working


@pytest.mark.parametrize(("config", "message"), REFUSALS, ids=lambda value: str(value)[:40])
def test_what_cannot_be_used_is_refused_by_name(
    config: Any, message: str, tiny_model: Models
) -> None:
    with pytest.raises(ValueError, match=rf"`model\.backbone\.peft` is .*{message}"):
        CausalLM(tiny_model("llama"), peft=config)
    if isinstance(config, LoraConfig) and config.peft_type == "LORA":
        backbone = CausalLM(tiny_model("llama"))
        with pytest.raises(ValueError, match=rf"`config` is .*{message}"):
            backbone.add_adapter("second", config)
        assert backbone.adapters == ("default",)


def test_whatever_changes_the_base_is_refused(tiny_model: Models) -> None:
    """Also what is not known by name: here a method that scales a weight in place, and one that replaces it."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model("llama"))
    weight = model.lm_head.weight
    message = "`peft` is LoraConfig, which cannot be used: .* own weights, .*embed_tokens|lm_head"
    with pytest.raises(ValueError, match=message), keeping_base(model, LoraConfig(), "peft"):
        weight.data.mul_(2.0)
    with pytest.raises(ValueError, match=message), keeping_base(model, LoraConfig(), "peft"):
        weight.data = weight.data + 1
    with pytest.raises(ValueError, match=message), keeping_base(model, LoraConfig(), "peft"):
        model.lm_head.weight = torch.nn.Parameter(weight.data.clone())
    with keeping_base(model, LoraConfig(), "peft"):
        weight.requires_grad_(False)


@pytest.mark.parametrize(
    ("name", "kind", "dtype"),
    slow_but(*QUICK, of=((*case, dtype) for case, dtype in product(cases(), DTYPES))),
)
def test_it_trains_is_uploaded_and_exported(
    name: str, kind: str, dtype: str, tiny_model: Models, tmp_path: Path
) -> None:
    folder = tiny_model("llama") if kind == "lm" else tiny_model("bert", BERT)
    auto: Any = AutoModelForCausalLM if kind == "lm" else AutoModelForSequenceClassification
    # rounding to 8 bits in every layer, in plain peft in other places
    tolerance = 1e-5 if dtype == "float32" else 0.2

    def alike(one: Tensor, other: Tensor) -> None:
        torch.testing.assert_close(one.float(), other.float(), rtol=0, atol=tolerance)

    torch.manual_seed(3)
    backbone = made(name, kind, folder, dtype=dtype)
    batch = batch_of(backbone)
    inputs = {field: batch[field] for field in ("input_ids", "attention_mask")}
    backbone.add_adapter("second")
    assert {p.dtype for p in backbone.trainable().values()} == {torch.float32}
    loss_of(backbone, batch).backward()
    assert any(p.grad is not None for p in backbone.trainable().values())
    change(backbone)
    ours = logits_of(backbone, batch)

    # the base is that of the checkpoint
    base = auto.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    with torch.no_grad(), backbone.using():
        bare = base(**inputs).logits
        alike(logits_of(backbone, batch), bare[:, :-1] if kind == "lm" else bare)

    # plain peft predicts the same with the exported adapter
    backbone.save_pretrained(tmp_path)
    torch.manual_seed(4)
    plain = PeftModel.from_pretrained(base, tmp_path).eval()
    with torch.no_grad():
        theirs = plain(**inputs).logits
    length = batch["input_ids"].shape[1]
    alike(ours, theirs[:, -length:][:, :-1] if kind == "lm" else theirs)

    # what is sent is all there is, for another adapter and for another process with other random numbers
    sent = {n: p.detach().clone() for n, p in backbone.trainable().items()}
    backbone.load_trainable(sent, "second")
    backbone.activate("second")
    alike(logits_of(backbone, batch), ours)
    torch.manual_seed(5)
    other = made(name, kind, folder, dtype=dtype)
    other.load_trainable(sent)
    alike(logits_of(other, batch), ours)

    # a precision that converts the model leaves all that the adapter holds in float32
    if dtype == "float32" and name != KEEPS_ITS_TYPE:
        other.to(torch.bfloat16)
        loss_of(other, batch).backward()
        assert {p.dtype for p in other.trainable().values()} == {torch.float32}
        torch.testing.assert_close(logits_of(other, batch).float(), ours, rtol=0, atol=0.25)


def test_what_a_method_never_trains_is_never_trained(tiny_model: Models) -> None:
    """Not after other adapters took part, nor in a further adapter."""
    for name, fixed in (("mica", ".lora_B."), ("CARTRIDGE", "frozen_embedding"), ("LORA", "none")):
        backbone = made(name, "lm", tiny_model("llama"))

        def trains(adapter: str, backbone: Backbone = backbone) -> set[str]:
            return {n for n, p in backbone.trainable(adapter).items() if p.requires_grad}

        expected = {n for n in backbone.trainable() if fixed not in n}
        assert trains("default") == expected
        with backbone.using():
            assert not trains("default")
        backbone.add_adapter("second")
        assert trains("default") == expected
        backbone.activate("second")
        assert (trains("default"), trains("second")) == (set(), expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*WORKS, *LORAS])
def test_vectorized_as_one_after_the_other_or_refused_by_name(
    name: str, toy_model: Path, tmp_path: Path
) -> None:
    def module() -> FedAvg:
        torch.manual_seed(0)
        backbone = SequenceClassifier(str(toy_model), peft=config_of(name))
        return FedAvg(backbone, optimizer=lambda p: torch.optim.SGD(p, lr=0.1), warmup_steps=0)

    def data() -> Any:
        return toy_data(num_clients=2)

    settings: dict[str, Any] = {"max_rounds": 1, "local_steps": 2}
    if name in SINGLE:
        settings |= {"precision": "32-true", "tolerance": 1e-5}
    refused: Any = nullcontext()
    if name in NOT_VECTORIZED:
        refused = pytest.raises(CannotVectorize, match="SequentialClients")
    with refused:
        assert_same_federation(module, data, tmp_path, at_once=2, **settings)
