"""HTTP generator: a service that answers prompts over an OpenAI-compatible API."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from lit_fed.backbones.endpoint.answer_failure import AnswerFailure, is_reply, told
from lit_fed.backbones.endpoint.answers import answer_in_reply
from lit_fed.backbones.endpoint.api_key import read_key, require_variable_name
from lit_fed.backbones.endpoint.limits import EndpointLimits
from lit_fed.backbones.endpoint.own_loop import run_in_own_loop
from lit_fed.backbones.endpoint.prompts import TRIAL, require_prompts
from lit_fed.backbones.endpoint.unreachable_error import UnreachableError
from lit_fed.backbones.text_generator import TextGenerator
from lit_fed.configuration_error import ConfigurationError
from lit_fed.limits import require_at_least, require_non_negative

_PLACE = "{prompt}"
_OWN_FIELDS = ("messages", "prompt", "model", "stream", "n")
"""Fields of a request that say what is asked of whom, and how the reply is read."""


class HTTPGenerator(TextGenerator):
    r"""Answers prompts by a service that speaks OpenAI's chat or completions API, wherever it runs.

    For instance ``transformers serve``, vLLM, llama.cpp's server, or a provider's. The API is described at
    https://platform.openai.com/docs/api-reference.

    What the service does wrong costs a prompt its answer, never more: each is asked within a time that counts all of
    its bytes, tries and pauses, and what fails is None. Too many requests (status 429, whose ``Retry-After`` is kept
    to), errors of the server (5xx), broken connections and requests out of time are tried again. :attr:`failures`
    counts what is left, by these kinds: ``timeout``, ``connection``, ``rate_limit``, ``server_error``, ``rejected``
    (another status, as where a prompt is too long), ``unauthorized``, ``not_found``, ``redirect``, ``malformed`` (no
    reply of the API, or no valid text), ``too_long``, ``empty`` (also null, as of a model that has thought until its
    tokens were used up, or calls a tool), ``refusal``, and ``not_asked`` where others had failed before. A warning a
    call says what the service has said of the first of each kind.

    A wrong key, address or model is an error where :meth:`check` finds it, or a first call without a check. After a
    check that has found no wrong setting, or once the service has answered, it is the service's failure like others.

    Prompts and key go to ``base_url`` alone: redirects are not followed. They go through the proxy that the environment
    names (``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY``, ``NO_PROXY``), which reads all of it where the address begins
    with http; an address of this machine is asked without a proxy.

    A run may be gone on with at another address, with another key and other limits of time, tries and bytes; with
    another model or other settings of answers it is another run.

    Args:
        base_url: The address before ``/chat/completions``, such as ``http://localhost:8000/v1``.
        model: The model's name there.
        chat: Whether the prompt is a user's message to a chat model, which the service puts into the model's chat
            template; else it is a text to be continued.
        api_key_env: The *name* of the environment variable that holds the key. The key itself is read when it is
            needed, and is in no configuration, checkpoint, log or message: it is taken out of what the service
            says, unless it has fewer than eight characters, such as EMPTY. None: no key is sent.
        max_new_tokens: Tokens at most of an answer.
        temperature: Of drawing tokens. 0: the likeliest one is taken.
        template: What is asked; ``{prompt}`` stands for the prompt.
        settings: Further fields of each request, such as ``{"seed": 1, "stop": ["\n"]}``. None as a field's value
            leaves it out, such as ``{"max_tokens": None, "max_completion_tokens": 128}``. ``model``, ``messages``,
            ``prompt``, ``stream`` and ``n`` are not among them.
        timeout: Seconds for a request, from connecting to the reply's last byte.
        max_retries: Tries at most after the first one.
        prompt_timeout: Seconds for a prompt, with all its tries and the pauses between them.
        batch_timeout: Seconds for all prompts of a call.
        concurrency: Requests at once.
        max_answer_bytes: Bytes of a reply that are read. A longer one is not read further, and is no answer.
        give_up_after: Prompts in a row that got no reply at all, or with all their tries that there are too many
            requests (429) or an error of the server (5xx), after which the others of a call are not asked.

    Raises:
        ValueError: If the address is none of HTTP or has more than a path, such as a password, ``api_key_env`` is no
            name, the template has no place for the prompt, ``settings`` is no mapping or has a field that is none of
            them or no JSON, or a number is out of range.

    Example:
        >>> from lit_fed.backbones import HTTPGenerator
        >>> HTTPGenerator("http://localhost:8000/v1", "SmolLM2", chat=True, api_key_env="MY_KEY")
        HTTPGenerator('http://localhost:8000/v1', 'SmolLM2')
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        chat: bool = True,
        api_key_env: str | None = None,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        template: str = _PLACE,
        settings: dict[str, Any] | None = None,
        timeout: float = 60.0,
        max_retries: int = 3,
        prompt_timeout: float = 120.0,
        batch_timeout: float = 1800.0,
        concurrency: int = 4,
        max_answer_bytes: int = 65_536,
        give_up_after: int = 10,
    ) -> None:
        self._address = _require_address(base_url)
        self.model = model
        self.chat = chat
        self._key_variable = require_variable_name("api_key_env", api_key_env)
        self.max_new_tokens = require_at_least("max_new_tokens", max_new_tokens, 1)
        self.temperature = require_non_negative("temperature", temperature)
        if _PLACE not in template:
            raise ValueError(f"`template` is expected to have a {_PLACE}, but got {template!r:.80}")
        self.template = template
        self.settings = _require_fields({} if settings is None else settings)
        self._limits = EndpointLimits(
            timeout,
            prompt_timeout,
            batch_timeout,
            max_retries,
            concurrency,
            max_answer_bytes,
            give_up_after,
        )
        self._failures: Counter[str] = Counter()
        self._has_answered = False
        self._has_passed = False

    @property
    def base_url(self) -> str:
        """The address below which the API is."""
        return self._address

    @property
    def api_key_env(self) -> str | None:
        """The environment variable that holds the key."""
        return self._key_variable

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r}, {self.model!r})"

    @property
    def failures(self) -> Counter[str]:
        """How many prompts of the last call have no answer, by what went wrong."""
        return self._failures.copy()

    def generate(self, prompts: Sequence[str]) -> list[str | None]:
        """Ask the service.

        Args:
            prompts: The texts.

        Returns:
            One answer for each prompt, in order; None where the service gave none.

        Raises:
            ConfigurationError: If the key, the address or the model is wrong, before anything was ever answered or
                :meth:`check` has passed; and if the environment has no key, or a proxy or certificates that cannot be
                used.
            TypeError: If a text stands where a list of them is expected.
        """
        results = self._ask(require_prompts(prompts))
        failures = [result for result in results if isinstance(result, AnswerFailure)]
        self._failures = Counter(failure.kind for failure in failures)
        self._has_answered = self._has_answered or any(is_reply(result) for result in results)
        if not (self._has_answered or self._has_passed):
            for failure in failures:
                if failure.setting is not None:
                    raise self._wrong(failure)
        if failures:
            warnings.warn(
                f"{self!r} has no answer to {len(failures)} of {len(results)} prompts: {told(failures)}",
                stacklevel=2,
            )
        return [None if isinstance(result, AnswerFailure) else result for result in results]

    def check(self) -> None:
        """Ask the service something short, so that a wrong setting shows before training.

        It may be busy or slow at the moment, and need not like the question: these are no errors.

        Raises:
            UnreachableError: If it cannot be reached.
            ConfigurationError: If its reply is none of the API, the key, the address, the model or a setting is wrong,
                or the environment has a proxy or certificates that cannot be used.
        """
        (result,) = self._ask([TRIAL])
        if isinstance(result, str) or is_reply(result):
            self._has_answered = True
        elif result.setting is not None or result.kind in ("rejected", "malformed"):
            raise self._wrong(result)
        self._has_passed = True
        if isinstance(result, AnswerFailure) and result.kind == "connection":
            raise UnreachableError(str(self._wrong(result)))

    def _ask(self, prompts: Sequence[str]) -> list[str | AnswerFailure]:
        # importing the client takes a moment that only those who ask should wait
        from lit_fed.backbones.endpoint.asking import Asking

        asking = Asking(
            self.base_url + ("/chat/completions" if self.chat else "/completions"),
            read_key("api_key_env", self.api_key_env),
            self._request,
            partial(answer_in_reply, chat=self.chat),
            self._limits,
            self._has_answered,
        )
        return run_in_own_loop(lambda: asking.ask(prompts))

    def _request(self, prompt: str) -> Mapping[str, Any]:
        asked = self.template.replace(_PLACE, prompt)
        given = (
            {"messages": [{"role": "user", "content": asked}]} if self.chat else {"prompt": asked}
        )
        body = {
            "model": self.model,
            **given,
            "max_tokens": self.max_new_tokens,
            "temperature": self.temperature,
            "stream": False,
            **self.settings,
        }
        return {field: value for field, value in body.items() if value is not None}

    def _wrong(self, failure: AnswerFailure) -> ConfigurationError:
        expected = {
            "api_key_env": "`api_key_env` is expected to name an environment variable whose key the endpoint accepts",
            "model": "`base_url` and `model` are expected to be an API's address and a model that it has",
            "base_url": "`base_url` is expected to be where the API itself is",
            None: "`model` and the settings of answers are expected to be such that the endpoint takes a request",
        }
        elsewhere = failure.kind in ("connection", "malformed")
        what = expected["base_url" if elsewhere else failure.setting]
        return ConfigurationError(f"{what}, but {self!r} failed: {failure}")


