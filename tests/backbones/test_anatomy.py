import re
import warnings
from collections import OrderedDict
from types import SimpleNamespace

import pytest
from peft import IA3Config, LoraConfig, get_peft_model
from torch import nn

from lit_fed.backbones.anatomy import (
    SITES,
    block_outputs,
    body_modules,
    context_length,
    find_modules,
    head_names,
    head_sizes,
    hidden_size,
    largest_layer_list,
    table_positions,
    transformer_layers,
    warn_of_routers,
)
from tests.perturbations.tiny_models import MODELS, build

EXPECTED = {
    "llama": {
        "embedding": {"model.embed_tokens"},
        "attention": {"model.layers.*.self_attn"},
        "feed_forward": {"model.layers.*.mlp"},
        "norm": {
            "model.layers.*.input_layernorm",
            "model.layers.*.post_attention_layernorm",
            "model.norm",
        },
    },
    "bert": {
        "embedding": {"bert.embeddings.word_embeddings"},
        "attention": {"bert.encoder.layer.*.attention.self"},
        "feed_forward": {"bert.encoder.layer.*.output.dense"},
        "norm": {
            "bert.embeddings.LayerNorm",
            "bert.encoder.layer.*.attention.output.LayerNorm",
            "bert.encoder.layer.*.output.LayerNorm",
        },
    },
    "gpt2": {
        "embedding": {"transformer.wte"},
        "attention": {"transformer.h.*.attn"},
        "feed_forward": {"transformer.h.*.mlp"},
        "norm": {"transformer.h.*.ln_1", "transformer.h.*.ln_2", "transformer.ln_f"},
    },
    "t5": {
        "embedding": {"shared", "encoder.embed_tokens"},
        "attention": {"encoder.block.*.layer.*.SelfAttention"},
        "feed_forward": {"encoder.block.*.layer.*.DenseReluDense"},
        "norm": {"encoder.block.*.layer.*.layer_norm", "encoder.final_layer_norm"},
    },
}
EXPECTED["glm"] = EXPECTED["llama"]


def pattern(name: str) -> str:
    return re.sub(r"\.\d+(?=\.)", ".*", name)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("site", SITES)
def test_every_architecture_by_role(name: str, site: str) -> None:
    found = find_modules(build(name), site)
    assert {pattern(n) for n in found} == EXPECTED[name][site]


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("llama", LoraConfig(target_modules="all-linear", task_type="SEQ_CLS")),
        ("bert", LoraConfig(target_modules=["query", "dense", "word_embeddings"])),
        ("gpt2", LoraConfig(target_modules=["c_attn", "c_proj"], fan_in_fan_out=True)),
        ("glm", LoraConfig(target_modules=["o_proj"], modules_to_save=["embed_tokens"])),
        ("t5", IA3Config(target_modules=["k", "v", "wo"], feedforward_modules=["wo"])),
    ],
)
@pytest.mark.parametrize("site", SITES)
def test_the_same_within_peft(name: str, config: object, site: str) -> None:
    bare = set(find_modules(build(name), site))
    wrapped = find_modules(get_peft_model(build(name), config), site)
    assert {n.removeprefix("base_model.model.") for n in wrapped} == bare


def test_norms_of_queries_and_keys_are_left_out() -> None:
    attention = nn.ModuleDict({"q_proj": nn.Linear(4, 4), "q_norm": nn.LayerNorm(2)})
    block = nn.ModuleDict({"norm": nn.LayerNorm(4), "mlp": nn.Sequential(nn.Linear(4, 4))})
    block["self_attn"] = nn.Sequential(attention)
    assert list(find_modules(block, "norm")) == ["norm"]
    assert list(find_modules(block, "attention")) == ["self_attn"]


def named(**parts: nn.Module) -> nn.Module:
    return nn.Sequential(OrderedDict(parts))


def test_old_chatglm_names() -> None:
    layer = named(
        input_layernorm=nn.LayerNorm(4),
        self_attention=named(query_key_value=nn.Linear(4, 12)),
        mlp=named(dense_h_to_4h=nn.Linear(4, 16)),
    )
    model = named(
        embedding=named(word_embeddings=nn.Embedding(9, 4)),
        encoder=named(layers=nn.ModuleList([layer])),
    )
    assert [list(find_modules(model, site)) for site in SITES] == [
        ["embedding.word_embeddings"],
        ["encoder.layers.0.self_attention"],
        ["encoder.layers.0.mlp"],
        ["encoder.layers.0.input_layernorm"],
    ]


