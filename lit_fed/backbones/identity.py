"""What a backbone is, in a few words and digests: by it a run knows its model again, wherever that lies."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from peft import PeftConfig

_SAMPLE = 64
_TOKENS = 1024
# Where a model lies, by what version it was written, and how its weights are held is not what it is.
_ELSEWHERE: Final = frozenset(
    {"_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype"}
)
_PEFT_ELSEWHERE: Final = frozenset(
    {
        "base_model_name_or_path",
        "revision",
        "peft_version",
        "auto_mapping",
        "inference_mode",
        "runtime_config",
    }
)


def backbone_identity(
    model: nn.Module,
    config: Any,
    tokenizer: Any,
    peft: PeftConfig | None,
    changing: Iterable[nn.Parameter],
) -> dict[str, Any]:
    """Tell of a model what decides results: its frozen weights, configuration, tokenizer and adapter.

    The weights are told by their shapes and by 64 values of each, which takes milliseconds; a change of a
    few single values can go unseen. Weights that train are not told: whoever goes on with a run loads them.

    Args:
        model: The model with its adapters.
        config: Its configuration in Hugging Face's format.
        tokenizer: Its tokenizer, of which the size and up to 1,024 tokens are taken.
        peft: The configuration of its adapter, if it has one.
        changing: The parameters that train.

    Returns:
        Values by name; of the model's configuration what is not the default, of the adapter's what is not off.
    """
    known = {id(parameter) for parameter in changing}
    frozen = {
        name: parameter
        for name, parameter in model.named_parameters()
        # peft's copy of a head as it was before training is as random as the head
        if not known or (id(parameter) not in known and "original_module" not in name)
    }
    adapter: dict[str, Any] = {"peft": None if peft is None else type(peft).__name__}
    if peft is not None:
        adapter |= {f"peft.{name}": value for name, value in adapter_settings(peft).items()}
    return {
        "frozen weights": weights_digest(frozen),
        "tokenizer": _tokenizer_digest(tokenizer),
        **adapter,
        **{f"config.{name}": value for name, value in model_settings(config).items()},
    }


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """A digest of weights by their names, shapes and 64 values of each, evenly spread.

    Args:
        weights: Tensors by name, whole ones.

    Returns:
        The number of values and 16 hexadecimal digits.

    Example:
        >>> first = weights_digest({"w": torch.zeros(3)})
        >>> first.partition(",")[0], first == weights_digest({"w": torch.ones(3)})
        ('3 values', False)
    """
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {list(tensor.shape)} {tensor.dtype}".encode())
        flat = tensor.detach().reshape(-1)
        step = max(1, flat.numel() // _SAMPLE)
        sample = flat[::step][:_SAMPLE].cpu()
        digest.update(sample.contiguous().view(torch.uint8).numpy().tobytes())
    return f"{sum(t.numel() for t in weights.values()):,} values, {digest.hexdigest()}"


def _tokenizer_digest(tokenizer: Any) -> str:
    size = len(tokenizer)
    numbers = range(0, size, max(1, size // _TOKENS))
    tokens = [str(token) for token in tokenizer.convert_ids_to_tokens(list(numbers))]
    special = [f"{name}={token}" for name, token in sorted(tokenizer.special_tokens_map.items())]
    content = "\n".join([*tokens, *special]).encode(errors="surrogatepass")
    return f"{size:,} tokens, {hashlib.blake2b(content, digest_size=8).hexdigest()}"


def model_settings(config: Any) -> dict[str, Any]:
    """What is not the default of a model's configuration, without where it lies and by what version it was written."""
    return {k: v for k, v in config.to_diff_dict().items() if k not in _ELSEWHERE}


def adapter_settings(config: PeftConfig) -> dict[str, Any]:
    """The fields of an adapter's configuration, without those that are off or empty: another peft may have more.

    A set, such as of target modules, is a sorted list here: its own order is another one in each process.

    Args:
        config: The configuration.

    Example:
        >>> from peft import LoraConfig
        >>> adapter_settings(LoraConfig(target_modules={"value", "query"}))["target_modules"]
        ['query', 'value']
    """
    values = {one.name: getattr(config, one.name) for one in fields(config)}
    values = {
        name: sorted(map(str, value)) if isinstance(value, (set, frozenset)) else value
        for name, value in values.items()
    }
    off: tuple[Any, ...] = (None, False, "", [], {}, set())
    return {
        name: value
        for name, value in values.items()
        # 0 equals False, but is a value
        if name not in _PEFT_ELSEWHERE and (type(value) in (int, float) or value not in off)
    }
