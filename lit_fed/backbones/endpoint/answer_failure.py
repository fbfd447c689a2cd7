"""Answer failure: why a prompt has no answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_REPLIES: Final = ("empty", "refusal")
"""What is a reply of the API without an answer."""


class AnswerFailure(Exception):
    """Why a prompt has no answer.

    Args:
        kind: What went wrong in a word, by which failures are counted.
        message: What went wrong in a clause.
        again: Whether to ask again may help.
        wait: Seconds after which the server wants to be asked again; None where it does not say.
        setting: The setting that is to blame; None where none is known to be.

    Example:
        >>> failure = AnswerFailure("rate_limit", "it was asked too often", again=True, wait=2.0)
        >>> failure.kind, failure.wait
        ('rate_limit', 2.0)
    """

    def __init__(
        self,
        kind: str,
        message: str,
        again: bool = False,
        wait: float | None = None,
        setting: str | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.again = again
        self.wait = wait
        self.setting = setting


def is_reply(result: str | AnswerFailure) -> bool:
    """Whether a result is a reply of the API, which also one without an answer is: then the settings are right.

    Args:
        result: An answer, or why there is none.

    Example:
        >>> is_reply("yes"), is_reply(AnswerFailure("refusal", "no")), is_reply(AnswerFailure("timeout", "late"))
        (True, True, False)
    """
    return isinstance(result, str) or result.kind in _REPLIES


def told(failures: Iterable[AnswerFailure]) -> str:
    """Failures in a clause: how many there are of each kind, and what the first of them says.

    Args:
        failures: The failures.

    Example:
        >>> late = AnswerFailure("timeout", "it did not answer in time")
        >>> told([late, AnswerFailure("empty", "the answer is empty"), late])
        'timeout 2 (it did not answer in time), empty 1 (the answer is empty)'
    """
    kinds: dict[str, list[AnswerFailure]] = {}
    for failure in failures:
        kinds.setdefault(failure.kind, []).append(failure)
    return ", ".join(f"{kind} {len(alike)} ({alike[0]})" for kind, alike in kinds.items())
