"""Prototype filter: rows whose answer lies elsewhere among prototypes than their prompt does are dropped."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lit_fed.backbones.length_sorted import length_sorted
from lit_fed.backbones.padding import undisturbed
from lit_fed.data.encodings.encoding import padding_id
from lit_fed.data.features import IGNORED, Features
from lit_fed.data.sources.source import Source
from lit_fed.defenses.answer_filter import AnswerFilter
from lit_fed.defenses.input_defense import Inspection
from lit_fed.defenses.reference_language_model import ReferenceLanguageModel
from lit_fed.limits import require_at_least, require_inner_fraction
from lit_fed.losses.mean_pool import mean_pool
from lit_fed.prototypes import PrototypeSet, fit_prototypes

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.client import Client


class PrototypeFilter(AnswerFilter):
    r"""Drops the rows whose answer is about something else than their prompt, as prototypes of clean texts tell.

    For models that write summaries and other answers that say again what their prompt says. The answer y of a row are
    its tokens that are learnt, in a chat those of all turns that are, and its prompt x those that are read beside them,
    as far as either is read when the row is trained on. Each is read by itself, and its vector is the mean of the
    language model's last states. Those of clean prompts, and those of their answers, have their own mean subtracted,
    since the states of a decoder all point one way, and P prototypes are fitted on both by spherical k-means. With the
    cosines :math:`v(t) = (\cos(t, P_1), …, \cos(t, P_P))` the score of a row is

    .. math:: s = \lVert v(x) - v(y) \rVert_2, \qquad
        p = \frac{\#\{\text{held-out references with a score} \ge s\} + 1}{n + 1},

    and it is dropped where p ≤ α. With ``alpha`` null it is dropped where prompt and answer have different nearest
    prototypes; of clean rows, that is most with 50 of them.

    It tells answers to something else, or a phrase in the place of an answer. A phrase of a few words at the end of an
    answer hardly moves the answer's mean, and comes through: see :class:`~lit_fed.defenses.PerplexityFilter`, which
    goes by the words. The prototypes are those of Bergman et al., "Robust Knowledge Distillation in Distributed LLMs
    Using Prototype-Constrained Semantic Defense Mechanisms", §3; the bound is a conformal one (Vovk et al.,
    "Algorithmic Learning in a Random World", 2005). Both are transposed to written answers here; no paper has them.

    Args:
        references: A table of clean rows, of which 30 % are held out where there is an ``alpha``. None: the public set
            of the data.
        language_model: It makes the vectors. None: the embedded decoder as it is.
        num_prototypes: P, at most as many as clean prompts and answers that differ.
        alpha: α in (0, 1). None: the nearest prototypes have to be the same, and no reference is held out.
        clients: Ids of the clients that it acts on. None: all.
        seed: Of the choice of the references that are held out, and of k-means++.

    Raises:
        ValueError: If a number is out of range; when a fit starts, if there are no references, some without an answer,
            fewer than prototypes or too few for α, the language model reads less than those that train, or rows are
            classified.

    Example:
        >>> PrototypeFilter(alpha=0.1).num_prototypes
        50
        >>> PrototypeFilter(num_prototypes=0)
        Traceback (most recent call last):
        ValueError: `trainer.attachments PrototypeFilter.num_prototypes` is expected to be at least 1, but got 0
    """

    _prototypes: PrototypeSet
    _means: tuple[Tensor, Tensor]

    def __init__(
        self,
        references: Source | None = None,
        language_model: ReferenceLanguageModel | None = None,
        num_prototypes: int = 50,
        alpha: float | None = 0.05,
        clients: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        if alpha is not None:
            require_inner_fraction(f"{self.setting}.alpha", alpha)
        super().__init__(references, language_model, alpha, clients, seed)
        self.num_prototypes = require_at_least(f"{self.setting}.num_prototypes", num_prototypes, 1)

    @property
    def fits(self) -> bool:
        """Always, since prototypes are."""
        return True

    def fit(self, references: Dataset) -> None:
        """Fit the language model, then prototypes of the vectors that it makes; see the base class.

        Raises:
            ValueError: If a reference has no words in its prompt or answer, or they are too few.
        """
        super().fit(references)
        vectors = self._vectors(references)
        if (count := 2 * len(references)) < self.num_prototypes:
            raise ValueError(
                f"`{self.setting}.num_prototypes` is expected to be at most {count}, the prompts and answers of the "
                f"{len(references)} references that are not held out, but got {self.num_prototypes}"
            )
        if bool((empty := ~(vectors[0].any(-1) & vectors[1].any(-1))).any()):
            raise ValueError(
                f"`{self.setting}.references` are expected to have a prompt and an answer that are read, but "
                f"{int(empty.sum())} of {len(references)} have not"
            )
        self._means = vectors[0].mean(0), vectors[1].mean(0)
        try:
            self._prototypes = fit_prototypes(
                torch.cat(self._centred(vectors)), None, self.num_prototypes, self.seed
            )
        except ValueError as error:
            raise ValueError(f"{self.setting}: {error}") from error

    def scores(self, rows: Dataset) -> Tensor:
        """How far the cosines of each row's prompt are from those of its answer, [N] in float64; infinite without one.

        Args:
            rows: N rows.
        """
        prompts, answers = self.cosines(rows)
        apart = torch.linalg.vector_norm(prompts - answers, dim=-1)
        return torch.where(answers.any(-1), apart, torch.inf)

    def cosines(self, rows: Dataset) -> tuple[Tensor, Tensor]:
        """The cosines of each row's prompt and of its answer with the prototypes, [N, P] each, in float64.

        Those of a prompt or an answer without tokens are 0.

        Args:
            rows: N rows.
        """
        prompts, answers = self._centred(self._vectors(rows))
        similarities = self._prototypes.similarities
        return similarities(prompts).double(), similarities(answers).double()

    def judge(self, client: Client, rows: Dataset) -> Inspection:
        """Drop the rows whose p-value is at most α; without α, those whose nearest prototypes differ."""
        if self.alpha is not None:
            return super().judge(client, rows)
        self.require_attached()
        prompts, answers = self.cosines(rows)
        told = (prompts + answers).isfinite().all(-1) & answers.any(-1)
        rejected = (prompts.argmax(-1) != answers.argmax(-1)) | ~told
        found: npt.NDArray[np.bool_] = rejected.numpy()
        return Inspection(rows, found)

    def _vectors(self, rows: Dataset) -> tuple[Tensor, Tensor]:
        """Of each row the means of the last states of its prompt's and its answer's tokens, [N, d] each."""
        features = self.encoded(rows)
        learnt = features.tokens["labels"] != IGNORED
        parts = [self._means_of(features, chosen) for chosen in (~learnt, learnt)]
        return parts[0], parts[1]

    def _means_of(self, features: Features, chosen: npt.NDArray[np.bool_]) -> Tensor:
        """Of each row the mean of the last states of the tokens that are chosen, read by themselves; 0 without any."""
        backbone, size = self.language_model.backbone, self.language_model.batch_size
        # without the head, whose logits over a vocabulary would be most of the memory
        body = backbone.model.base_model
        device = next(body.parameters()).device
        parts = [
            features.row("input_ids", i)[chosen[start:stop]].tolist()
            for i, (start, stop) in enumerate(pairwise(features.offsets))
        ]
        read = Features({"input_ids": parts}, {}, {"input_ids": padding_id(backbone.tokenizer)})
        read.padding_side = features.padding_side

        def run(places: list[int]) -> Tensor:
            batch = {name: one.to(device) for name, one in read.batch(places).items()}
            return mean_pool(body(**batch).last_hidden_state, batch["attention_mask"])

        with undisturbed(backbone):
            return length_sorted(read.lengths.tolist(), size, run)

    def _centred(self, vectors: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """The vectors without the mean of clean ones; those without tokens are 0 as before."""
        prompts, answers = (
            torch.where(vector.any(-1, keepdim=True), vector - mean, torch.zeros_like(mean))
            for vector, mean in zip(vectors, self._means, strict=True)
        )
        return prompts, answers
