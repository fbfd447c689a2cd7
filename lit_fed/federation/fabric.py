"""Lightning's Fabric on this machine."""

from __future__ import annotations

from typing import Any

from lightning.fabric import Fabric
from lightning.fabric.utilities.exceptions import MisconfigurationException


def make_fabric(**settings: Any) -> Fabric:
    """A Fabric, or what this machine does not have.

    Args:
        **settings: The trainer's ``accelerator``, ``strategy``, ``devices``, ``num_nodes`` and ``precision``.

    Raises:
        ValueError: If Lightning refuses them, with its words.
    """
    try:
        return Fabric(**settings)
    except (
        MisconfigurationException,
        ImportError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        chosen = {n: v for n, v in settings.items() if v not in ("auto", 1, "32-true")} or settings
        given = " with ".join(f"`trainer.{name}` {value!r}" for name, value in chosen.items())
        raise ValueError(
            f"{given} is expected to be possible on this machine, but Lightning says: {error}"
        ) from error
