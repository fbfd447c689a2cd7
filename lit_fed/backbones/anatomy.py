"""Anatomy of a transformer: where its embeddings, layers, attention, feed-forward, norms and positions are."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal, get_args

from torch import nn

Site = Literal["embedding", "attention", "feed_forward", "norm"]
SITES: Final[tuple[Site, ...]] = get_args(Site)

_TOKEN_EMBEDDING = re.compile(r"embed_tokens|(word|tok|token)_embeddings?|wte|embed_in|shared")
# tables of positions: of BERT and its kin, of GPT, of GPT-2, of OPT and BART, of CANINE
_POSITION_EMBEDDING = re.compile(
    r"(char_)?position(s|al)?_embed(ding)?s?|wpe|embed_positions|pos_emb(ed)?(ding)?s?"
)
# those that are not learnt: of GPT-J and CodeGen, of CTRL
_POSITION_BUFFER = re.compile(r"embed_positions|pos_encoding")
_TYPE_EMBEDDING = re.compile(r"(token_)?type_embeddings|segment_embeddings")
_ATTENTION = re.compile(r"(\w+_)?(attn|attention)|(Self|EncDec|Cross)Attention")
_ATTENTION_CLASS = re.compile(r"\w*(Attention|Attn)\w*")
_FEED_FORWARD = re.compile(r"mlp|ffn?|feed_?forward|DenseReluDense|(\w+_)?moe", re.IGNORECASE)
_FEED_FORWARD_CLASS = re.compile(r"\w*(MLP|FeedForward|FFN|ActDense|SparseMoe)\w*")
# the last map of a feed-forward part that has no module of its own
_LAST_MAP = re.compile(r"fc2|lin(ear)?2|ffn_output")
_ROUTER = re.compile(r"\b(router|gate)\b")
_NORM_CLASS = re.compile(r"\w*Norm\w*")
# norms of queries, keys and values see heads, not the model's hidden state
_HEAD_NORM = re.compile(r"(q|k|v|kv|qk|query|key|value)(_a)?_?(layer)?_?norm")

_NUMBER = re.compile(r"(?<![^.])[0-9]+(?![^.])")


# ---------------------------------------------------------------- modules by the part they play


def find_modules(model: nn.Module, site: str) -> dict[str, nn.Module]:
    """The modules that play a part in a transformer, found by their names and classes.

    Knows Llama-, BERT-, GPT-2-, GLM- and T5-like models and what is built alike, also within PEFT's
    wrappers. What it gives has, where the architecture has such a module, neither the residual
    connection nor the norm inside:

    - ``embedding``: the table of tokens;
    - ``attention``: self- and cross-attention (BERT: ``attention.self``, T5: ``SelfAttention``);
    - ``feed_forward``: the MLP (BERT: its last map ``output.dense``, OPT: ``fc2``);
    - ``norm``: every norm of the hidden state.

    Args:
        model: The model, bare or wrapped. Of an encoder-decoder give the part that is meant.
        site: One of ``SITES``.

    Returns:
        The modules by their names in ``model``, in order, none within another.

    Raises:
        ValueError: If the site is unknown, or no module of the model plays the part.

    Example:
        >>> block = nn.ModuleDict({"self_attn": nn.MultiheadAttention(4, 1), "norm": nn.LayerNorm(4)})
        >>> list(find_modules(block, "attention"))
        ['self_attn']
        >>> find_modules(block, "feed_forward")
        Traceback (most recent call last):
        ...
        ValueError: site 'feed_forward' is expected in the model, but none of its modules plays that
        part; there are: self_attn (MultiheadAttention), self_attn.out_proj
        (NonDynamicallyQuantizableLinear), norm (LayerNorm)
    """
    if site not in SITES:
        raise ValueError(f"a site is expected to be one of {', '.join(SITES)}, but got {site!r}")
    found = _FINDERS[site](model)
    if not found:
        raise ValueError(
            f"site {site!r} is expected in the model, but none of its modules plays that part; there "
            f"are: {_inventory(model)}"
        )
    return found


def block_outputs(model: nn.Module) -> set[str]:
    """Names of the attention and feed-forward blocks, or of the last map of those whose output is beside them.

    BERT's ``attention.self`` has its output map in ``attention.output.dense``.

    Raises:
        ValueError: If the model has no attention or no feed-forward block.
    """
    names = {name for name, _ in model.named_modules()}
    blocks = [*find_modules(model, "attention"), *find_modules(model, "feed_forward")]
    maps = {
        name: f"{name.removesuffix('self')}output.dense"
        for name in blocks
        if name.endswith(".self")
    }
    return {maps[name] if maps.get(name) in names else name for name in blocks}


# ---------------------------------------------------------------- body and head


def body_modules(model: nn.Module) -> dict[str, nn.Module]:
    """The modules of a Hugging Face model without those of its head, by their names in the model."""
    body: Any = getattr(model, "base_model", model)
    within = set(body.modules())
    return {name: module for name, module in model.named_modules() if module in within}


def head_names(model: Any) -> list[str]:
    """Names of the modules with parameters that stand beside a Hugging Face model's body, such as ``classifier``."""
    return [
        name
        for name, module in model.named_children()
        if name != model.base_model_prefix and any(True for _ in module.parameters())
    ]


