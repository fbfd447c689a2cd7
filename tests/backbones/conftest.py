"""Tiny models of random weights, in Hugging Face format, of several architectures."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = ["<pad>", "<unk>", "<s>", "</s>", *"abcdefghijklmnopqrstuvwxyz"]
SIZE = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16}
ROOM = 64

# The class that is saved (a checkpoint as it is pre-trained), and its configuration.
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": (
        "BertModel",
        "BertConfig",
        SIZE | {"intermediate_size": 32, "max_position_embeddings": ROOM},
    ),
    "distilbert": (
        "DistilBertModel",
        "DistilBertConfig",
        {"dim": 16, "hidden_dim": 32, "n_layers": 2, "n_heads": 2},
    ),
    "roberta": (
        "RobertaModel",
        "RobertaConfig",
        SIZE | {"intermediate_size": 32, "max_position_embeddings": ROOM},
    ),
    "opt": (
        "OPTForCausalLM",
        "OPTConfig",
        SIZE | {"ffn_dim": 32, "word_embed_proj_dim": 16, "max_position_embeddings": ROOM},
    ),
    "gpt2": (
        "GPT2LMHeadModel",
        "GPT2Config",
        {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": ROOM},
    ),
    "llama": (
        "LlamaForCausalLM",
        "LlamaConfig",
        SIZE | {"intermediate_size": 32, "max_position_embeddings": ROOM},
    ),
    "gpt_neox": (
        "GPTNeoXForCausalLM",
        "GPTNeoXConfig",
        SIZE | {"intermediate_size": 32, "max_position_embeddings": ROOM},
    ),
    "bloom": ("BloomForCausalLM", "BloomConfig", {"hidden_size": 16, "n_layer": 2, "n_head": 2}),
    "albert": (
        "AlbertModel",
        "AlbertConfig",
        SIZE | {"intermediate_size": 32, "embedding_size": 8},
    ),
    "deberta": (
        "DebertaV2Model",
        "DebertaV2Config",
        SIZE
        | {
            "intermediate_size": 32,
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
        },
    ),
    "electra": (
        "ElectraModel",
        "ElectraConfig",
        SIZE | {"intermediate_size": 32, "embedding_size": 8, "max_position_embeddings": ROOM},
    ),
    "mpnet": (
        "MPNetModel",
        "MPNetConfig",
        SIZE | {"intermediate_size": 32, "max_position_embeddings": ROOM},
    ),
    "xlnet": (
        "XLNetModel",
        "XLNetConfig",
        {"d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 32},
    ),
    "fnet": (
        "FNetModel",
        "FNetConfig",
        {"hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 32},
    ),
    "bart": (
        "BartForCausalLM",
        "BartConfig",
        {
            "d_model": 16,
            "decoder_layers": 2,
            "decoder_attention_heads": 2,
            "decoder_ffn_dim": 32,
            "max_position_embeddings": ROOM,
            "is_decoder": True,
        },
    ),
    "gpt1": (
        "OpenAIGPTLMHeadModel",
        "OpenAIGPTConfig",
        {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": ROOM},
    ),
    "gpt_neo": (
        "GPTNeoForCausalLM",
        "GPTNeoConfig",
        {
            "hidden_size": 16,
            "num_layers": 2,
            "num_heads": 2,
            "attention_types": [[["global", "local"], 1]],
            "intermediate_size": 32,
            "max_position_embeddings": ROOM,
        },
    ),
    "mistral": (
        "MistralForCausalLM",
        "MistralConfig",
        SIZE | {"intermediate_size": 32, "num_key_value_heads": 2, "max_position_embeddings": ROOM},
    ),
    "qwen2": (
        "Qwen2ForCausalLM",
        "Qwen2Config",
        SIZE | {"intermediate_size": 32, "num_key_value_heads": 2, "max_position_embeddings": ROOM},
    ),
    "t5": (
        "T5ForConditionalGeneration",
        "T5Config",
        {
            "d_model": 16,
            "d_kv": 8,
            "d_ff": 32,
            "num_layers": 2,
            "num_heads": 2,
            "decoder_start_token_id": 0,
        },
    ),
}

ENDING = ("bert", "distilbert", "t5", "albert", "deberta", "electra", "mpnet", "xlnet", "fnet")


def save_tokenizer(folder: Path, pads: bool, ends: bool) -> None:
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if ends:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
        )
    padding = {"pad_token": "<pad>"} if pads else {}
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        **padding,
    ).save_pretrained(folder)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """A folder with a model of one of `MODELS`; settings go to its configuration."""

    @cache
    def save(name: str, class_name: str = "", pads: bool = True, **settings: Any) -> str:
        folder = tmp_path_factory.mktemp(name)
        default_class, config_class, config = MODELS[name]
        with torch.random.fork_rng():
            torch.manual_seed(0)
            given = {"vocab_size": len(WORDS), "eos_token_id": 3, "bos_token_id": 2} | config
            given["pad_token_id"] = 0 if pads else None
            made = getattr(transformers, config_class)(**(given | settings))
            model = getattr(transformers, class_name or default_class)(made)
            for parameter in model.parameters():  # of a size at which a change is seen
                if parameter.ndim > 1:
                    parameter.data.normal_(0, 0.3)
            model.save_pretrained(folder)
        save_tokenizer(folder, pads, ends=name in ENDING)
        return str(folder)

    return save
