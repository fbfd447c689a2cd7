"""Memory estimate: what a federation of a model needs of each GPU, before anything is loaded.

``python -m lit_fed.tools.memory --batch_size 8 --length 512``
"""

from __future__ import annotations

import dataclasses
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from lit_fed.backbones.anatomy import transformer_layers
from lit_fed.backbones.master_weights import widen
from lit_fed.limits import require_at_least, require_none_or_at_least
from lit_fed.losses import cross_entropy

if TYPE_CHECKING:
    from rich.table import Table
    from transformers import PretrainedConfig

DType = Literal["float32", "bfloat16", "float16"]
ADAM_STATES = 2
BLOCK, SUPERBLOCK = (
    64,
    256,
)  # weights with one scale of 8 bits, scales with one of 32, in 4-bit storage


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes on one GPU at the peak of a training step.

    Not counted: what the allocator loses, workspaces of kernels, the CUDA context (about 0.5 GB);
    clients' payloads, which are kept on the CPU.

    Attributes:
        base: The frozen weights, as they are stored; without adapters nothing.
        trainable: The trained weights, and the copy that every client starts from.
        gradients: Of the trained weights.
        optimizer: Moments of AdamW.
        activations: What the forward pass keeps for the backward pass.
        gathered: Whole layers that a sharded model has at hand: two of them, and what is in no layer.
    """

    base: int
    trainable: int
    gradients: int
    optimizer: int
    activations: int
    gathered: int

    @property
    def total(self) -> int:
        """All parts together."""
        return sum(dataclasses.astuple(self))


def estimate_memory(
    config: PretrainedConfig | str | Path,
    *,
    lora_r: int | None = 16,
    target_modules: str | Sequence[str] = "all-linear",
    dtype: DType = "bfloat16",
    quantization: Literal["4bit"] | None = None,
    batch_size: int = 4,
    length: int = 512,
    gradient_checkpointing: bool = False,
    clients_at_once: int = 1,
    shards: int = 1,
) -> MemoryEstimate:
    """Memory of federated fine-tuning of a causal language model, from its configuration alone.

    The model is built on torch's meta device, which has shapes but no values, and a batch goes through
    it there; attention is counted as a fused kernel keeps it.

    Args:
        config: The model's configuration, or the folder that holds it.
        lora_r: Rank of the adapters. None: all weights are trained.
        target_modules: The modules with adapters, as in :class:`peft.LoraConfig`.
        dtype: Type of the frozen weights. What trains is float32, and so are its gradients and moments; without
            adapters that is all.
        quantization: ``4bit`` stores the frozen linear layers so, with doubly quantised scales.
        batch_size: Rows of a client's batch.
        length: Tokens of a row, padding included.
        gradient_checkpointing: Whether layers compute their activations again.
        clients_at_once: Clients that train as a batch dimension.
        shards: Processes that share one model and each batch.

    Raises:
        ValueError: If a number is below 1, or all weights are to be trained of a quantised model or of
            several clients at once.

    Example:
        >>> from transformers import LlamaConfig
        >>> config = LlamaConfig(
        ...     vocab_size=96, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
        ... )
        >>> one = estimate_memory(config, lora_r=2, dtype="float32", batch_size=2, length=8)
        >>> one.base, one.gradients, one.optimizer
        (33088, 4352, 8704)
    """
    _check(lora_r, quantization, batch_size, length, clients_at_once, shards)
    model = _on_meta(config, lora_r, target_modules, getattr(torch, dtype))
    trained = sum(_size(p) for p in model.parameters() if p.requires_grad)
    frozen = [p for p in model.parameters() if not p.requires_grad]
    packed = _packed(model) if quantization else set()
    base = sum(_packed_size(p) if id(p) in packed else _size(p) for p in frozen)

    rows = -(-batch_size // shards)
    layers, outside = _activations(model, rows, length)
    if gradient_checkpointing and layers:
        # The layer that is computed again adds to what is kept of all: their inputs.
        kept = len(layers) * rows * length * int(model.config.hidden_size) * _bytes(dtype)
        activations = outside + kept + max(layers)
    else:
        activations = outside + sum(layers)
    gathered = 0
    if shards > 1:
        parts = transformer_layers(model)
        sizes = [sum(_size(p) for p in part.parameters()) for part in parts] or [0]
        gathered = base + trained - sum(sizes) + 2 * max(sizes)

    def per_shard(size: int) -> int:
        return -(-size // shards)

    return MemoryEstimate(
        base=per_shard(base),
        trainable=per_shard(trained * (clients_at_once + 1)),
        gradients=per_shard(trained * clients_at_once),
        optimizer=per_shard(trained * clients_at_once * ADAM_STATES),
        activations=activations * clients_at_once,
        gathered=gathered,
    )


def memory_table(
    config: PretrainedConfig | str | Path,
    arrangements: Mapping[str, Mapping[str, Any]] | None = None,
    **settings: Any,
) -> dict[str, MemoryEstimate]:
    """Print what each arrangement of a model needs of one GPU's memory.

    Args:
        config: The model's configuration, or the folder that holds it.
        arrangements: Settings of :func:`estimate_memory` by the names of rows. None: one client at a
            time, several, four bits, and shards.
        **settings: What all arrangements share.

    Returns:
        The estimates by name.

    Example:
        >>> from transformers import LlamaConfig
        >>> size = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
        >>> config = LlamaConfig(vocab_size=96, num_hidden_layers=2, **size)
        >>> table = memory_table(config, {"one": {}, "four": {"clients_at_once": 4}}, lora_r=2)
                         Bytes on each GPU
        ...
        >>> table["four"].gradients == 4 * table["one"].gradients
        True
    """
    from rich.console import Console

    chosen = ARRANGEMENTS if arrangements is None else arrangements
    estimates = {
        name: estimate_memory(config, **{**settings, **given}) for name, given in chosen.items()
    }
    # Wide enough for every column, wherever it is printed to.
    Console(width=132).print(_table(estimates))
    return estimates


_CHECKPOINTED = {"gradient_checkpointing": True}
ARRANGEMENTS: Mapping[str, Mapping[str, Any]] = {
    "one client": {},
    "one client, checkpointing": _CHECKPOINTED,
    "4 clients at once": {"clients_at_once": 4},
    "16 clients at once": {"clients_at_once": 16},
    "4 bits, one client, checkpointing": {**_CHECKPOINTED, "quantization": "4bit"},
    "4 shards, checkpointing": {**_CHECKPOINTED, "shards": 4},
    "all weights, 4 shards, checkpointing": {**_CHECKPOINTED, "lora_r": None, "shards": 4},
    "all weights, 8 shards, checkpointing": {**_CHECKPOINTED, "lora_r": None, "shards": 8},
}
"""The rows of :func:`memory_table`."""


def _table(estimates: Mapping[str, MemoryEstimate]) -> Table:
    from rich.table import Table

    table = Table(title="Bytes on each GPU")
    table.add_column("arrangement")
    names = [field.name for field in dataclasses.fields(MemoryEstimate)]
    for name in [*names, "total"]:
        table.add_column(name, justify="right")
    for title, estimate in estimates.items():
        parts = [getattr(estimate, name) for name in names]
        table.add_row(title, *(f"{part / 1e9:.2f} GB" for part in [*parts, estimate.total]))
    return table


def _check(lora_r: int | None, quantization: str | None, *numbers: int) -> None:
    names = ("batch_size", "length", "clients_at_once", "shards")
    for name, value in zip(names, numbers, strict=True):
        require_at_least(name, value, 1)
    require_none_or_at_least("lora_r", lora_r, 1)
    if lora_r is None and (quantization or numbers[2] > 1):
        raise ValueError(
            "`lora_r` is expected to be the rank of adapters where the base is quantised or serves several "
            "clients at once, but got None"
        )


def _on_meta(
    config: PretrainedConfig | str | Path,
    lora_r: int | None,
    target_modules: str | Sequence[str],
    dtype: torch.dtype,
) -> Any:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    if isinstance(config, str | Path):
        config = AutoConfig.from_pretrained(str(config))
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype)
    if lora_r is not None:
        targets = target_modules if isinstance(target_modules, str) else list(target_modules)
        lora = LoraConfig(r=lora_r, target_modules=targets, task_type="CAUSAL_LM")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # between peft and transformers
            model = get_peft_model(model, lora, low_cpu_mem_usage=True)
    # also peft's, which stay as they are made on the meta device
    widen(model, [p for p in model.parameters() if p.requires_grad])
    return model.train()


def _packed(model: nn.Module) -> set[int]:
    """The weights that bitsandbytes stores in four bits: of linear layers, but not the last one."""
    inside = [layer for part in transformer_layers(model) for layer in part.modules()]
    return {
        id(layer.weight)
        for layer in inside
        if isinstance(layer, nn.Linear) and not layer.weight.requires_grad
    }


def _packed_size(weight: Tensor) -> int:
    scales = weight.numel() / BLOCK
    return round(weight.numel() / 2 + scales + 4 * scales / SUPERBLOCK)


def _activations(model: Any, rows: int, length: int) -> tuple[list[int], int]:
    """Bytes that a forward pass keeps: in each layer, and outside of layers."""
    place = [-1]

    def enter(number: int) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            place[0] = number

        return hook

    parts = transformer_layers(model)
    handles = [part.register_forward_pre_hook(enter(i)) for i, part in enumerate(parts)]
    handles += [part.register_forward_hook(enter(-1)) for part in parts]
    known = {_storage(p) for p in model.parameters()}
    kept: dict[int, tuple[Tensor, int]] = {}

    def keep(tensor: Tensor) -> Tensor:
        # The tensor is held, so that no other one gets its storage's address.
        if _storage(tensor) not in known:
            kept.setdefault(_storage(tensor), (tensor, place[0]))
        return tensor

    ids = torch.zeros(rows, length, dtype=torch.long, device="meta")
    # Whole, since transformers would look at the values of a shorter one.
    attends = torch.ones(rows, 1, length, length, dtype=torch.bool, device="meta")
    try:
        with fused_attention(), torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            logits = model(input_ids=ids, attention_mask=attends, use_cache=False).logits[:, :-1]
            mask = torch.ones(logits.shape[:2], dtype=torch.bool, device="meta")
            loss = cross_entropy(logits, ids[:, 1:], mask)
    finally:
        for handle in handles:
            handle.remove()
    del loss
    sizes = [0] * (len(parts) + 1)
    for tensor, where in kept.values():
        sizes[where] += tensor.untyped_storage().nbytes()
    return sizes[:-1], sizes[-1]


class _FusedAttention(torch.autograd.Function):
    """What a fused kernel keeps: its inputs, its output and a number a row; not the weights [L, L]."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(
            query, key, value, output, query.new_empty(query.shape[:-1], dtype=torch.float32)
        )
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise NotImplementedError("only the forward pass is counted")


