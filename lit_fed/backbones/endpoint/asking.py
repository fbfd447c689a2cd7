"""Asking: prompts go to an endpoint, several at a time, each until it is answered or its time is over."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from random import Random
from typing import Any

from httpx2 import AsyncClient, HTTPError, InvalidURL, Response

from lit_fed.backbones.endpoint.answer_failure import AnswerFailure, is_reply
from lit_fed.backbones.endpoint.answers import error_in_reply
from lit_fed.backbones.endpoint.connections import http_client
from lit_fed.backbones.endpoint.limits import EndpointLimits
from lit_fed.backbones.endpoint.redaction import Redaction
from lit_fed.backbones.endpoint.status import failure_of_error, failure_of_status, shown
from lit_fed.backbones.endpoint.waiting import backoff

_DOWN = ("timeout", "connection", "rate_limit", "server_error")
"""What an endpoint does that has nothing to say to any prompt."""


class Asking:
    """Asks an endpoint the prompts of a call.

    Whatever it sends, or does not send, costs the time of the limits at most: a total over all of a reply's bytes is
    kept, since a server that sends a byte a second never keeps anybody waiting long for the next.

    Args:
        url: Where requests go, by way of the environment's proxy where it is on another machine. Redirects are not
            followed.
        key: What proves who asks; None where nothing does. It is taken out of whatever the server says, see
            :class:`Redaction`.
        request: A prompt's request.
        read: The answer in a reply, or raises :class:`AnswerFailure`.
        limits: How long and how often.
        once_answered: Whether the endpoint has answered before, by which its settings are known to be right.
    """

    def __init__(
        self,
        url: str,
        key: str | None,
        request: Callable[[str], Mapping[str, Any]],
        read: Callable[[bytes], str],
        limits: EndpointLimits,
        once_answered: bool,
    ) -> None:
        self._url = url
        self._key = key
        self._redacted = Redaction(key)
        self._request = request
        self._read = read
        self._limits = limits
        self._random = Random()
        self._trusted = once_answered
        self._down = 0

    async def ask(self, prompts: Sequence[str]) -> list[str | AnswerFailure]:
        """Each prompt's answer, or why there is none.

        No more are asked where one has failed by a setting and none was ever answered, or where too many in a row were
        not replied to or put off.

        Args:
            prompts: The prompts.

        Raises:
            ConfigurationError: If the environment names a proxy or certificates that cannot be used.
        """
        ends = asyncio.get_running_loop().time() + self._limits.batch_timeout
        results: list[str | AnswerFailure] = [
            AnswerFailure("not_asked", "the endpoint has failed before, and was not asked any more")
        ] * len(prompts)
        waiting = iter(enumerate(prompts))
        # the client's own limits are of single reads
        async with http_client(self._url, self._headers(), self._limits.concurrency) as client:

            async def work() -> None:
                for place, prompt in waiting:
                    results[place] = result = await self._answer(client, prompt, ends)
                    self._learn(result)
                    if self._hopeless(result):
                        # of an iterator that all share
                        for _ in waiting:
                            pass

            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._limits.concurrency, len(prompts))):
                    group.create_task(work())
        return results

    def _headers(self) -> dict[str, str]:
        # what is compressed may be a thousand times as long as what is read
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        return headers

    def _learn(self, result: str | AnswerFailure) -> None:
        if is_reply(result):
            self._trusted = True
        down = isinstance(result, AnswerFailure) and result.kind in _DOWN
        self._down = self._down + 1 if down else 0

    def _hopeless(self, result: str | AnswerFailure) -> bool:
        wrong = isinstance(result, AnswerFailure) and result.setting is not None
        return (wrong and not self._trusted) or self._down >= self._limits.give_up_after

    async def _answer(self, client: AsyncClient, prompt: str, ends: float) -> str | AnswerFailure:
        """A prompt's answer, asked for as often as it takes and may."""
        now, limits = asyncio.get_running_loop().time, self._limits
        ends = min(ends, now() + limits.prompt_timeout)
        attempt = 0
        while True:
            try:
                async with asyncio.timeout_at(min(ends, now() + limits.timeout)):
                    return await self._reply(client, prompt)
            except TimeoutError:
                failure = AnswerFailure("timeout", "it did not answer in time", again=True)
            except HTTPError as error:
                told = f"{type(error).__name__}: {shown(self._redacted(str(error)))}"
                failure = AnswerFailure("connection", told, again=True)
            except InvalidURL as error:
                told = shown(self._redacted(str(error)))
                return AnswerFailure("connection", told, setting="base_url")
            except AnswerFailure as error:
                failure = error
            wait = backoff(attempt, self._random) if failure.wait is None else failure.wait
            if not failure.again or attempt >= limits.max_retries or now() + wait >= ends:
                return failure
            await asyncio.sleep(wait)
            attempt += 1

    async def _reply(self, client: AsyncClient, prompt: str) -> str:
        content = json.dumps(self._request(prompt)).encode()
        async with client.stream("POST", self._url, content=content) as response:
            reply, whole = await self._read_at_most(response, self._limits.max_answer_bytes)
            if not response.is_success:
                headers = {n.lower(): self._redacted(v) for n, v in response.headers.items()}
                told = self._redacted(reply.decode(errors="replace"), whole)
                raise failure_of_status(response.status_code, headers, told, datetime.now(UTC))
        if not whole:
            raise AnswerFailure(
                "too_long", f"the reply is longer than {self._limits.max_answer_bytes} bytes"
            )
        if (instead := error_in_reply(reply)) is not None:
            code, message = instead
            raise failure_of_error(code, self._redacted(message), datetime.now(UTC))
        # not in the reply, where a key may be a part of something else
        try:
            return self._redacted(self._read(reply))
        except AnswerFailure as error:
            failure = AnswerFailure(error.kind, self._redacted(str(error)))
        raise failure

    @staticmethod
    async def _read_at_most(response: Response, most: int) -> tuple[bytes, bool]:
        """A reply, or its beginning and a little more than ``most`` bytes, and whether these are all."""
        reply = bytearray()
        async for chunk in response.aiter_raw():
            reply += chunk
            if len(reply) > most:
                break
        return bytes(reply), len(reply) <= most
