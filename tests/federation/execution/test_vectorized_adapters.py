"""Every kind of adapter on every kind of model, several clients at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import (
    IA3Config,
    LNTuningConfig,
    LoraConfig,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
)
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor

from lit_fed import FedAvg
from lit_fed.backbones import Backbone, BitFitConfig, BottleneckConfig, CausalLM, SequenceClassifier
from tests.federation.execution.agreement import OPTIMIZERS, assert_same_federation, sgd
from tests.federation.toy import toy_data, toy_rows
from tests.methods.toy_methods import WORDS, lm_data, lm_rows
from tests.slow import slow_but

SIZE = {"vocab_size": len(WORDS), "pad_token_id": 0, "eos_token_id": 2, "bos_token_id": 2}
NARROW = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
MODELS: dict[str, Callable[[], Any]] = {
    "bert": lambda: transformers.BertModel(
        transformers.BertConfig(**SIZE, **NARROW, num_attention_heads=2, max_position_embeddings=48)
    ),
    "llama": lambda: transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            **SIZE,
            **NARROW,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=48,
            attention_dropout=0.1,
        )
    ),
    "gpt2": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(**SIZE, n_embd=16, n_layer=2, n_head=2, n_positions=48)
    ),
}
TARGETS = {"bert": ["query", "value"], "llama": ["q_proj", "up_proj"], "gpt2": ["c_attn"]}


def adapter(kind: str, model: str) -> Any:
    targets = {"target_modules": TARGETS[model]}
    made: dict[str, Callable[[], Any]] = {
        "lora": lambda: LoraConfig(r=4, lora_alpha=8, lora_dropout=0.2, **targets),
        "lora without dropout": lambda: LoraConfig(r=4, **targets),
        "lora bias": lambda: LoraConfig(r=4, lora_bias=True, **targets),
        "dora": lambda: LoraConfig(r=4, use_dora=True, lora_dropout=0.1, **targets),
        "ia3": lambda: IA3Config(feedforward_modules=[], **targets),
        "bitfit": BitFitConfig,
        "bottleneck": lambda: BottleneckConfig(width=4),
        "prompt": lambda: PromptTuningConfig(num_virtual_tokens=3),
        "p-tuning": lambda: PromptEncoderConfig(num_virtual_tokens=3, encoder_hidden_size=8),
        "prefix": lambda: PrefixTuningConfig(num_virtual_tokens=3),
        "prefix network": lambda: PrefixTuningConfig(
            num_virtual_tokens=3, prefix_projection=True, encoder_hidden_size=8
        ),
        "norms": lambda: LNTuningConfig(target_modules=["LayerNorm"] if model == "bert" else None),
        "whole modules": lambda: LoraConfig(
            r=4,
            modules_to_save={
                "bert": ["pooler", "attention.output.LayerNorm", "position_embeddings"],
                "llama": ["embed_tokens", "post_attention_layernorm"],
                "gpt2": ["mlp", "ln_f"],
            }[model],
            **targets,
        ),
        "all weights": lambda: None,
    }
    return made[kind]()


CASES = [
    *((m, "lora") for m in MODELS),
    ("llama", "lora without dropout"),
    ("bert", "lora bias"),
    ("llama", "dora"),
    ("bert", "dora"),
    *((m, "ia3") for m in MODELS),
    ("bert", "bitfit"),
    ("gpt2", "bitfit"),
    ("bert", "bottleneck"),
    ("llama", "bottleneck"),
    *((m, "prompt") for m in MODELS),
    ("llama", "p-tuning"),
    *((m, "prefix") for m in MODELS),
    ("llama", "prefix network"),
    ("bert", "norms"),
    ("llama", "norms"),
    *((m, "whole modules") for m in MODELS),
    ("bert", "all weights"),
    ("gpt2", "all weights"),
]

# one of each kind, and LoRA on each model
ONE_OF_EACH = [
    case
    for n, case in enumerate(CASES)
    if case[1] == "lora" or case[1] not in {k for _, k in CASES[:n]}
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for name, build in MODELS.items():
        folder = made[name] = tmp_path_factory.mktemp(name)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = build()
            for parameter in model.parameters():  # of a size at which a change is seen
                if parameter.ndim > 1:
                    parameter.data.normal_(0, 0.2)
            model.save_pretrained(folder)
        words = {w: i for i, w in enumerate(WORDS)}
        tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", eos_token="[EOS]"
        ).save_pretrained(folder)
    return made


def classifier_data() -> Any:
    rows = {"train": toy_rows(24, 0), "validation": toy_rows(6, 1)}
    return toy_data(**rows, num_clients=3, batch_size=5, test=None, public=None)


def language_data() -> Any:
    return lm_data(train=lm_rows(20, 0), validation=lm_rows(6, 1), num_clients=3, batch_size=3)


def agree(
    folder: Path,
    model: str,
    kind: str,
    optimizer: Any,
    root: Path,
    classifies: bool,
    method: type[FedAvg] = FedAvg,
) -> None:
    def module() -> FedAvg:
        torch.manual_seed(0)
        config = adapter(kind, model)
        make: type[Backbone] = SequenceClassifier if classifies else CausalLM
        backbone = make(str(folder), peft=config)  # type: ignore[call-arg]
        with torch.no_grad():  # fresh adapters change nothing, and have no gradient everywhere
            for value in backbone.trainable().values():
                value.add_(0.05 * torch.randn_like(value))
        return method(backbone, optimizer=optimizer, warmup_steps=0)

    data = classifier_data if classifies else language_data
    assert_same_federation(module, data, root, max_rounds=1)


@pytest.mark.parametrize(("model", "kind"), slow_but(*ONE_OF_EACH, of=CASES))
def test_adapters(model: str, kind: str, folders: dict[str, Path], tmp_path: Path) -> None:
    agree(folders[model], model, kind, sgd, tmp_path, classifies=model == "bert")


@pytest.mark.parametrize(
    ("model", "kind"),
    slow_but(("llama", "lora"), ("bert", "whole modules"), ("gpt2", "all weights"), of=CASES),
)
def test_adapters_by_adamw(model: str, kind: str, folders: dict[str, Path], tmp_path: Path) -> None:
    agree(folders[model], model, kind, OPTIMIZERS["adamw"], tmp_path, classifies=model == "bert")


@pytest.mark.parametrize("kind", ["lora", "prompt"])
def test_classifiers_that_read_the_last_token(
    kind: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    agree(folders["llama"], "llama", kind, sgd, tmp_path, classifies=True)


class StaysNearTheBase(FedAvg):
    """Its loss has the distance of the logits to those of the base without adapters."""

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        with torch.no_grad(), self.backbone.using():
            base = self(batch)
        near = self(batch)
        distance = (near.logits - base.logits)[near.mask].square().mean()
        return super().training_step(batch, batch_idx) + distance


@pytest.mark.parametrize(
    ("model", "kind"),
    slow_but(
        ("llama", "whole modules"),
        ("gpt2", "prompt"),
        of=[
            ("bert", "lora"),
            ("bert", "bottleneck"),
            ("bert", "norms"),
            ("llama", "ia3"),
            ("llama", "whole modules"),
            ("gpt2", "prompt"),
            ("llama", "prefix"),
        ],
    ),
)
def test_the_bare_base(model: str, kind: str, folders: dict[str, Path], tmp_path: Path) -> None:
    method = StaysNearTheBase
    agree(folders[model], model, kind, sgd, tmp_path, classifies=model == "bert", method=method)