@contextmanager
def fused_attention() -> Iterator[None]:
    """Within the block torch's attention is one without values, which keeps what a fused kernel keeps."""
    functional = torch.nn.functional
    original = functional.scaled_dot_product_attention

    def attention(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        kept: Any = _FusedAttention
        output: Tensor = kept.apply(query, key, value)
        return output

    functional.scaled_dot_product_attention = attention
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = original


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _bytes(dtype: DType) -> int:
    return int(getattr(torch, dtype).itemsize)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table of a model, by the command ``python -m lit_fed.tools.memory``.

    Args:
        arguments: What follows the command. None: those of the process.

    Raises:
        SystemExit: With one line, if a number is below 1 or the folder holds no model.

    Example:
        >>> main(["--length", "0"])
        Traceback (most recent call last):
        SystemExit: lit_fed.tools.memory: error: `length` is expected to be at least 1, but got 0
    """
    from jsonargparse import ArgumentParser
    from transformers import LlamaConfig

    parser = ArgumentParser(
        prog="python -m lit_fed.tools.memory",
        description="Print what arrangements of clients and GPUs need of each GPU's memory.",
        epilog="Example: python -m lit_fed.tools.memory --batch_size 8 --length 512",
    )
    parser.add_argument(
        "--model", type=Path | None, help="Folder with a model's config.json. None: Llama-2-7B."
    )
    # What the rows differ in is no option: a row would not be what its name says.
    by_row = {name for settings in ARRANGEMENTS.values() for name in settings} - {"lora_r"}
    parser.add_function_arguments(estimate_memory, as_group=False, skip={"config", *sorted(by_row)})
    settings = parser.parse_args(arguments).as_dict()
    model: Path | None = settings.pop("model")
    try:
        if model is not None and not (model / "config.json").is_file():
            raise ValueError(
                f"`model` is expected to be a folder with a config.json, but got {model}"
            )
        memory_table(LlamaConfig() if model is None else model, **settings)
    except (OSError, ValueError) as error:
        sys.exit(f"lit_fed.tools.memory: error: {error}")


if __name__ == "__main__":
    main()
