"""What attacks on uploads share: which clients are malicious, and what they do to their change."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from torch import Tensor

from lit_fed.attachment import Attachment
from lit_fed.client import Client
from lit_fed.configuration_error import ConfigurationError
from lit_fed.limits import require_at_least
from lit_fed.payload import Payload


class UpdateAttack(Attachment):
    """Malicious clients train as the others do and send something else in place of their change θ_k − θ_g.

    Who they are is in the run's summary. An update that is beyond ``trainer.max_update_norm_ratio`` times the round's
    median norm is left out before any rule sees it: set it to null where a rule is to be tried. What compresses uploads
    comes after attacks in ``trainer.attachments``.

    Args:
        clients: Ids of the malicious clients.
        count: How many of all clients are malicious, drawn by the seed, in place of ``clients``: an integer
            is a count, a float a share, of which at least one client is left.
        seed: Of the draw, and of what is random in an attack.

    Raises:
        ValueError: If not exactly one of ``clients`` and ``count`` is given, or ``count`` is out of range.
    """

    acts_on_changes: ClassVar[bool] = True

    def __init__(
        self,
        clients: Sequence[str] | None = None,
        count: int | float | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(clients)
        kind = type(self).__name__
        if (clients is None) == (count is None):
            raise ValueError(
                f"`trainer.attachments` {kind} expects either `clients` or `count`, but got "
                f"{'none' if clients is None else 'both'} of them"
            )
        if isinstance(count, float) and not 0 < count <= 1:
            raise ValueError(
                f"`trainer.attachments` {kind} expects `count` as a share to be above 0 and at most 1, but got {count}"
            )
        if isinstance(count, int):
            require_at_least(f"trainer.attachments {kind}.count", count, 1)
        self.count = count
        self.seed = seed

    def setup(self, clients: Sequence[str]) -> None:
        """Draw who is malicious, where that is not given.

        Raises:
            ValueError: If there are fewer clients than are to be drawn.
        """
        if self.count is None:
            return
        number = self.count
        if isinstance(number, float):
            number = max(1, round(number * len(clients)))
        if number > len(clients):
            raise ValueError(
                f"`trainer.attachments` {type(self).__name__} expects `count` to be at most the {len(clients)} clients "
                f"there are, but got {number}"
            )
        drawn = np.random.default_rng(self.seed).choice(len(clients), number, replace=False)
        self.clients = frozenset(clients[i] for i in drawn)

    def upload(
        self, client: Client, upload: Payload, broadcast: Payload, memory: Payload
    ) -> tuple[Payload, Payload]:
        """Send another change of what was downloaded; parts, strings and whole numbers stay as they are.

        Raises:
            ConfigurationError: If the client sends no weights, or weights that it has not downloaded.
        """
        before = broadcast.tensors
        sent = {name: t for name, t in upload.tensors.items() if t.is_floating_point()}
        kind = f"`trainer.attachments` {type(self).__name__}"
        if not sent:
            raise ConfigurationError(
                f"{kind} expects clients to send weights, but {client.id!r} sends none"
            )
        for name, tensor in sent.items():
            if name not in before or before[name].shape != tensor.shape:
                raise ConfigurationError(
                    f"{kind} acts on the change of what clients have downloaded, but {client.id!r} sends {name!r}, "
                    "which it has not downloaded as it is: name attacks before what compresses uploads, and "
                    "attack no rule whose clients start anew"
                )
        changes = {name: tensor.double() - before[name].double() for name, tensor in sent.items()}
        for name, change in self.change(client, changes).items():
            sent[name] = (before[name].double() + change).to(sent[name].dtype)
        return Payload({**upload.tensors, **sent}, upload.strings, upload.parts), memory

    @abstractmethod
    def change(self, client: Client, changes: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """What a malicious client sends in place of its change.

        Args:
            client: The client.
            changes: θ_k − θ_g by the tensors' names, in float64.
        """
