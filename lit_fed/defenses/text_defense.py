"""Text defence: an input defence that goes by one text of each row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lit_fed.defenses.input_defense import InputDefense
from lit_fed.defenses.read_texts import read_texts

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.data import Encoding


class TextDefense(InputDefense):
    """An input defence that cleans, or goes by, one text of each row.

    Args:
        text: The column of the text. None: the first that the model reads.
    """

    def __init__(self, text: str | None = None) -> None:
        self._named = text
        self.text = text

    def attach(self, encoding: Encoding, rows: Dataset) -> None:
        """Take the first text that the model reads, where no column is named; see the base class."""
        self.text = self._named
        if self._named is None:
            self.text, _ = read_texts(encoding, rows, f"{type(self).__name__}.text")

    @property
    def column(self) -> str:
        """The column of the text.

        Raises:
            RuntimeError: If it is neither named nor known from the data's encoding yet.
        """
        if self.text is None:
            raise RuntimeError(
                f"{type(self).__name__} expects attach() before the first rows, or `text`"
            )
        return self.text