def _require_fields(settings: dict[str, Any]) -> dict[str, Any]:
    """Fields that a request can have beside its own; a value may hold a key, and is not shown."""
    if not isinstance(settings, Mapping):
        raise ValueError(
            "`settings` is expected to be a mapping of further fields of a request, but got a "
            f"{type(settings).__name__}"
        )
    for field, value in settings.items():
        if field in _OWN_FIELDS:
            raise ValueError(
                f"`settings` is expected to have further fields of a request, but got {field!r}, which the "
                "prompt and the other settings decide"
            )
        try:
            json.dumps({field: value}, allow_nan=False)
        except (TypeError, ValueError):
            raise ValueError(
                f"`settings` is expected to have fields that can be written as JSON, but got {field!r:.80} with a "
                f"{type(value).__name__} that cannot"
            ) from None
    return settings


def _require_address(base_url: str) -> str:
    """An address that requests can be sent below, without a slash at its end."""
    try:
        parts = urlsplit(base_url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    # what could hold a key is neither taken nor shown
    if (
        not known
        or "@" in base_url
        or "?" in base_url
        or "#" in base_url
        or not base_url.isprintable()
    ):
        raise ValueError(
            "`base_url` is expected to be an address such as http://localhost:8000/v1, without user, password, "
            "query and fragment, but got something else, which is not shown since it may hold a key"
        )
    return base_url.rstrip("/")
