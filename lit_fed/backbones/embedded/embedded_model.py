"""Where the shipped models are."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

EmbeddedKind = Literal["encoder", "decoder"]


def embedded_model(kind: EmbeddedKind) -> Path:
    """The folder of a shipped model, which ``from_pretrained`` of the Auto classes loads.

    The encoder is a BERT of English and Chinese with its pooler, so that in a sequence classifier only the classifier
    itself is new; the decoder is a Llama that follows instructions of a small world. Both are kept in half precision
    and were made by the scripts in ``tools/embedded``, where their reports are.

    Args:
        kind: ``encoder`` or ``decoder``.

    Raises:
        ValueError: If it is neither.

    Example:
        >>> sorted(file.suffix for file in embedded_model("encoder").iterdir())
        ['.json', '.json', '.json', '.safetensors']
    """
    if kind not in get_args(EmbeddedKind):
        raise ValueError(
            f"`kind` is expected to be one of {', '.join(get_args(EmbeddedKind))}, but got {kind!r}"
        )
    return Path(__file__).parent / kind
