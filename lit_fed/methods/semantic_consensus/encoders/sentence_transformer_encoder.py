"""Sentence encoder: any model in the format of sentence-transformers, or a bare one with mean pooling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_fed.backbones import Backbone
from lit_fed.backbones.length_sorted import in_length_sorted_batches
from lit_fed.backbones.pretrained import quiet_transformers
from lit_fed.limits import require_at_least
from lit_fed.methods.semantic_consensus.encoders.calibrated_encoder import CalibratedEncoder
from lit_fed.methods.semantic_consensus.encoders.sentence_folder import (
    SentenceModel,
    read_sentence_model,
)


class SentenceTransformerEncoder(CalibratedEncoder):
    """A sentence encoder such as all-MiniLM-L6-v2, from a folder or from the hub.

    Reimers and Gurevych, "Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks" (2019),
    https://arxiv.org/abs/1908.10084. It is run by transformers as the files of the model say: pooling of the mean, the
    first, the last or the largest of the tokens' states, the model's own limit of tokens, its default prompt. Without
    such files the mean is taken, as sentence-transformers does. The library itself is not needed: of what it does
    beside training these few lines are all that is used here. The model is loaded by :meth:`setup`, or with
    the first text, from safetensors alone, and no code that comes with it is run.

    Args:
        model: A local folder in Hugging Face format, or a name on the hub.
        batch_size: Texts at once, those of similar length together.
        device: Where it is run, such as ``cpu`` or ``cuda:0``.
        revision: Branch, tag or commit on the hub.

    Raises:
        ValueError: If ``batch_size`` is below 1; when it is loaded, if the model's pooling or modules are not known,
            its files are damaged, or there is no such device.
        FileNotFoundError: When it is loaded, if there is no such model.
    """

    def __init__(
        self, model: str, batch_size: int = 64, device: str = "cpu", revision: str | None = None
    ) -> None:
        self.model = model
        self.batch_size = require_at_least("model.selector.encoder.batch_size", batch_size, 1)
        self.device = device
        self.revision = revision

    def setup(self, backbones: Sequence[Backbone]) -> None:
        """Load the model, so that a wrong one shows before training.

        Args:
            backbones: The run's, which it does not need.

        Raises:
            ValueError: If the model's pooling or modules are not known, its files are damaged, or there is no such
                device.
            FileNotFoundError: If there is no such model.
        """
        _ = self._loaded

    @cached_property
    def _loaded(self) -> tuple[SentenceModel, Any, Any]:
        """How it makes a vector, the model and its tokenizer."""
        from transformers import AutoModel, AutoTokenizer

        local = Path(self.model).expanduser()
        place = str(local) if local.is_dir() else self.model
        revision = self.revision or "main"
        expected = (
            f"`encoder.model` is expected to be a folder in Hugging Face format with safetensors, or a name on the "
            f"hub, but {self.model!r} cannot be read"
        )
        try:
            with quiet_transformers():
                described = read_sentence_model(place, revision)
        except OSError as error:
            raise FileNotFoundError(f"{expected}: {_line(error)}") from None
        given = {"subfolder": described.folder, "revision": revision}
        try:
            with quiet_transformers():
                model = AutoModel.from_pretrained(place, use_safetensors=True, **given)
                tokenizer = AutoTokenizer.from_pretrained(place, **given)
        except OSError as error:
            raise FileNotFoundError(f"{expected}: {_line(error)}") from None
        # of damaged files the libraries below raise whatever they like, tokenizers a bare Exception
        except Exception as error:
            raise ValueError(f"{expected}: {_line(error)}") from error
        try:
            return described, model.float().eval().to(self.device), tokenizer
        except RuntimeError as error:
            raise ValueError(
                f"`encoder.device` is expected to be a device that is there, such as cpu, but got {self.device!r}: "
                f"{_line(error)}"
            ) from error

    @torch.no_grad()
    def _embed(self, texts: list[str]) -> Tensor:
        described, model, tokenizer = self._loaded

        def run(batch: Mapping[str, Tensor]) -> Tensor:
            given = {name: field.to(self.device) for name, field in batch.items()}
            states = model(**given).last_hidden_state
            return described.pooling(states, given["attention_mask"])

        read = [described.prompt + (t.lower() if described.lower_case else t) for t in texts]
        # A tokenizer without a limit says a number beyond all texts.
        limit = min(described.max_tokens or tokenizer.model_max_length, tokenizer.model_max_length)
        known = limit if limit < _NO_LIMIT else None
        return in_length_sorted_batches(read, tokenizer, known, self.batch_size, run)


def _line(error: Exception) -> str:
    return f"{' '.join(str(error).split()):.300}"


_NO_LIMIT = 1 << 30