# ---------------------------------------------------------------- layers


def transformer_layers(model: nn.Module) -> list[nn.Module]:
    """The layers that transformers keeps on one device (``_no_split_modules``), none within another.

    Example:
        >>> transformer_layers(nn.Linear(1, 1))
        []
    """
    names: set[str] = set()
    for part in model.modules():
        names |= set(getattr(part, "_no_split_modules", None) or ())
    layers: list[nn.Module] = []
    inside: set[int] = set()
    for part in model.modules():
        if type(part).__name__ in names and id(part) not in inside:
            layers.append(part)
            inside |= {id(inner) for inner in part.modules()}
    return layers


def largest_layer_list(model: nn.Module) -> list[nn.Module]:
    """The members of the ``ModuleList`` with the most parameters; the model itself where it has no list.

    They are built alike, so that what is made of one, such as its compilation, serves the others. Of an
    encoder-decoder it is one of the two stacks.

    Example:
        >>> largest_layer_list(nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(2, 2), nn.Tanh()])}))
        [Linear(in_features=2, out_features=2, bias=True), Tanh()]
    """
    lists: list[Any] = [part for part in model.modules() if isinstance(part, nn.ModuleList)]

    def size(part: Any) -> int:
        return sum(p.numel() for p in part.parameters())

    return list(max(lists, key=size)) if lists else [model]


# ---------------------------------------------------------------- positions and sizes


def table_positions(model: nn.Module) -> int | None:
    """Tokens that a model's tables of positions have places for; None where it has no table.

    Example:
        >>> table_positions(nn.ModuleDict({"wpe": nn.Embedding(32, 4)}))
        32
    """
    limits = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) and _POSITION_EMBEDDING.fullmatch(_last(name)):
            # some tables begin behind the place of padding, or behind an offset
            padding = -1 if module.padding_idx is None else module.padding_idx
            skipped = int(getattr(module, "offset", padding + 1))
            limits.append(module.num_embeddings - skipped)
    buffers = [(_last(name), buffer) for name, buffer in model.named_buffers() if buffer.dim() == 2]
    if limits:  # DeBERTa has numbers of places, but no table for them
        limits += [buffer.shape[1] for name, buffer in buffers if name == "position_ids"]
    limits += [buffer.shape[0] for name, buffer in buffers if _POSITION_BUFFER.fullmatch(name)]
    return min(limits, default=None)


def table_ids(model: Any) -> dict[str, int]:
    """How many ids a Hugging Face model's tables have rows for, by the fields of a batch that have a table.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> size = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 1}
        >>> table_ids(BertModel(BertConfig(vocab_size=9, num_hidden_layers=1, **size)))
        {'input_ids': 9, 'token_type_ids': 2}
    """
    try:
        tokens = getattr(model.get_input_embeddings(), "weight", None)
    except (AttributeError, NotImplementedError):
        tokens = None  # such as a model that reads characters by hashes of their numbers
    found = {} if tokens is None else {"input_ids": int(tokens.shape[0])}
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) and _TYPE_EMBEDDING.fullmatch(_last(name)):
            found["token_type_ids"] = module.num_embeddings
    return found


def context_length(model: Any) -> int | None:
    """Tokens that a Hugging Face model's configuration allows at once; None where it sets no limit."""
    length: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return length


def hidden_size(model: Any) -> int:
    """Size d of a Hugging Face model's hidden state."""
    size: int = model.config.get_text_config().hidden_size
    return size


