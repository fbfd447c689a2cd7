"""Perplexity filter: rows whose answer a clean language model finds improbable are dropped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lit_fed.backbones.padding import undisturbed
from lit_fed.data.sources.source import Source
from lit_fed.defenses.answer_filter import AnswerFilter
from lit_fed.defenses.reference_language_model import ReferenceLanguageModel
from lit_fed.limits import require_inner_fraction
from lit_fed.losses.cross_entropy import target_nats

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.backbones import CausalLM
    from lit_fed.data.features import Features


class PerplexityFilter(AnswerFilter):
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

    def __init__(
        self,
        references: Source | None = None,
        language_model: ReferenceLanguageModel | None = None,
        alpha: float = 0.05,
        clients: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        require_inner_fraction(f"{self.setting}.alpha", alpha)
        super().__init__(references, language_model, alpha, clients, seed)

    def scores(self, rows: Dataset) -> Tensor:
        """The mean nats of each row's learnt tokens, [N] in float64; infinite where the model reads none of them.

        Args:
            rows: N rows.
        """
        model = self.language_model
        return mean_nats(model.backbone, self.encoded(rows), model.batch_size)


def mean_nats(backbone: CausalLM, features: Features, batch_size: int) -> Tensor:
    """The mean of −log p over each row's learnt tokens, [N] in float64, on the CPU; infinite of a row without any.

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
            counts = mask.sum(-1)
            means = torch.where(counts > 0, nats.double().sum(-1) / counts.clamp(min=1), torch.inf)
            found[torch.from_numpy(places)] = means.cpu()
    return found
