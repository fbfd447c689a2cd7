"""What attacks on uploads share: malicious clients send something else in place of their change."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from lit_fed.attacks.attack import Attack
from lit_fed.client import Client
from lit_fed.configuration_error import ConfigurationError
from lit_fed.payload import Payload


class UpdateAttack(Attack):
    """Malicious clients train as the others do and send something else in place of their change θ_k − θ_g.

    Who they are is in the run's summary. An update that is beyond ``trainer.max_update_norm_ratio`` times the round's
    median norm is left out before any rule sees it: set it to null where a rule is to be tried. What compresses uploads
    comes after attacks in ``trainer.attachments``.

    Args:
        clients: Ids of the malicious clients.
        count: How many of all clients are malicious, drawn by the seed, in place of ``clients``: an integer
            is a count, a float a share, of which at least one client is left.
        seed: Of the draw, and of what is random in an attack.
        until: Rounds in which the attack lasts, from the first on. None: all.

    Raises:
        ValueError: If not exactly one of ``clients`` and ``count`` is given, or ``count`` is out of range.
    """

    acts_on_changes: ClassVar[bool] = True

    def __init__(
        self,
        clients: Sequence[str] | None = None,
        count: int | float | None = None,
        seed: int = 0,
        until: int | None = None,
    ) -> None:
        super().__init__(clients, count, seed, until)
        if clients is None and count is None:
            raise ValueError(
                f"{self.setting} expects either `clients` or `count`, but got none of them"
            )

    def upload(
        self, client: Client, upload: Payload, broadcast: Payload, memory: Payload
    ) -> tuple[Payload, Payload]:
        """Send another change of what was downloaded; parts, strings and whole numbers stay as they are.

        Raises:
            ConfigurationError: If the client sends no weights, or weights that it has not downloaded.
        """
        before = broadcast.tensors
        sent = {name: t for name, t in upload.tensors.items() if t.is_floating_point()}
        if not sent:
            raise ConfigurationError(
                f"{self.setting} expects clients to send weights, but {client.id!r} sends none"
            )
        for name, tensor in sent.items():
            if name not in before or before[name].shape != tensor.shape:
                raise ConfigurationError(
                    f"{self.setting} acts on the change of what clients have downloaded, but {client.id!r} sends "
                    f"{name!r}, which it has not downloaded as it is: name attacks before what compresses uploads, and "
                    "attack no rule whose clients start anew"
                )
        starts = {name: before[name].double() for name in sent}
        changes = {name: tensor.double() - starts[name] for name, tensor in sent.items()}
        malicious, kept = self.changed(client, changes, broadcast, memory)
        for name, change in malicious.items():
            sent[name] = (starts[name] + change).to(sent[name].dtype)
        return Payload({**upload.tensors, **sent}, upload.strings, upload.parts), kept

    def changed(
        self,
        client: Client,
        changes: Mapping[str, Tensor],
        broadcast: Payload,
        memory: Payload,
    ) -> tuple[Mapping[str, Tensor], Payload]:
        """What is sent in place of a change, and what is kept until the client's next round.

        Default: what :meth:`change` gives, and the memory as it was.

        Args:
            client: The client.
            changes: θ_k − θ_g by the tensors' names, in float64.
            broadcast: What the client started from, θ_g among it.
            memory: What was kept in the client's last round; empty in its first.
        """
        return self.change(client, changes), memory

    @abstractmethod
    def change(self, client: Client, changes: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """What a malicious client sends in place of its change.

        Args:
            client: The client.
            changes: θ_k − θ_g by the tensors' names, in float64.
        """
