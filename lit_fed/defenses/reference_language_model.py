"""A language model that knows what clean texts are like: as it is loaded, or fitted on some of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from lit_fed.backbones import CausalLM
from lit_fed.backbones.anatomy import context_length
from lit_fed.data.encodings.encoding import padding_id
from lit_fed.data.features import IGNORED, Features
from lit_fed.defenses.perplexity import start_token
from lit_fed.fitting import descend
from lit_fed.limits import require_at_least, require_positive

_READ: Final = ("input_ids", "attention_mask", "labels")


class ReferenceLanguageModel:
    """A causal language model that is loaded when it is first needed, and may be fitted on clean texts.

    A small model that has read other texts finds every text of a task strange and no word in it stranger than others.
    A few hundred steps on clean references mend that; all weights are trained, by AdamW.

    Args:
        model: A local folder in Hugging Face format, or a name on the hub. None: the embedded decoder.
        steps: Optimizer steps on the references. 0: the model as it is.
        lr: Learning rate, above 0.
        batch_size: Texts at once.
        device: Where it is run, such as ``cpu`` or ``cuda:0``.
        seed: Of the batches and of dropout.

    Raises:
        ValueError: If a number is out of range; when it is loaded, if it has no token that begins or ends a text.

    Example:
        >>> ReferenceLanguageModel(steps=-1)
        Traceback (most recent call last):
        ValueError: `ReferenceLanguageModel.steps` is expected to be at least 0, but got -1
    """

    def __init__(
        self,
        model: str | None = None,
        steps: int = 0,
        lr: float = 1e-3,
        batch_size: int = 32,
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        self.model = model
        self.steps = require_at_least("ReferenceLanguageModel.steps", steps, 0)
        self.lr = require_positive("ReferenceLanguageModel.lr", lr)
        self.batch_size = require_at_least("ReferenceLanguageModel.batch_size", batch_size, 1)
        self.device = device
        self.seed = require_at_least("ReferenceLanguageModel.seed", seed, 0)
        self._loaded: CausalLM | None = None

    @property
    def backbone(self) -> CausalLM:
        """The model, as it is loaded or as :meth:`fit` has left it."""
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    def fit(self, texts: Sequence[str]) -> None:
        """Fit the model, from what is loaded, on texts.

        Args:
            texts: Clean texts, at least one.
        """
        if not self.steps:
            return
        tokenizer, start = self.backbone.tokenizer, start_token(self.backbone)
        end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
        room = context_length(self.backbone.model)
        tokens = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        rows = [[start, *ids, *end][:room] for ids in tokens]
        self.fit_rows(Features({"input_ids": rows, "labels": rows}, {}, self._padding))

    def fit_rows(self, rows: Features) -> None:
        """Fit the model, from what is loaded, on rows that an encoding has written.

        Args:
            rows: Clean rows, at least one, by the model's tokenizer, with ``labels`` of what is learnt of each.
        """
        if not self.steps:
            return
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(self.seed)
            self._loaded = self._fitted(self._load(), rows)

    @property
    def _padding(self) -> dict[str, int]:
        return {"input_ids": padding_id(self.backbone.tokenizer), "labels": IGNORED}

    def _load(self) -> CausalLM:
        backbone = CausalLM(self.model, peft=None)
        start_token(backbone)
        return backbone.to(self.device).eval()

    def _fitted(self, backbone: CausalLM, rows: Features) -> CausalLM:
        draw = np.random.default_rng(self.seed)

        def drawn() -> dict[str, Tensor]:
            chosen = draw.choice(len(rows), min(self.batch_size, len(rows)), replace=False)
            batch = rows.batch(chosen.tolist())
            return {name: batch[name].to(self.device) for name in _READ}

        backbone.train()
        optimizer = torch.optim.AdamW(backbone.parameters(), lr=self.lr)
        descend(optimizer, (backbone.model(**drawn()).loss for _ in range(self.steps)))
        return backbone.eval()
