"""Known ids: whether a model has embeddings for all that its tokenizer gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from lit_fed.data.reader import Reader

_NOUNS = {"input_ids": "tokens", "token_type_ids": "types of tokens"}


def require_known_ids(tokens: Mapping[str, Sequence[int] | Any], reader: Reader, name: str) -> None:
    """Raise where rows have ids that a model's tables have no row for, which would fail at a client's first batch.

    Args:
        tokens: Fields with an id for each token, their padding as well.
        reader: The model that reads them.
        name: What the model is called in the configuration.

    Raises:
        ValueError: Naming model, tokenizer and token.
    """
    for field, limit in reader.id_limits.items():
        ids = np.asarray(tokens.get(field, ()), np.int64)
        if not ids.size or (ids.min() >= 0 and ids.max() < limit):
            continue
        tokenizer = reader.tokenizer
        bad = int(ids.max() if ids.max() >= limit else ids.min())
        which = f"{bad}"
        if field == "input_ids" and 0 <= bad < len(tokenizer):
            which = f"{bad} of {tokenizer.convert_ids_to_tokens(bad)!r}"
        raise ValueError(
            f"`{name}` is expected to be a model that knows all {_NOUNS.get(field, field)} of its tokenizer, but has "
            f"embeddings for {limit}, and {type(tokenizer).__name__} {tokenizer.name_or_path} gives the id {which}: "
            f"resize the model's embeddings, or take the tokenizer that it was trained with"
        )
