"""Records: the base class of what makes conversations of rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from datasets import Dataset

Message = dict[str, str]
"""A turn of a conversation as chat templates take it: ``role`` (system, user, assistant) and ``content``."""

Conversation = list[Message]
"""Turns in their order."""


class Records(ABC):
    """How a row is a conversation.

    Attributes:
        optional: Settings that may be null, by which an error says so.
    """

    optional: ClassVar[frozenset[str]] = frozenset()

    @property
    @abstractmethod
    def columns(self) -> Mapping[str, str]:
        """The columns it reads, by the setting that names them."""

    @property
    @abstractmethod
    def wording(self) -> Mapping[str, str]:
        """What it writes around the columns' texts, by the setting: part of a template's digest."""

    @property
    def response_column(self) -> str | None:
        """The column with the response alone; None where it stands among the other turns."""
        return None

    @abstractmethod
    def conversations(self, rows: Dataset) -> list[Conversation]:
        """Each row's turns; the last one may be the user's, and any of them blank.

        Raises:
            RowError: If a value is missing or of a wrong type, or a role is unknown.
        """

    @abstractmethod
    def with_responses(self, rows: Dataset, texts: Sequence[str]) -> Dataset:
        """The rows with other texts as the assistant's last turns that are not blank."""

    @abstractmethod
    def with_hints(self, rows: Dataset, hints: Sequence[str]) -> Dataset:
        """The rows up to those turns, with a text more at the end of the user's before them."""

    def answered(self, rows: Dataset) -> tuple[Dataset, frozenset[int]]:
        """Rows of which those that end with another's turn have one of the assistant, and their positions."""
        return rows, frozenset()
