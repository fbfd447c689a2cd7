"""Row defence: what drops or cleans a client's training rows before they are trained on."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from lit_fed.attachment import Attachment
from lit_fed.data.columns import column_values, require_column, row_ids, select_rows, written_values
from lit_fed.defenses.input_defense import Inspection
from lit_fed.defenses.kept_rows import KeptRows
from lit_fed.defenses.read_texts import read_texts
from lit_fed.limits import require_at_least
from lit_fed.payload import Payload

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.client import Client
    from lit_fed.data import FederatedDataModule
    from lit_fed.module import FederatedModule


class RowDefense(Attachment):
    """Drops or cleans a client's rows, once for each set of rows, and counts what is kept of each class.

    Named after the attacks in ``trainer.attachments``, it sees the rows that they have made. The rows are judged where
    the client is, and the counts stay with the client's state: the callback ``RowDefenseReport``, which every run has,
    puts them into the round's row and the summary. A client counts in the average by the rows that it has, whatever is
    dropped of them. What is random in a defence is drawn by ``seed``, so that a run that goes on finds the same rows.
    A subclass whose choice of a row depends on the client's other rows sets ``compares_rows``.

    Args:
        text: The column of the text. None: the text, or both texts, that the model reads.
        text_pair: The column of the second text, where ``text`` is named. None: there is one text.
        label: The column of the labels. None: that of the data's encoding; rows without labels are counted alike.
        clients: Ids of the clients that it acts on. None: all.
        seed: Of what is random in the defence.

    Example:
        >>> from datasets import Dataset
        >>> from lit_fed import Client
        >>> class WithoutTrigger(RowDefense):
        ...     '''Drops rows with the word cf.'''
        ...     def judge(self, client, rows):
        ...         return Inspection(rows, np.array(["cf" in text.split() for text in rows["text"]]))
        >>> rows = Dataset.from_dict({"text": ["a cf", "b"], "label": [0, 1]})
        >>> defence, client = WithoutTrigger(text="text", text_pair=None), Client("a", 0, 2, 0, 0, 0)
        >>> defence.rows(client, rows)["text"][:], defence.rows(client, rows) is defence.rows(client, rows)
        (['b'], True)
    """

    defends: ClassVar[bool] = True

    def __init__(
        self,
        text: str | None = None,
        text_pair: str | None = None,
        label: str | None = None,
        clients: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(clients)
        self._named = text, text_pair, label
        self.text, self.text_pair, self.label = text, text_pair, label
        self.seed = require_at_least(f"trainer.attachments {type(self).__name__}.seed", seed, 0)
        self._made: dict[tuple[str, str], tuple[Dataset, KeptRows]] = {}
        self._last: dict[str, KeptRows] = {}

    @abstractmethod
    def judge(self, client: Client, rows: Dataset) -> Inspection:
        """Which rows are dropped, and what is left of the others' texts.

        Torch's and NumPy's global generators are seeded, and restored afterwards.

        Args:
            client: The client.
            rows: Its rows, at least one.
        """

    def attach(self, module: FederatedModule, data: FederatedDataModule) -> None:
        """Take the columns that are not named from the encoding of the data; see the base class.

        Raises:
            ValueError: If ``text`` is to be what a model reads, and it reads no texts.
        """
        self.forget()
        self.text, self.text_pair, self.label = self._named
        rows = next((client.rows for client in data.clients if len(client.rows)), None)
        if self.text is None and rows is not None:
            self.text, self.text_pair = read_texts(data.encoding, rows, f"{self.setting}.text")
        if self.label is None:
            self.label = data.encoding.label_column

    def forget(self) -> None:
        """Forget what was said of rows, by what may be other columns and references now."""
        self._made, self._last = {}, {}

    @property
    def setting(self) -> str:
        """What names it in messages."""
        return f"trainer.attachments {type(self).__name__}"

    def rows(self, client: Client, rows: Dataset) -> Dataset:
        """The client's rows without those that are dropped; the same object for the same rows.

        Raises:
            ValueError: If a column is missing, or no row is left; the client is left out of its round then.
        """
        if not len(rows):
            return rows
        key = (client.id, rows._fingerprint)
        if key not in self._made:
            self._made[key] = self._judged(client, rows)
        kept, counts = self._made[key]
        self._last[client.id] = replace(counts, round=client.round)
        return kept

    def upload(
        self, client: Client, upload: Payload, broadcast: Payload, memory: Payload
    ) -> tuple[Payload, Payload]:
        """The upload as it is; what was counted is kept with the client."""
        counts = self._last.get(client.id)
        return upload, memory if counts is None else counts.to_payload()

    def _judged(self, client: Client, rows: Dataset) -> tuple[Dataset, KeptRows]:
        setting = self.setting
        for name in ("text", "text_pair", "label"):
            if (column := getattr(self, name)) is not None:
                require_column(rows, column, f"{setting}.{name}", f"the rows of {client.id!r}")
        with _seeded(self.seed):
            found = self.judge(client, rows)
        if found.rejected.all():
            raise ValueError(
                f"`{setting}` is expected to leave rows of client {client.id!r}, but drops all {len(rows)}"
            )
        changed = np.zeros(len(rows), bool)
        if found.rows is not rows:
            if self.text is None:
                raise RuntimeError(f"{setting} expects attach() before the first rows, or `text`")
            before, after = (column_values(table, self.text) for table in (rows, found.rows))
            changed = np.array([one != other for one, other in zip(before, after, strict=True)])
        labels: Sequence[str | None] = [None] * len(rows)
        if self.label is not None:
            labels = written_values(rows, self.label, f"{setting}.label")
        counts = KeptRows.counted(
            type(self).__name__, labels, found.rejected, changed, row_ids(rows), client.round
        )
        if not found.rejected.any():
            return found.rows, counts
        return select_rows(found.rows, np.flatnonzero(~found.rejected)), counts


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Within the block global generators start from a seed; afterwards they go on as if nothing had been drawn."""
    state = np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)
            yield
    finally:
        np.random.set_state(state)
