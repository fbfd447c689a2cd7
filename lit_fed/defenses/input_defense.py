"""Input defence: what is done at test time to texts before a model answers them, and which of them are refused."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.data import Encoding

Classify = Callable[["Dataset"], npt.NDArray[np.floating]]
"""A model's probabilities for rows, [n, C]."""


@dataclass(frozen=True)
class Inspection:
    """What a defence makes of rows.

    Attributes:
        rows: What the model is to read: the same rows, or cleaned ones, in the same order.
        rejected: Whether each row is refused, bool [n].
    """

    rows: Dataset
    rejected: npt.NDArray[np.bool_]


class InputDefense(ABC):
    """Cleans the inputs of a deployed model, or refuses those that look like an attack.

    It sees the model by its probabilities alone. :meth:`fit` is given clean rows, once for each model; what it learns
    of them, such as a threshold, holds for :meth:`inspect` until the next fit.

    Example:
        >>> from datasets import Dataset
        >>> class Shorter(InputDefense):
        ...     '''Refuses texts of more than 9 characters.'''
        ...     def inspect(self, classify, rows):
        ...         return Inspection(rows, np.array([len(text) > 9 for text in rows["text"]]))
        >>> rows = Dataset.from_dict({"text": ["good", "good cf cf cf"]})
        >>> Shorter().inspect(lambda rows: np.ones((len(rows), 1)), rows).rejected.tolist()
        [False, True]
    """

    # Not abstract: what is told its column needs no other.
    def attach(self, encoding: Encoding, rows: Dataset) -> None:  # noqa: B027
        """Take the columns that are not named from what the model reads. Default: nothing.

        Args:
            encoding: Of the data.
            rows: A table of them.

        Raises:
            ValueError: If the model reads no texts.
        """

    # Not abstract: what has a threshold of its own learns nothing.
    def fit(self, classify: Classify, references: Dataset) -> None:  # noqa: B027
        """Learn what clean rows look like. Default: nothing.

        Args:
            classify: The model.
            references: Clean rows, of the validation split.

        Raises:
            ValueError: If there are none, or they lack a column.
        """

    @abstractmethod
    def inspect(self, classify: Classify, rows: Dataset) -> Inspection:
        """What the model is to read of rows, and which of them are refused.

        Args:
            classify: The model.
            rows: n rows.
        """
