"""Status: what a reply other than a success says of a request, and whether it is worth another try."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from lit_fed.backbones.endpoint.answer_failure import AnswerFailure
from lit_fed.backbones.endpoint.waiting import seconds_to_wait

_SHOWN = 200
"""Characters of a server's own message that are shown."""


def failure_of_status(
    status: int, headers: Mapping[str, str], reply: str, now: datetime
) -> AnswerFailure:
    """What a reply that is no success says (RFC 9110, section 15).

    Args:
        status: Its status.
        headers: Its headers, without the key.
        reply: Its content, as far as it was read, without the key.
        now: When it came.

    Example:
        >>> from datetime import UTC
        >>> failure_of_status(429, {"retry-after": "3"}, "", datetime.now(UTC)).wait
        3.0
        >>> failure_of_status(404, {}, "no such model", datetime.now(UTC)).setting
        'model'
    """
    message = f"status {status}"
    if reply:
        message += f", {shown(reply)}"
    wait = seconds_to_wait(headers.get("retry-after"), now)
    if 300 <= status < 400:
        where = shown(headers.get("location", ""))
        message = f"status {status}, a redirect to {where}, which is not followed"
        return AnswerFailure("redirect", message, setting="base_url")
    if status in (401, 403):
        return AnswerFailure("unauthorized", message, setting="api_key_env")
    if status == 404:
        return AnswerFailure("not_found", message, setting="model")
    if status == 429:
        return AnswerFailure("rate_limit", message, again=True, wait=wait)
    if status == 408:
        return AnswerFailure("timeout", message, again=True, wait=wait)
    if status >= 500:
        return AnswerFailure("server_error", message, again=True, wait=wait)
    return AnswerFailure("rejected", message)


def failure_of_error(code: object, message: str, now: datetime) -> AnswerFailure:
    """What an error says that stands where an answer is expected.

    Args:
        code: Its code, which often is a status.
        message: Its message, without the key.
        now: When it came.

    Example:
        >>> from datetime import UTC
        >>> failure_of_error(429, "too often", datetime.now(UTC)).kind
        'rate_limit'
        >>> print(failure_of_error(None, "no such parameter", datetime.now(UTC)))
        the reply is an error, 'no such parameter'
    """
    if isinstance(code, int) and 400 <= code < 600:
        return failure_of_status(code, {}, message, now)
    return AnswerFailure("rejected", f"the reply is an error, {shown(message)}")


def shown(text: str) -> str:
    r"""The beginning of what a stranger has written, with control characters escaped.

    Args:
        text: What was written.

    Example:
        >>> print(shown("no\x1b[31m model"))
        'no\x1b[31m model'
    """
    return repr(text[:_SHOWN])
