"""Checks of what a client gives, before anyone else has it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lit_fed.client import Client
from lit_fed.payload import Payload
from lit_fed.specification import Specification


def require_payload(given: Any, what: str) -> Payload:
    """What is a payload.

    Args:
        given: What came.
        what: What gave it, for an error.

    Raises:
        TypeError: If it is something else.

    Example:
        >>> require_payload(None, "upload() of FedAvg")
        Traceback (most recent call last):
        ...
        TypeError: upload() of FedAvg is expected to return a Payload, but returned NoneType
    """
    if not isinstance(given, Payload):
        raise TypeError(
            f"{what} is expected to return a Payload, but returned {type(given).__name__}"
        )
    return given


def require_payloads(given: Any, what: str) -> tuple[Payload, Payload]:
    """What is a pair of payloads, as an attachment's ``upload`` returns it.

    Args:
        given: What came.
        what: What gave it, for an error.

    Raises:
        TypeError: If it is something else.
    """
    if not isinstance(given, tuple) or len(given) != 2:
        raise TypeError(
            f"{what} is expected to return an upload and a memory, but returned {type(given).__name__}"
        )
    return require_payload(given[0], what), require_payload(given[1], what)


def checked_metrics(given: Mapping[Any, float]) -> dict[str, float]:
    """A client's metrics, whose names others print and write to files.

    Args:
        given: Numbers by name, as a loop has averaged them.

    Raises:
        TypeError: If a name is no text.
        ValueError: If a name is empty, has characters that cannot be printed, or is no valid UTF-8.

    Example:
        >>> checked_metrics({3: 1.0})
        Traceback (most recent call last):
        ...
        TypeError: a metric's name is expected to be a text, but got 3
    """
    for name in given:
        if not isinstance(name, str):
            raise TypeError(f"a metric's name is expected to be a text, but got {name!r:.80}")
        if not name or not name.isprintable():
            raise ValueError(
                f"a metric's name is expected to be printable text, but got {name!r:.80}"
            )
    return {name: float(value) for name, value in given.items()}


def require_finite_metrics(metrics: Mapping[str, float]) -> None:
    """Check that the training's metrics are numbers.

    Raises:
        ValueError: If one is NaN or infinite.
    """
    if not_finite := {n: value for n, value in metrics.items() if not math.isfinite(value)}:
        raise ValueError(f"training metrics are expected to be finite, but got {not_finite}")


def require_counts(client: Client, id: str, before: int) -> None:
    """Check that a client's steps are counts, and no fewer than before its round.

    Args:
        client: The client after its round.
        id: Its id, as the server knows it.
        before: Its steps before the round.

    Raises:
        ValueError: If they are not.
    """
    counts = [client.steps, *client.stage_steps.values()]
    if any(type(count) is not int or count < 0 for count in counts) or client.steps < before:
        raise ValueError(
            f"steps of client {id!r} are expected to be counts, and {before} or more, but got "
            f"{client.steps!r:.40} and {client.stage_steps!r:.120}"
        )


def check_upload(
    upload: Payload,
    expected: Specification | None,
    broadcast: Payload,
    what: str,
    converted: bool = False,
) -> None:
    """Compare a client's upload with what the server expects of it.

    Args:
        upload: The upload.
        expected: What the method has declared. None: what the client has downloaded, as far as names agree.
        broadcast: What it has downloaded.
        what: How an error calls the upload.
        converted: Whether floating tensors may have another floating dtype.

    Raises:
        ValueError: If it is something else.
    """
    if expected is None:
        shared = upload.tensors.keys() & broadcast.tensors.keys()
        expected = Specification.of({name: broadcast.tensors[name] for name in shared})
        upload = upload.main.select(shared)
    try:
        expected.check(upload, what, converted)
    except ValueError as error:
        asked = {name for name, one in expected.parts.items() if one is not None}
        if asked <= upload.parts.keys():
            raise
        raise ValueError(
            f"{error}; an attachment that makes another payload of it is expected to keep the rest, as by "
            f"Payload(tensors, upload.strings, upload.parts)"
        ) from error
