"""Tokenisation, once for the same rows and tokenizer."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from itertools import count
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from lit_fed.data.encodings import Encoding
from lit_fed.data.features import Features

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


class FeatureCache:
    """Encoded rows, by the rows' fingerprint and the tokenizer's content.

    Two tokenizers with the same content share what is encoded, whatever objects they are. What is
    not used for longest is dropped, as methods may make other rows every round.

    Args:
        encoding: How rows are encoded.
        max_length: Tokens that a row may have.
        capacity: Tables that are kept.
    """

    def __init__(self, encoding: Encoding, max_length: int, capacity: int) -> None:
        self.encoding = encoding
        self.max_length = max_length
        self.capacity = capacity
        self._features: OrderedDict[tuple[str, str, int], Features] = OrderedDict()
        self._contents: WeakKeyDictionary[PreTrainedTokenizerBase, tuple[object, str]] = (
            WeakKeyDictionary()
        )
        self._slow = count()

    def __len__(self) -> int:
        return len(self._features)

    def get(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> Features:
        """The rows, encoded now or before."""
        key = (rows._fingerprint, self._content(tokenizer), self.max_length)
        if key in self._features:
            self._features.move_to_end(key)
            return self._features[key]
        features = self.encoding.encode(rows, tokenizer, self.max_length)
        self._features[key] = features
        if len(self._features) > self.capacity:
            self._features.popitem(last=False)
        return features

    def _content(self, tokenizer: PreTrainedTokenizerBase) -> str:
        """A hash of all that decides how the tokenizer encodes."""
        # What may change in a tokenizer's life, and is cheap to look at.
        state = (
            type(tokenizer).__name__,
            len(tokenizer),
            tuple(tokenizer.model_input_names),
            tokenizer.pad_token_id,
            tokenizer.pad_token_type_id,
            tokenizer.eos_token_id,
            tokenizer.bos_token_id,
            tokenizer.truncation_side,
            tokenizer.padding_side,
            str(tokenizer.chat_template),
        )
        known = self._contents.get(tokenizer)
        if known is not None and known[0] == state:
            return known[1]
        if tokenizer.is_fast:
            # Before the added tokens stand truncation and padding, which the last call has left
            # behind.
            text = tokenizer.backend_tokenizer.to_str().partition('"added_tokens"')[2]
        else:
            # It cannot be written out, so each is another one.
            text = f"slow {next(self._slow)}"
        content = hashlib.blake2b(f"{text}{state}".encode(), digest_size=16).hexdigest()
        self._contents[tokenizer] = (state, content)
        return content
