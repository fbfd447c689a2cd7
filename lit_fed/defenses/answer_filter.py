"""Answer filter: rows whose answer is stranger than all but a share of clean ones are dropped."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
from torch import Tensor

from lit_fed.data.clean_references import clean_references
from lit_fed.data.sources.source import Source
from lit_fed.defenses.input_defense import Inspection
from lit_fed.defenses.reference_language_model import ReferenceLanguageModel
from lit_fed.defenses.row_defense import RowDefense
from lit_fed.limits import require_instance
from lit_fed.prototypes.gates import conformal_p_values, fewest_calibrated

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.client import Client
    from lit_fed.data import Encoding, FederatedDataModule
    from lit_fed.data.features import Features
    from lit_fed.module import FederatedModule

_HELD_OUT: Final = 0.3


class AnswerFilter(RowDefense):
    r"""What defences of rows with written answers have in common: a score, and how high it is among clean references.

    A row with score s is dropped where

    .. math:: p = \frac{\#\{\text{held-out references with a score} \ge s\} + 1}{n + 1} \le \alpha,

    so about a share α of clean rows is lost, if they are like the references (Vovk et al., "Algorithmic Learning in a
    Random World", 2005). A row whose score is not finite is dropped. What is judged of a row are the tokens that are
    learnt, as the encoding writes and cuts them for the language model, which has to read as many as those that train.

    Args:
        references: A table of clean rows. None: the public set of the data.
        language_model: What reads rows. None: the embedded decoder as it is.
        alpha: α in (0, 1). None: a subclass drops by a rule of its own, and nothing is calibrated.
        clients: Ids of the clients that it acts on. None: all.
        seed: Of the choice of the references that are held out, 30 % where others are fitted on.
    """

    encoding: Encoding
    _most: int

    def __init__(
        self,
        references: Source | None,
        language_model: ReferenceLanguageModel | None,
        alpha: float | None,
        clients: Sequence[str] | None,
        seed: int,
    ) -> None:
        super().__init__(clients=clients, seed=seed)
        self.references = references
        require_instance(f"{self.setting}.language_model", language_model, ReferenceLanguageModel)
        self.language_model = language_model or ReferenceLanguageModel()
        self.alpha = alpha
        self._calibration: Tensor | None = None
        self._fitted_on: tuple[str, Encoding, int] | None = None

    @property
    def fits(self) -> bool:
        """Whether something is fitted on references, of which others are held out then."""
        return bool(self.language_model.steps)

    def fit(self, references: Dataset) -> None:
        """Fit the language model; a subclass also what else it scores by.

        Args:
            references: Clean rows, at least one, none of which scores are calibrated on.
        """
        if self.language_model.steps:
            self.language_model.fit_rows(self.encoded(references))

    @abstractmethod
    def scores(self, rows: Dataset) -> Tensor:
        """How strange each row's answer is, [N] in float64.

        Args:
            rows: N rows.
        """

    def attach(self, module: FederatedModule, data: FederatedDataModule) -> None:
        """Fit on the references, and find the scores of those that are held out; see the base class.

        Raises:
            ValueError: If rows have no texts as answers, the language model reads less of a row than is learnt, or the
                references are not there, not enough, some without an answer, or have a score that is not finite.
        """
        if data.encoding.prompts(next(iter(data.clients)).rows.select([])) is None:
            raise ValueError(
                f"`{self.setting}` expects rows whose answers are texts, but `data.encoding` is "
                f"{type(data.encoding).__name__}"
            )
        self.forget()
        self.encoding, self._most = data.encoding, data.longest_row
        read = self.language_model.backbone.max_tokens
        if read is not None and read < self._most:
            raise ValueError(
                f"`{self.setting}.language_model` is expected to read the {self._most} tokens that a row may have "
                f"(`data.max_length`), but reads {read}: what is behind them would be learnt and not judged"
            )
        setting = f"{self.setting}.references"
        references = clean_references(self.references, data, setting, answered=True)
        data.encoding.require_columns(references, setting)
        key = (references._fingerprint, data.encoding, self._most)
        if self._fitted_on != key:
            self._fitted_on = None
            self._calibration = self._calibrated(references)
            self._fitted_on = key

    def judge(self, client: Client, rows: Dataset) -> Inspection:
        """Drop the rows whose p-value is at most α.

        Raises:
            RuntimeError: Before :meth:`attach`.
        """
        self.require_attached()
        if self._calibration is None or self.alpha is None:
            raise RuntimeError(f"{self.setting} expects `alpha`, or a rule of its own")
        scores = self.scores(rows)
        rejected = (
            conformal_p_values(scores, self._calibration) <= self.alpha
        ) | ~scores.isfinite()
        found: npt.NDArray[np.bool_] = rejected.numpy()
        return Inspection(rows, found)

    def require_attached(self) -> None:
        """Raise before :meth:`attach`.

        Raises:
            RuntimeError: If it has not been called.
        """
        if self._fitted_on is None:
            raise RuntimeError(f"{self.setting} expects attach() before the first rows")

    def encoded(self, rows: Dataset) -> Features:
        """Rows as the language model reads them when it is trained.

        Args:
            rows: N rows.
        """
        backbone = self.language_model.backbone
        features = self.encoding.encode(rows, backbone.tokenizer, self._most)
        features.padding_side = "left" if backbone.tokenizer.padding_side == "left" else "right"
        return features

    def _calibrated(self, references: Dataset) -> Tensor | None:
        """Fit; the scores of the references that nothing is fitted on, ascending."""
        if not len(references):
            raise ValueError(
                f"`{self.setting}.references` are expected to have rows, but have none"
            )
        held_out = references
        if self.fits:
            order = np.random.default_rng(self.seed).permutation(len(references))
            number = 0 if self.alpha is None else round(_HELD_OUT * len(references))
            held_out = references.select(np.sort(order[:number]))
            self.fit(references.select(np.sort(order[number:])))
        if self.alpha is None:
            return None
        if len(held_out) < (least := fewest_calibrated(self.alpha)):
            raise ValueError(
                f"`{self.setting}.references` are expected to leave at least {least} rows for its "
                f"calibration, below which no p-value is as small as `alpha` {self.alpha:g}, but leave {len(held_out)}"
            )
        scores = self.scores(held_out)
        if bool((unknown := ~scores.isfinite()).any()):
            raise ValueError(
                f"`{self.setting}.references` are expected to have a finite score each, but {int(unknown.sum())} of "
                f"{len(scores)} have none: no token of their answer is read, or `language_model` has diverged (`lr`)"
            )
        return scores.sort().values
