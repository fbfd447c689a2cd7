"""The attack by wrong labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lit_fed.attacks.row_poisoning import RowPoisoning
from lit_fed.attacks.target_labels import KnownLabels
from lit_fed.client import Client
from lit_fed.data.columns import column_values, in_memory_with_values, row_ids

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.data import FederatedDataModule
    from lit_fed.module import FederatedModule


class LabelFlipping(RowPoisoning):
    """Gives rows of malicious clients another label, of one class or of all.

    Tolpegin et al., "Data Poisoning Attacks Against Federated Learning Systems", 2020, §3,
    https://arxiv.org/abs/2007.08432, where all rows of the source class become the target's.

    Args:
        source: The label of the rows, by its name, or its number where labels have no names. None: any but the target.
        target: What they are called. None: each another label than its own, drawn by the seed.
        rate: The share of those rows *of the malicious clients* that are flipped, above 0 and at most 1.
        consistent: In place of a drawn one, every row has the label that comes next after its own in number, and the
            last the first: whoever learns them is sure of what is wrong. For no ``target``.
        **kwargs: Which clients and rows, and until when; see :class:`RowPoisoning`.

    Raises:
        ValueError: If a number is out of range, ``source`` is ``target``, or ``consistent`` has one; before a fit, if
            there is no such label, rows have one label alone, or the rate gives no row.

    Example:
        >>> from datasets import Dataset
        >>> from lit_fed import FedAvg
        >>> from lit_fed.data import ClassificationEncoding, FederatedDataModule
        >>> rows = Dataset.from_dict({"text": list("abcd"), "label": ["yes", "no", "yes", "no"]})
        >>> data = FederatedDataModule(
        ...     rows, encoding=ClassificationEncoding("text", None), num_clients=1, validation_fraction=0
        ... )
        >>> data.setup()
        >>> attack = LabelFlipping(source="no", target="yes")
        >>> attack.attach(FedAvg(), data)
        >>> attack.rows(Client("client-0", 0, 4, 0, 0, 0), data.clients[0].rows)["label"][:]
        ['yes', 'yes', 'yes', 'yes']
    """

    def __init__(
        self,
        source: str | int | None = None,
        target: str | int | None = None,
        rate: float = 1.0,
        consistent: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(rate, **kwargs)
        if source is not None and str(source) == str(target):
            raise ValueError(
                f"{self.setting} expects `source` and `target` to differ, but both are {target!r}"
            )
        if consistent and target is not None:
            raise ValueError(
                f"{self.setting} expects no `target` where `consistent` is true, but got {target!r}"
            )
        self.source = source
        self.target = target
        self.consistent = consistent
        self._labels: KnownLabels | None = None

    def attach(self, module: FederatedModule, data: FederatedDataModule) -> None:
        """Find both labels, and choose the rows."""
        tables = [client.rows for client in data.clients]
        self._labels = labels = KnownLabels.of(data.encoding, tables, self.setting)
        if len(labels.values) < 2:
            raise ValueError(
                f"{self.setting} expects training rows of two labels at least, but all are {min(labels.numbers)!r}"
            )
        self._source, self._target = (
            None if label is None else labels.number(label, f"{self.setting}.{name}")
            for name, label in (("source", self.source), ("target", self.target))
        )
        super().attach(module, data)

    @property
    def labels(self) -> KnownLabels:
        """The labels that there are.

        Raises:
            RuntimeError: Before :meth:`attach`.
        """
        if self._labels is None:
            raise RuntimeError(f"{self.setting} is expected to be attached to data before it acts")
        return self._labels

    def rated(self, rows: int, eligible: int) -> int:
        """Of the malicious clients' rows of the source."""
        return eligible

    def eligible(self, rows: Dataset) -> npt.NDArray[np.bool_]:
        """Rows of the source; where there is none, all that are not the target's."""
        numbers = self.labels.of_rows(rows)
        if self._source is not None:
            return np.equal(numbers, self._source)
        if self._target is not None:
            return np.not_equal(numbers, self._target)
        return np.ones(len(rows), dtype=bool)

    def poisoned(self, client: Client, rows: Dataset, positions: Sequence[int]) -> Dataset:
        """Write the other labels."""
        labels = self.labels
        values = column_values(rows, labels.column)
        known, own, ids = sorted(labels.values), labels.of_rows(rows), row_ids(rows)
        for i in positions:
            flipped = self._target
            if self.consistent:
                flipped = known[(known.index(own[i]) + 1) % len(known)]
            elif flipped is None:
                others = [number for number in known if number != own[i]]
                draw = np.random.default_rng([self.seed, client.index, int(ids[i])])
                flipped = others[int(draw.integers(len(others)))]
            values[i] = labels.values[flipped]
        return in_memory_with_values(rows, labels.column, values)