def head_sizes(model: Any) -> set[int]:
    """How many heads and classes a Hugging Face model has, and how wide a head is: sizes that no parameter has."""
    config = model.config.get_text_config()
    names = ("num_attention_heads", "num_key_value_heads", "head_dim", "num_labels")
    values = [getattr(config, name, None) for name in names]
    sizes = {value for value in values if isinstance(value, int)}
    heads = getattr(config, "num_attention_heads", 0)
    return sizes | {config.hidden_size // heads} if heads else sizes


# ---------------------------------------------------------------- inside


def _embedding(model: nn.Module) -> dict[str, nn.Module]:
    found = _outermost(
        model,
        lambda name, module: bool(
            _TOKEN_EMBEDDING.fullmatch(_last(name))
            and any(isinstance(m, nn.Embedding) for m in module.modules())
        ),
    )
    getter = getattr(model, "get_input_embeddings", None)
    if found or not callable(getter):
        return found
    table = getter()
    return {name: module for name, module in model.named_modules() if module is table}


def _attention(model: nn.Module) -> dict[str, nn.Module]:
    return _without_norm(model, _ATTENTION, _ATTENTION_CLASS)


def _feed_forward(model: nn.Module) -> dict[str, nn.Module]:
    found = _without_norm(model, _FEED_FORWARD, _FEED_FORWARD_CLASS)
    if found:
        return found
    # BERT spreads it over the siblings `intermediate` and `output`
    modules = dict(model.named_modules())
    return _outermost(
        model,
        lambda name, _: bool(
            _LAST_MAP.fullmatch(_last(name))
            or (
                name.endswith(".output.dense")
                and f"{name.removesuffix('.output.dense')}.intermediate" in modules
            )
        ),
    )


def _norm(model: nn.Module) -> dict[str, nn.Module]:
    return _outermost(model, _is_norm)


_FINDERS: Final[dict[str, Callable[[nn.Module], dict[str, nn.Module]]]] = {
    "embedding": _embedding,
    "attention": _attention,
    "feed_forward": _feed_forward,
    "norm": _norm,
}


def _is_norm(name: str, module: nn.Module) -> bool:
    return bool(
        _NORM_CLASS.fullmatch(type(module).__name__)
        and not any(_HEAD_NORM.fullmatch(part) for part in name.split("."))
    )


def _without_norm(
    model: nn.Module, names: re.Pattern[str], classes: re.Pattern[str]
) -> dict[str, nn.Module]:
    def plays(name: str, module: nn.Module) -> bool:
        kind = type(module).__name__
        return bool(
            any(True for _ in module.children())
            and not isinstance(module, nn.ModuleList | nn.ModuleDict)
            and not _NORM_CLASS.fullmatch(kind)
            and (names.fullmatch(_last(name)) or classes.fullmatch(kind))
        )

    def parts(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
        for name, part in _outermost(module, plays).items():
            within = list(parts(part, f"{prefix}{name}."))
            # one with a norm holds the residual connection too: rather the core within it
            if within and any(_is_norm(n, m) for n, m in part.named_modules()):
                yield from within
            else:
                yield f"{prefix}{name}", part

    return dict(parts(model, ""))


def _outermost(model: nn.Module, plays: Callable[[str, nn.Module], bool]) -> dict[str, nn.Module]:
    found: dict[str, nn.Module] = {}
    outer = "."
    for name, module in model.named_modules():
        # depth first: what lies within the last one found comes right after it
        if name and not name.startswith(outer) and plays(name, module):
            found[name] = module
            outer = f"{name}."
    return found


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _inventory(model: nn.Module) -> str:
    kinds = dict.fromkeys(
        f"{_NUMBER.sub('*', name)} ({type(module).__name__})"
        for name, module in model.named_modules()
        if name
    )
    shown = ", ".join(list(kinds)[:40])
    return shown + (f" and {len(kinds) - 40} more" if len(kinds) > 40 else "") or "none"


def warn_of_routers(model: nn.Module, config: Any) -> None:
    """Say where a mixture of experts asks for a loss of its routers and trains them, since no loss here has it.

    Args:
        model: The model, in peft's wrapper where it has one.
        config: Its configuration.
    """
    if not getattr(config, "output_router_logits", False):
        return
    trained = (name for name, one in model.named_parameters() if one.requires_grad)
    if name := next(filter(_ROUTER.search, trained), None):
        from lightning.fabric.utilities.rank_zero import rank_zero_warn  # which takes a second

        rank_zero_warn(
            f"the model's configuration asks for the loss of its routers (`output_router_logits`), but {name} trains "
            "without it: no loss here has it; a `model.backbone.peft` that leaves routers frozen needs none"
        )
