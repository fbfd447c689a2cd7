"""ONION of training rows: suspicious words are removed before a client trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lit_fed.data.sources.source import Source
from lit_fed.defenses.input_defense import Inspection
from lit_fed.defenses.onion import ONION
from lit_fed.defenses.row_defense import RowDefense

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.client import Client


class ONIONRows(RowDefense):
    """Removes suspicious words from a client's training rows, by a threshold found on clean references.

    The rows themselves stay, with their labels: a row whose trigger is removed teaches a wrong label for a text
    without a trigger. See :class:`~lit_fed.defenses.ONION`.

    Args:
        references: A table of clean rows.
        onion: The defence; its ``text`` names the column that is cleaned, its ``word_rate`` the threshold.
        label: The column of the labels, by which what is kept is counted.
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
        references: Source,
        onion: ONION | None = None,
        label: str = "label",
        clients: Sequence[str] | None = None,
    ) -> None:
        self.onion = onion or ONION()
        super().__init__(self.onion.text, None, label, clients)
        self.references = references
        self._ready = False

    def setup(self, clients: Sequence[str]) -> None:
        """Fit on the references, once, before anything trains."""
        if not self._ready:
            self.onion.fit_words(self.references.load())
            self._ready = True

    def judge(self, client: Client, rows: Dataset) -> Inspection:
        """The rows without suspicious words; none is dropped."""
        return Inspection(self.onion.cleaned(rows), np.zeros(len(rows), bool))
