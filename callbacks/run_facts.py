"""What a run's summary and its model cards tell of it alike: attachments, spent privacy, versions."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lit_fed.federation.client.private_training import delta_of, epsilon_of

if TYPE_CHECKING:
    from lit_fed.attachment import Attachment
    from lit_fed.federation.federation_view import FederationView

_ATTACHMENT: Final = re.compile(r"trainer\.attachments\.(?P<number>\d+)(\.(?P<setting>.+))?")
_PRIVACY: Final = "trainer.privacy."
_EPSILON: Final = "server/epsilon"


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


def server_epsilon(history: Sequence[Mapping[str, float]]) -> float | None:
    """ε that the server has reported last, which is of all rounds so far; None where it reports none.

    Args:
        history: The rounds' rows.

    Example:
        >>> server_epsilon([{"server/epsilon": 2.0}, {"server/epsilon": 4.0}, {"bytes/up": 0.0}])
        4.0
    """
    return next((row[_EPSILON] for row in reversed(history) if _EPSILON in row), None)


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


def tested_before(checkpoint: Path, rounds: int) -> dict[str, float]:
    """The metrics of the test with which a run has ended, where a checkpoint is its last one; else none.

    Args:
        checkpoint: The checkpoint's folder.
        rounds: Rounds that it has.
    """
    summary = checkpoint.parent.parent / "summary.json"
    try:
        told = json.loads(summary.read_text("utf-8"))
        if told["rounds"] != rounds:
            return {}
        metrics = told["metrics"].items()
        return {k: float(v) for k, v in metrics if v is not None and "test" in k.split("/")[:2]}
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
    ):  # none, or one that is damaged
        return {}
