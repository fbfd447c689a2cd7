"""What a client holds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lit_fed.data.tables import rows_of_tasks

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class ClientData:
    """The rows of a client.

    Attributes:
        id: Name of the client, unique in the federation.
        rows: Its training rows, at least one; of a single task there may be none.
        validation: Its own held-out rows, if it has any.
        group: With which others it is reported, by ``data.client_groups``; None where there are no groups.
    """

    id: str
    rows: Dataset
    validation: Dataset | None = None
    group: str | None = None

    def of_task(self, task: str) -> ClientData:
        """What it holds of one task, by the column ``task``."""
        held_out = None if self.validation is None else rows_of_tasks(self.validation, [task])
        return replace(
            self, rows=rows_of_tasks(self.rows, [task]), validation=held_out if held_out else None
        )
