"""Reader: what the data needs to know of a model that reads its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Reader(Protocol):
    """What the data needs to know of a model that reads its rows; a backbone is one."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Its tokenizer."""

    @property
    def num_labels(self) -> int | None:
        """Labels that it knows; None where it does not classify."""

    @property
    def label_names(self) -> list[str] | None:
        """Names of the labels that it knows, in their order; None where it does not classify or has but numbers."""

    def name_labels(self, names: Sequence[str]) -> None:
        """Take names for its first labels, in their order."""

    def end_with(self, tokens: Sequence[int]) -> None:
        """Take tokens that end an answer, where it generates."""

    def write_with(self, chat_template: str) -> None:
        """Take the template of its rows, for whoever generates with it."""

    @property
    def packs(self) -> bool:
        """Whether it reads several rows in one sequence as if each were alone."""

    @property
    def trains(self) -> bool:
        """Whether anything of it trains; a frozen model, such as a teacher, keeps its names of labels."""

    @property
    def max_tokens(self) -> int | None:
        """Tokens that a row may have; None where there is no limit."""

    @property
    def id_limits(self) -> Mapping[str, int]:
        """How many ids it knows, by the fields of a batch that have a limit: each id has to be below."""

    @property
    def classifies(self) -> bool | None:
        """Whether it gives a row one label, or each token one; None where that is not known."""


@dataclass(frozen=True)
class PlainReader:
    """A reader by its parts, for a model that is no backbone.

    Args:
        tokenizer: Its tokenizer.
        num_labels: Labels that it knows. None: it does not classify.
        max_tokens: Tokens that a row may have. None: any number.
        classifies: Whether it gives a row one label, or each token one. None: it is not known.
        id_limits: How many ids it knows, by the fields of a batch.
        label_names: Names of its labels in their order. None: it has none but numbers.
        trains: Whether anything of it trains.
        packs: Whether it reads several rows in one sequence as if each were alone.
    """

    tokenizer: PreTrainedTokenizerBase
    num_labels: int | None = None
    max_tokens: int | None = None
    classifies: bool | None = None
    id_limits: Mapping[str, int] = field(default_factory=dict)
    label_names: list[str] | None = None
    trains: bool = True
    packs: bool = False

    def name_labels(self, names: Sequence[str]) -> None:
        """Nothing: its names are as they were given."""

    def end_with(self, tokens: Sequence[int]) -> None:
        """Nothing: it does not generate."""

    def write_with(self, chat_template: str) -> None:
        """Nothing: it does not generate."""
