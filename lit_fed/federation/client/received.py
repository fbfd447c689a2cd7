"""What the server makes of an upload that attachments have given another form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lit_fed.attachment import Attachment, overrides
from lit_fed.client import Client
from lit_fed.federation.client.given import require_payload
from lit_fed.payload import Payload
from lit_fed.update import Update


def received(
    attachments: Sequence[Attachment], client: Client, update: Update, broadcast: Payload
) -> Update:
    """A client's update as the method is to see it, with the bytes of what has been sent.

    Args:
        attachments: The trainer's, in order; each undoes what it has done, the last one first.
        client: The client before its round.
        update: As it was sent.
        broadcast: What the client started from.

    Returns:
        The update; the same object where no attachment has given it another form.

    Raises:
        TypeError: If an attachment gives no payload.
        ValueError: If the upload is nothing that one of them sends. What else their code raises goes through.

    Example:
        >>> from lit_fed.compression import HalfPrecision
        >>> import torch
        >>> client, start = Client("a", 0, 3, 0, 0, 0), Payload({"w": torch.ones(4)})
        >>> sent, _ = HalfPrecision().upload(client, Payload({"w": torch.ones(4) * 3}), start, Payload())
        >>> seen = received([HalfPrecision()], client, Update("a", sent, 3), start)
        >>> seen.payload.tensors["w"], seen.nbytes
        (tensor([3., 3., 3., 3.]), 8)
    """
    acting = [one for one in attachments if overrides(one, "received") and one.acts_on(client)]
    if not acting:
        return update
    payload = update.payload
    for one in reversed(acting):
        what = f"received() of {type(one).__name__}"
        payload = require_payload(one.received(client, payload, broadcast), what)
    return replace(update, payload=payload, compressed_bytes=update.payload.nbytes)
