"""What a model's files in the format of sentence-transformers say of how it makes a text's vector."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from torch import Tensor

from lit_fed.methods.semantic_consensus.encoders.pooling import (
    first_token,
    largest_of_tokens,
    last_token,
    mean_of_tokens,
)

Pooling = Callable[[Tensor, Tensor], Tensor]

_POOLING: Final = MappingProxyType(
    {
        "mean": mean_of_tokens,
        "cls": first_token,
        "max": largest_of_tokens,
        "lasttoken": last_token,
    }
)
# The names in older files: `pooling_mode_mean_tokens: true`.
_FLAG: Final = "pooling_mode_"
_FLAGS: Final = MappingProxyType(
    {"mean_tokens": "mean", "cls_token": "cls", "max_tokens": "max", "lasttoken": "lasttoken"}
)


@dataclass(frozen=True)
class SentenceModel:
    """How a model makes a text's vector.

    Attributes:
        folder: Where the transformer is, below the model's folder; empty: in it.
        pooling: Makes a vector of token states.
        max_tokens: Tokens of a text that are read; None: as many as the tokenizer says.
        lower_case: Whether a text is put in lower case before.
        prompt: What is put before a text.
    """

    folder: str
    pooling: Pooling
    max_tokens: int | None
    lower_case: bool
    prompt: str


def read_sentence_model(model: str, revision: str | None = None) -> SentenceModel:
    """Reads ``modules.json`` and the files that it names. A model without it has the mean of its tokens' states.

    Args:
        model: A local folder, or a name on the hub.
        revision: Branch, tag or commit on the hub.

    Raises:
        ValueError: If a module or a pooling is not one of those known here, or a file is damaged.
    """
    modules = _read(model, "modules.json", revision)
    if modules is None:
        return SentenceModel("", mean_of_tokens, None, False, "")
    try:
        return _of_modules(model, modules, revision)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"`encoder.model` is {model}, whose modules.json and the files beside it are expected to be those of a "
            f"sentence model, but {type(error).__name__}: {error}"
        ) from error


def _of_modules(model: str, modules: Any, revision: str | None) -> SentenceModel:
    kinds = [str(module["type"]).rsplit(".", 1)[-1] for module in modules]
    known = kinds[:2] == ["Transformer", "Pooling"] and set(kinds[2:]) <= {"Normalize"}
    if not known:
        raise ValueError(
            f"`encoder.model` is {model}, whose modules.json is expected to name Transformer, Pooling and at most "
            f"Normalize, but it names {', '.join(kinds)}"
        )
    folder, pooling_folder = (str(module["path"]) for module in modules[:2])
    pooling = _read(model, _below(pooling_folder, "config.json"), revision)
    settings = _read(model, _below(folder, "sentence_bert_config.json"), revision) or {}
    prompts = _read(model, "config_sentence_transformers.json", revision) or {}
    default = prompts.get("default_prompt_name")
    return SentenceModel(
        folder=folder,
        pooling=_pooling(model, pooling or {}),
        max_tokens=settings.get("max_seq_length"),
        lower_case=bool(settings.get("do_lower_case", False)),
        prompt=str(prompts["prompts"][default]) if default else "",
    )


def _pooling(model: str, config: dict[str, Any]) -> Pooling:
    flags = [
        name.removeprefix(_FLAG)
        for name, on in config.items()
        if name.startswith(_FLAG) and on is True
    ]
    named = config.get("pooling_mode", [_FLAGS.get(flag, flag) for flag in flags])
    asked = [named] if isinstance(named, str) else list(named)
    if len(asked) != 1 or asked[0] not in _POOLING:
        raise ValueError(
            f"`encoder.model` is {model}, whose pooling is expected to be one of {', '.join(_POOLING)}, but it is "
            f"{' and '.join(map(str, asked)) or 'none'}"
        )
    return _POOLING[asked[0]]


def _read(model: str, name: str, revision: str | None) -> Any:
    """A JSON file's content; None without the file."""
    from transformers.utils import cached_file

    place = cached_file(model, name, revision=revision, _raise_exceptions_for_missing_entries=False)
    if place is None:
        return None
    try:
        return json.loads(Path(place).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"`encoder.model` is {model}, whose {name} is expected to be JSON, but: {error}"
        ) from error


def _below(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
