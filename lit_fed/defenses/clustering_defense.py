"""Clustering defence: rows whose representation lies apart from most others of their label are dropped."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from lit_fed.data.columns import column_codes
from lit_fed.data.encodings.encoding import column_texts
from lit_fed.defenses.fitted_representation import FittedRepresentation
from lit_fed.defenses.input_defense import Inspection
from lit_fed.defenses.representation import Representation
from lit_fed.defenses.row_defense import RowDefense

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.client import Client
    from lit_fed.data import FederatedDataModule
    from lit_fed.module import FederatedModule


class ClusteringDefense(RowDefense):
    """What defences that cluster representations have in common: a row goes or stays by what the others are.

    Args:
        representation: What makes vectors of rows. None: the embedded encoder, fitted on the client's rows.
        text: The column of the text. None: the text, or both texts, that the model reads.
        text_pair: The column of the second text, where ``text`` is named. None: there is one text.
        label: The column of the labels. None: that of the data's encoding.
        clients: Ids of the clients that it acts on. None: all.
        seed: Of the representation and of the clustering.
    """

    compares_rows: ClassVar[bool] = True

    def __init__(
        self,
        representation: Representation | None = None,
        text: str | None = None,
        text_pair: str | None = None,
        label: str | None = None,
        clients: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(text, text_pair, label, clients, seed)
        self.representation = representation or FittedRepresentation()

    def attach(self, module: FederatedModule, data: FederatedDataModule) -> None:
        """Take the columns that are not named from the encoding of the data; see the base class.

        Raises:
            ValueError: If rows have no labels, within which the rows are clustered.
        """
        super().attach(module, data)
        if self.label is None:
            raise ValueError(
                f"`{self.setting}` expects rows with a label each, within which it clusters them, but "
                f"`data.encoding` {type(data.encoding).__name__} reads none"
            )

    @abstractmethod
    def suspects(
        self, vectors: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        """Which rows are dropped, bool [n].

        Args:
            vectors: The rows' representations, [n, d].
            labels: Their classes, from 0, [n].
        """

    def judge(self, client: Client, rows: Dataset) -> Inspection:
        """Drop the suspects among the client's rows.

        Raises:
            ValueError: If a text or a label is missing, or a vector is not finite.
        """
        texts = column_texts(rows, str(self.text), f"{self.setting}.text")
        pairs = None
        if self.text_pair is not None:
            pairs = column_texts(rows, self.text_pair, f"{self.setting}.text_pair")
        _, labels = column_codes(rows, str(self.label), f"{self.setting}.label")
        vectors = self.representation.vectors(texts, pairs, labels, self.seed)
        if not np.isfinite(vectors).all():
            raise ValueError(
                f"`{self.setting}.representation` is expected to give finite vectors, but those of "
                f"{int((~np.isfinite(vectors).all(-1)).sum())} of {len(rows)} rows are not: a learning rate may be too "
                "high"
            )
        return Inspection(rows, self.suspects(vectors, labels))
