"""ONION of training rows: suspicious words are removed before a client trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lit_fed.data.clean_references import clean_references
from lit_fed.data.sources.source import Source
from lit_fed.defenses.input_defense import Inspection
from lit_fed.defenses.onion import ONION
from lit_fed.defenses.row_defense import RowDefense

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.client import Client
    from lit_fed.data import FederatedDataModule
    from lit_fed.module import FederatedModule


class ONIONRows(RowDefense):
    """Removes suspicious words from a client's training rows, by a threshold found on clean references.

    The rows themselves stay, with their labels: a row whose trigger is removed teaches a wrong label for a text
    without a trigger. See :class:`~lit_fed.defenses.ONION`.

    Args:
        references: A table of clean rows. None: the public set of the data.
        onion: The defence; its ``text`` names the column that is cleaned, its ``word_rate`` the threshold.
        label: The column of the labels, by which what is kept is counted. None: that of the data's encoding.
        clients: Ids of the clients that it acts on. None: all.

    Raises:
        ValueError: When a fit starts, if there are no references or they have no such column, or if the language model
            has no token that begins or ends a text.

    Example:
        >>> from lit_fed.data import EmbeddedMistakes
        >>> ONIONRows(EmbeddedMistakes("validation")).onion.word_rate
        0.05
    """

    def __init__(
        self,
        references: Source | None = None,
        onion: ONION | None = None,
        label: str | None = None,
        clients: Sequence[str] | None = None,
    ) -> None:
        self.onion = onion or ONION()
        super().__init__(self.onion.text, None, label, clients)
        self.references = references
        self._fitted_on: tuple[str, str | None] | None = None

    def attach(self, module: FederatedModule, data: FederatedDataModule) -> None:
        """Take the column that is cleaned, and fit on the references, once, before anything trains."""
        super().attach(module, data)
        self.onion.text = self.text
        references = clean_references(self.references, data, f"{self.setting}.references")
        if self._fitted_on != (key := (references._fingerprint, self.text)):
            self.onion.fit_words(references)
            self._fitted_on = key

    def judge(self, client: Client, rows: Dataset) -> Inspection:
        """The rows without suspicious words; none is dropped."""
        return Inspection(self.onion.cleaned(rows), np.zeros(len(rows), bool))
