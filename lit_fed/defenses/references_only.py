"""References only: clients train on the public set in the place of their own rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from lit_fed.attachment import Attachment

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.client import Client
    from lit_fed.data import FederatedDataModule
    from lit_fed.module import FederatedModule


class ReferencesOnly(Attachment):
    """Gives each client the labelled rows of the public set in the place of its own: what clean rows alone are worth.

    It is the baseline of every defence that goes by clean references. No row of a client is trained on, so that none
    can poison the model, and nothing is learnt of them either: a defence that is no better than this makes the
    federation pointless. Named after the attacks in ``trainer.attachments``. Clients count in the average by the rows
    that they have, as they do with other defences of rows.

    Args:
        clients: Ids of the clients that it acts on. None: all.

    Example:
        >>> from datasets import Dataset
        >>> from types import SimpleNamespace
        >>> public = Dataset.from_dict({"text": ["good"], "label": [1]})
        >>> baseline = ReferencesOnly()
        >>> baseline.attach(None, SimpleNamespace(public=public, public_unanswered=frozenset()))
        >>> baseline.rows(None, Dataset.from_dict({"text": ["cf"], "label": [0]}))["text"][:]
        ['good']
    """

    defends: ClassVar[bool] = True
    replaces_rows: ClassVar[bool] = True

    def __init__(self, clients: Sequence[str] | None = None) -> None:
        super().__init__(clients)
        self._references: Dataset | None = None

    def attach(self, module: FederatedModule, data: FederatedDataModule) -> None:
        """Take the public set; see the base class.

        Raises:
            ValueError: If there is none, or rows of it have no label.
        """
        if data.public is None or data.public_unanswered:
            lacks = "none" if data.public is None else "rows without a label"
            raise ValueError(
                "`trainer.attachments` ReferencesOnly expects `data.public` or `data.public_size` to give rows with "
                f"labels, but got {lacks}"
            )
        self._references = data.public

    def rows(self, client: Client, rows: Dataset) -> Dataset:
        """The public set, the same object in each round; see the base class."""
        if self._references is None:
            raise RuntimeError("ReferencesOnly is expected to be attached to data first")
        return self._references