def test_a_table_by_another_name_is_found_through_the_model() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lookup = nn.Embedding(5, 4)

        def get_input_embeddings(self) -> nn.Module:
            return self.lookup

    assert list(find_modules(Named(), "embedding")) == ["lookup"]


def test_what_is_not_found_is_named_with_what_there_is() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    message = r"site 'norm' is expected in the model, .*there are: \* \(Linear\)$"
    with pytest.raises(ValueError, match=message):
        find_modules(model, "norm")
    with pytest.raises(
        ValueError, match="one of embedding, attention, feed_forward, norm, but got 'ffn'"
    ):
        find_modules(model, "ffn")


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("llama", {"model.layers.*.self_attn", "model.layers.*.mlp"}),
        (
            "bert",
            {"bert.encoder.layer.*.attention.output.dense", "bert.encoder.layer.*.output.dense"},
        ),
        ("gpt2", {"transformer.h.*.attn", "transformer.h.*.mlp"}),
    ],
)
def test_where_blocks_end(name: str, blocks: set[str]) -> None:
    assert {pattern(n) for n in block_outputs(build(name))} == blocks


@pytest.mark.parametrize(
    ("name", "heads"),
    [("llama", ["score"]), ("bert", ["classifier"]), ("gpt2", ["lm_head"])],
)
def test_body_and_head(name: str, heads: list[str]) -> None:
    model = build(name)
    assert head_names(model) == heads
    names = {n for n, _ in model.named_modules()}
    assert body_modules(model).keys() | {"", *heads, *heads_dropout(name)} == names
    assert not body_modules(model).keys() & set(heads)


def heads_dropout(name: str) -> list[str]:
    return ["dropout"] if name == "bert" else []


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("llama", "LlamaDecoderLayer"),
        ("bert", "BertLayer"),
        ("gpt2", "GPT2Block"),
        ("glm", "GlmDecoderLayer"),
        ("t5", "T5Block"),
    ],
)
def test_layers(name: str, layer: str) -> None:
    """By what transformers does not split, and by the largest list: the same two."""
    model = build(name)
    kinds = [type(part).__name__ for part in transformer_layers(model)]
    assert kinds.count(layer) == 2
    found = largest_layer_list(model)
    assert [type(part).__name__ for part in found] == [layer] * 2
    wrapped = largest_layer_list(get_peft_model(model, LoraConfig(target_modules="all-linear")))
    assert all(a is b for a, b in zip(found, wrapped, strict=True))
    lone = nn.Linear(2, 2)
    assert largest_layer_list(lone) == [lone]
    assert transformer_layers(lone) == []


@pytest.mark.parametrize(
    ("name", "table", "context"),
    [("llama", None, 2048), ("bert", 512, 512), ("gpt2", 1024, 1024), ("t5", None, None)],
)
def test_positions(name: str, table: int | None, context: int | None) -> None:
    model = build(name)
    assert table_positions(model) == table
    assert context_length(model) == context


def test_positions_behind_those_of_padding() -> None:
    assert table_positions(named(position_embeddings=nn.Embedding(10, 2, padding_idx=1))) == 8


def test_sizes() -> None:
    assert hidden_size(build("llama")) == 16
    assert head_sizes(build("llama")) == {2, 8}
    assert head_sizes(build("gpt2")) == {2, 8}


def test_a_router_that_trains_without_its_loss_is_told() -> None:
    layer = nn.ModuleDict({"gate": nn.Linear(4, 2), "gate_proj": nn.Linear(4, 4)})
    model = nn.ModuleDict({"mlp": layer})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_routers(model, SimpleNamespace(output_router_logits=False))
        warn_of_routers(model, SimpleNamespace())
    with pytest.warns(UserWarning, match=r"output_router_logits.*mlp\.gate\.weight trains without"):
        warn_of_routers(model, SimpleNamespace(output_router_logits=True))
    layer["gate"].requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_routers(model, SimpleNamespace(output_router_logits=True))
