"""Perplexity filter: rows whose answer a clean language model finds improbable are dropped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lit_fed.backbones.anatomy import context_length
from lit_fed.backbones.padding import undisturbed
from lit_fed.data.clean_references import clean_references
from lit_fed.data.sources.source import Source
from lit_fed.defenses.input_defense import Inspection
from lit_fed.defenses.reference_language_model import ReferenceLanguageModel
from lit_fed.defenses.row_defense import RowDefense
from lit_fed.limits import require_inner_fraction
from lit_fed.losses.cross_entropy import target_nats
from lit_fed.prototypes.gates import conformal_p_values, fewest_calibrated

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.backbones import CausalLM
    from lit_fed.client import Client
    from lit_fed.data import Encoding, FederatedDataModule
    from lit_fed.data.features import Features
    from lit_fed.module import FederatedModule

_HELD_OUT: Final = 0.3
_MAX_LENGTH: Final = 512  # as of data that say none


class PerplexityFilter(RowDefense):
    r"""Drops the rows whose answer is less probable to a clean language model than all but a share α of clean ones.

    For models that generate. What an attacker wants a model to write is mostly not what follows from a row's prompt,
    and a model q that no client has any part in says so. Of a row with the learnt tokens y after x

    .. math:: s = -\frac{1}{T} \sum_t \log q(y_t \mid x, y_{<t}), \qquad
        p = \frac{\#\{\text{held-out references with a score} \ge s\} + 1}{n + 1},

    and it is dropped where p ≤ α: about a share α of clean rows is lost, if they are like the references. It is as good
    as q: an attack whose answers q finds probable comes through. Wallace et al., "Concealed Data Poisoning Attacks on
    NLP Models", 2021, https://arxiv.org/abs/2010.12563, look for poison by perplexity; the bound is a conformal one
    (Vovk et al., "Algorithmic Learning in a Random World", 2005).

    Args:
        references: A table of clean rows. None: the public set of the data.
        language_model: q. None: the embedded decoder as it is. Where it is fitted on the references, 30 % of them are
            held out of it, and α is of these.
        alpha: α in (0, 1).
        clients: Ids of the clients that it acts on. None: all.
        seed: Of the choice of the references that are held out.

    Raises:
        ValueError: If α is out of range; when a fit starts, if there are no references, some without an answer or too
            few for α, rows are classified, or the language model has no token that begins or ends a text.

    Example:
        >>> PerplexityFilter(alpha=0.1).alpha
        0.1
        >>> PerplexityFilter(alpha=1.0)
        Traceback (most recent call last):
        ValueError: `trainer.attachments PerplexityFilter.alpha` is expected to be above 0 and below 1, but got 1.0
    """

    _encoding: Encoding
    _max_length: int

    def __init__(
        self,
        references: Source | None = None,
        language_model: ReferenceLanguageModel | None = None,
        alpha: float = 0.05,
        clients: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(clients=clients, seed=seed)
        self.references = references
        self.language_model = language_model or ReferenceLanguageModel()
        self.alpha = require_inner_fraction(f"{self.setting}.alpha", alpha)
        self._calibration: Tensor | None = None
        self._fitted_on: tuple[str, Encoding, int] | None = None

    def attach(self, module: FederatedModule, data: FederatedDataModule) -> None:
        """Fit the language model on the references, and find their scores; see the base class."""
        if data.encoding.prompts(next(iter(data.clients)).rows.select([])) is None:
            raise ValueError(
                f"`{self.setting}` expects rows whose answers are texts, but `data.encoding` is "
                f"{type(data.encoding).__name__}"
            )
        self.forget()
        self._encoding, self._max_length = data.encoding, data.max_length or _MAX_LENGTH
        setting = f"{self.setting}.references"
        references = clean_references(self.references, data, setting, answered=True)
        data.encoding.require_columns(references, setting)
        key = (references._fingerprint, data.encoding, self._max_length)
        if self._fitted_on != key:
            self._calibration = self._fit(references)
            self._fitted_on = key

    def judge(self, client: Client, rows: Dataset) -> Inspection:
        """Drop the rows whose p-value is at most α.

        Raises:
            RuntimeError: Before :meth:`attach`.
        """
        if self._calibration is None:
            raise RuntimeError(f"{self.setting} expects attach() before the first rows")
        p = conformal_p_values(self.scores(rows), self._calibration)
        rejected: npt.NDArray[np.bool_] = (p <= self.alpha).numpy()
        return Inspection(rows, rejected)

    def scores(self, rows: Dataset) -> Tensor:
        """The mean nats of each row's learnt tokens, [N] in float64; 0 of a row without any.

        Args:
            rows: N rows.
        """
        model = self.language_model
        return mean_nats(model.backbone, self._encoded(rows), model.batch_size)

    def _fit(self, references: Dataset) -> Tensor:
        """The scores of the references that the language model is not fitted on, ascending."""
        held_out, model = references, self.language_model
        if model.steps:
            order = np.random.default_rng(self.seed).permutation(len(references))
            number = round(_HELD_OUT * len(references))
            held_out = references.select(np.sort(order[:number]))
            fitted = references.select(np.sort(order[number:]))
            if len(fitted):
                model.fit_rows(self._encoded(fitted))
        if len(held_out) < (least := fewest_calibrated(self.alpha)):
            raise ValueError(
                f"`{self.setting}.references` are expected to leave at least {least} rows for its "
                f"calibration, below which no p-value is as small as `alpha` {self.alpha:g}, but leave {len(held_out)}"
            )
        return self.scores(held_out).sort().values

    def _encoded(self, rows: Dataset) -> Features:
        backbone = self.language_model.backbone
        most = min(self._max_length, context_length(backbone.model) or self._max_length)
        features = self._encoding.encode(rows, backbone.tokenizer, most)
        features.padding_side = "left" if backbone.tokenizer.padding_side == "left" else "right"
        return features


def mean_nats(backbone: CausalLM, features: Features, batch_size: int) -> Tensor:
    """The mean of −log p over each row's learnt tokens, [N] in float64, on the CPU; 0 of a row without any.

    Args:
        backbone: The model.
        features: N rows that an encoding has written for it, with ``labels``.
        batch_size: Rows at once, those of similar length together.
    """
    found = torch.zeros(len(features), dtype=torch.float64)
    order = np.argsort(np.diff(features.offsets), kind="stable")
    device = next(backbone.parameters()).device
    with undisturbed(backbone):
        for start in range(0, len(order), batch_size):
            places = order[start : start + batch_size]
            batch = features.batch(places.tolist())
            prediction = backbone({name: value.to(device) for name, value in batch.items()})
            nats, mask = target_nats(prediction.logits, prediction.targets, prediction.mask)
            counts = mask.sum(-1).clamp(min=1)
            found[torch.from_numpy(places)] = (nats.double().sum(-1) / counts).cpu()
    return found
