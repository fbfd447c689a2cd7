"""What a client holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class ClientData:
    """The rows of a client.

    Attributes:
        id: Name of the client, unique in the federation.
        rows: Its training rows, at least one.
        validation: Its own held-out rows, if it has any.
    """

    id: str
    rows: Dataset
    validation: Dataset | None = None
