"""Answers of strangers: the text in a reply of the chat or the completions API, and whether a text is an answer."""

from __future__ import annotations

import json
from typing import Any, Final

from lit_fed.backbones.endpoint.answer_failure import AnswerFailure

_LONGEST_REASON: Final = 40
"""Characters of a reason that is told."""


def require_answer(value: Any) -> str:
    """A text that is an answer.

    Args:
        value: What came.

    Raises:
        AnswerFailure: If it is no text, one that no file can hold (half of a pair of UTF-16), or a blank one.

    Example:
        >>> require_answer(" Paris")
        ' Paris'
        >>> require_answer("  ")
        Traceback (most recent call last):
        lit_fed.backbones.endpoint.answer_failure.AnswerFailure: the answer is empty
    """
    if not isinstance(value, str):
        raise AnswerFailure(
            "malformed", f"the answer is expected to be a text, but is a {type(value).__name__}"
        )
    if not value.strip():
        raise AnswerFailure("empty", "the answer is empty")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise AnswerFailure("malformed", f"the answer is no valid text: {error.reason}") from error
    return value


def error_in_reply(reply: bytes) -> tuple[Any, str] | None:
    r"""The code and the message of an error in the place of an answer; None where there is none.

    A router in front of several services has sent its status before one of them fails.

    Args:
        reply: The content of a reply that is a success by its status.

    Example:
        >>> error_in_reply(b'{"error": {"code": 429, "message": "too often"}}')
        (429, 'too often')
        >>> error_in_reply(b'{"choices": []}')
    """
    try:
        error = json.loads(reply.decode())["error"]
    # the parser goes as deep as brackets do, and a reply may be nothing but brackets
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    if not error:
        return None
    told = error if isinstance(error, dict) else {}
    message = told.get("message", error)
    return told.get("code"), message if isinstance(message, str) else json.dumps(message)


def answer_in_reply(reply: bytes, chat: bool) -> str:
    r"""The answer in a reply of an OpenAI-compatible API (platform.openai.com/docs/api-reference).

    Args:
        reply: The reply's content.
        chat: Whether it is one of ``/chat/completions``, else of ``/completions``.

    Raises:
        AnswerFailure: If the reply is none of that API, refuses an answer, or has an empty one or null, as of a model
            that has thought until its tokens were used up, or calls a tool.

    Example:
        >>> answer_in_reply(b'{"choices": [{"message": {"content": "Paris"}, "finish_reason": "stop"}]}', chat=True)
        'Paris'
        >>> answer_in_reply(b'{"choices": [{"text": "Paris", "finish_reason": "length"}]}', chat=False)
        'Paris'
    """
    try:
        choice = json.loads(reply.decode())["choices"][0]
        message = choice["message"] if chat else choice
        reason = choice.get("finish_reason")
        refused = message.get("refusal") or reason == "content_filter"
        # a refusal needs no content
        content = None if refused else message["content" if chat else "text"]
    # the parser goes as deep as brackets do, and a reply may be nothing but brackets
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise AnswerFailure(
            "malformed",
            f"the reply is no one of the {'chat' if chat else 'completions'} API ({type(error).__name__})",
        ) from None
    if refused:
        raise AnswerFailure("refusal", "the model refuses to answer")
    if content is None or (isinstance(content, str) and not content.strip()):
        known = isinstance(reason, str) and len(reason) <= _LONGEST_REASON
        raise AnswerFailure(
            "empty", f"the answer is empty, with finish_reason {reason if known else None!r}"
        )
    return require_answer(content)
