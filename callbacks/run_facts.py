"""What a run's summary and its model cards tell of it alike: attachments, spent privacy, versions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

from lit_fed.federation.client.private_training import delta_of, epsilon_of

if TYPE_CHECKING:
    from lit_fed.attachment import Attachment
    from lit_fed.federation.federation_view import FederationView

_ATTACHMENT: Final = re.compile(r"trainer\.attachments\.(?P<number>\d+)(\.(?P<setting>.+))?")
_PRIVACY: Final = "trainer.privacy."


def attached(
    identity: Mapping[str, Any], attachments: Sequence[Attachment]
) -> list[dict[str, Any]]:
    """What was attached to clients' rounds: its class, what it was made with, its clients among it, what it tells.

    Args:
        identity: The run's.
        attachments: Those of the run.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, value in identity.items():
        if parts := _ATTACHMENT.fullmatch(name):
            found.setdefault(parts["number"], {})[parts["setting"] or "class"] = value
    return [{**told, **attachments[int(number)].summarised()} for number, told in found.items()]


def privacy_spent(trainer: FederationView) -> dict[str, Any] | None:
    """What each client has spent of its privacy, and with what; None where clients train without.

    Args:
        trainer: The run's.
    """
    clients = trainer.federation.clients.items()
    spent = {name: epsilon_of(client.privacy) for name, client in clients if client.privacy}
    if not spent:
        return None
    settings = {
        name.removeprefix(_PRIVACY): value
        for name, value in trainer.identity.items()
        if name.startswith(_PRIVACY)
    }
    deltas = [held for _, client in clients if (held := delta_of(client.privacy)) is not None]
    if deltas:  # those that the accounts are of, where the setting leaves them open
        settings["delta"] = max(deltas)
    return {**settings, "most": max(spent.values()), "epsilon": spent}


def installed(package: str) -> str | None:
    """The version of an installed package; None where it is run from a folder on the path.

    Args:
        package: Its name.

    Example:
        >>> installed("no such package")
    """
    try:
        return version(package)
    except PackageNotFoundError:
        return None
