"""HTTPGenerator: a real client and a real server on localhost, which does everything wrong that a server can."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from threading import Lock
from typing import Any
from urllib.parse import quote

import pytest

from lit_fed.backbones import HTTPGenerator, TextGenerator
from lit_fed.backbones.endpoint.prompts import TRIAL
from lit_fed.backbones.endpoint.unreachable_error import UnreachableError
from lit_fed.configuration_error import ConfigurationError
from tests.backbones.endpoint.misbehaving_server import (
    FLOOD,
    Fault,
    MisbehavingServer,
    at_first,
    breaks_off,
    drips_content,
    drips_headers,
    fails_with,
    filters,
    floods,
    floods_headers,
    hangs_up,
    refuses,
    says,
    says_nothing,
    speaks_another_protocol,
)

KEY = "sk-Very-Secret-0123456789"
IN_TIME = 20.0
"""Seconds within which the limits below end everything, on a busy machine as well."""


def generator(server: MisbehavingServer, **settings: Any) -> HTTPGenerator:
    quick = {"timeout": 1.0, "prompt_timeout": 3.0, "max_retries": 1, "max_answer_bytes": 4096}
    return HTTPGenerator(server.url, "some-model", **{**quick, **settings})


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("LIT_FED_TEST_KEY", KEY)
    return "LIT_FED_TEST_KEY"


@pytest.mark.parametrize("chat", [True, False], ids=["chat", "completions"])
def test_what_is_asked_and_answered(chat: bool, key: str) -> None:
    settings = {"seed": 3, "max_tokens": None, "max_completion_tokens": 7}
    with MisbehavingServer() as server:
        asked = generator(
            server, chat=chat, api_key_env=key, template="Say {prompt}", settings=settings
        )
        prompts = [f"{name} {{prompt}}" for name in ("one", "two", "three", "four", "five", "six")]
        assert asked.generate(prompts) == [f"Say {prompt}".upper() for prompt in prompts]
        assert asked.failures == Counter()
        assert isinstance(asked, TextGenerator)
    request = next(r for r in server.requests if r.prompt == "Say two {prompt}")
    words = {"messages": [{"role": "user", "content": "Say two {prompt}"}]}
    assert request.body == {
        "model": "some-model",
        **(words if chat else {"prompt": "Say two {prompt}"}),
        "temperature": 0.0,
        "stream": False,
        "seed": 3,
        "max_completion_tokens": 7,
    }
    assert request.path == ("/v1/chat/completions" if chat else "/v1/completions")
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert len(server.requests) == 6


def test_no_prompts_no_requests() -> None:
    with MisbehavingServer() as server:
        assert generator(server).generate([]) == []
    assert not server.requests


def test_more_wait_than_are_asked_at_once() -> None:
    running, most = 0, 0

    def busy(exchange: Any) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        exchange.wait(0.05)
        running -= 1
        exchange.answer("yes")

    with MisbehavingServer(otherwise=busy) as server:
        asked = generator(server, concurrency=3)
        assert asked.generate([str(n) for n in range(12)]) == ["yes"] * 12
    assert most <= 3


CHAT = '{{"choices": [{{"message": {{"content": {}}}, "finish_reason": "stop"}}]}}'
FAULTS: dict[str, tuple[Fault, str, int]] = {
    "says nothing": (says_nothing, "timeout", 2),
    "drips headers": (drips_headers, "timeout", 2),
    "drips content": (drips_content, "timeout", 2),
    "hangs up": (hangs_up, "connection", 2),
    "breaks off": (breaks_off, "connection", 2),
    "speaks another protocol": (speaks_another_protocol, "connection", 2),
    "floods headers": (floods_headers, "connection", 2),
    "floods": (floods, "too_long", 1),
    "too many requests": (fails_with(429, Retry_After="0.1"), "rate_limit", 2),
    "too many requests until tomorrow": (fails_with(429, Retry_After="86400"), "rate_limit", 1),
    "too many requests, says not when": (fails_with(429, Retry_After="soon"), "rate_limit", 2),
    "server error": (fails_with(500, "<html>"), "server_error", 2),
    "overloaded": (fails_with(503, Retry_After="0"), "server_error", 2),
    "bad request": (fails_with(400, '{"error": "too long"}'), "rejected", 1),
    "unauthorized": (fails_with(401), "unauthorized", 1),
    "no such model": (fails_with(404), "not_found", 1),
    "redirect": (fails_with(307, Location="http://127.0.0.1:9/v1"), "redirect", 1),
    "no JSON": (says("<html>It works!</html>"), "malformed", 1),
    "half of JSON": (says('{"choices": [{"message": '), "malformed", 1),
    "nothing": (says(""), "malformed", 1),
    "no UTF-8": (says(b'{"choices": [{"message": {"content": "\xff\xfe"}}]}'), "malformed", 1),
    "half a pair of UTF-16": (says(CHAT.format('"\\ud800"')), "malformed", 1),
    "no choices": (says('{"choices": []}'), "malformed", 1),
    "an error": (says('{"error": {"message": "no"}}'), "rejected", 1),
    "an error that is a text": (says('{"error": "no"}'), "rejected", 1),
    "an error with a word as its code": (says('{"error": {"code": "bad"}}'), "rejected", 1),
    "an error of a service behind": (says('{"error": {"code": 429}}'), "rate_limit", 2),
    "another API": (says('{"generated_text": "abc"}'), "malformed", 1),
    "a list": (says("[1, 2]"), "malformed", 1),
    "choices are a text": (says('{"choices": "abc"}'), "malformed", 1),
    "no message": (says('{"choices": [{"text": "abc"}]}'), "malformed", 1),
    "content is a number": (says(CHAT.format(3)), "malformed", 1),
    "content is null": (says(CHAT.format("null")), "empty", 1),
    "content is a list": (says(CHAT.format('[{"type": "text"}]')), "malformed", 1),
    "brackets": (says("[" * 4000), "malformed", 1),
    "digits": (says(CHAT.format("9" * 4300)[:4090]), "malformed", 1),
    "empty": (says(CHAT.format('""')), "empty", 1),
    "blank": (says(CHAT.format('" \\n\\t"')), "empty", 1),
    "refuses": (refuses, "refusal", 1),
    "filters": (filters, "refusal", 1),
}


@pytest.fixture(scope="module")
def after_all_faults() -> Iterator[
    tuple[MisbehavingServer, HTTPGenerator, float, list[str | None]]
]:
    """One call in which every second prompt meets a fault."""
    prompts = [prompt for name in FAULTS for prompt in (name, f"fine beside {name}")]
    with MisbehavingServer({name: fault for name, (fault, _, _) in FAULTS.items()}) as server:
        asked = generator(server, timeout=2.0, prompt_timeout=6.0, concurrency=16)
        asked.check()
        start = time.monotonic()
        answers = asked.generate(prompts)
        yield server, asked, time.monotonic() - start, answers


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_costs_its_prompt_alone(name: str, after_all_faults: Any) -> None:
    server, _, _, answers = after_all_faults
    place = 2 * list(FAULTS).index(name)
    assert answers[place : place + 2] == [None, f"fine beside {name}".upper()]
    assert server.tries[name] == FAULTS[name][2]


def test_a_reply_without_a_content_says_why() -> None:
    """As of a model that has thought until its tokens were used up, or calls a tool."""
    for content, reason in itertools.product(("null", '""', '" "'), ("length", "tool_calls")):
        reply = CHAT.format(content).replace('"stop"', f'"{reason}"')
        with MisbehavingServer(otherwise=says(reply)) as server:
            asked = generator(server)
            asked.check()
            with pytest.warns(UserWarning, match=f"empty 1 .*finish_reason '{reason}'"):
                assert asked.generate(["a"]) == [None]


def test_what_the_service_says_is_told_once_a_call() -> None:
    error = '{"error": "temperature is not supported\x1b[31m"}' + " " * 10_000
    faults = {"late": fails_with(429), "nothing": says(CHAT.format("null"))}
    with MisbehavingServer(faults, otherwise=fails_with(400, error)) as server:
        asked = generator(server, max_retries=0)
        with pytest.warns(UserWarning, match="temperature is not supported") as told:
            asked.generate(["a", "late", "b", "nothing"])
    (warning,) = told
    said = str(warning.message)
    assert "has no answer to 4 of 4 prompts: " in said
    assert "rejected 2 (status 400, " in said
    assert "rate_limit 1 (status 429)" in said
    assert "\x1b" not in said
    assert len(said) < 600


def test_faults_are_counted_by_their_kinds(after_all_faults: Any) -> None:
    _, asked, seconds, _ = after_all_faults
    assert asked.failures == Counter(kind for _, kind, _ in FAULTS.values())
    assert seconds < IN_TIME


@pytest.mark.parametrize("name", ["floods", "floods headers"])
def test_a_flood_is_cut_off(name: str) -> None:
    with MisbehavingServer({name: FAULTS[name][0]}) as server:
        asked = generator(server, max_retries=0)
        assert asked.generate([name]) == [None]
        assert server.sent < FLOOD / 5, "what nobody reads stays in the buffers of the sockets"


@pytest.mark.parametrize(
    "fault",
    [
        fails_with(429),
        pytest.param(fails_with(500), marks=pytest.mark.slow),
        pytest.param(fails_with(408), marks=pytest.mark.slow),
        hangs_up,
        pytest.param(breaks_off, marks=pytest.mark.slow),
        says_nothing,
    ],
    ids=["429", "500", "408", "hangs up", "breaks off", "says nothing"],
)
def test_what_passes_is_tried_again(fault: Fault) -> None:
    with MisbehavingServer({"a": at_first(fault)}) as server:
        asked = generator(server)
        assert asked.generate(["a", "b"]) == ["A", "B"]
        assert asked.failures == Counter()
    assert server.tries == Counter(a=2, b=1)


def in_two_seconds() -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)


@pytest.mark.parametrize(
    "retry_after",
    [lambda: "1.2", pytest.param(in_two_seconds, marks=pytest.mark.slow)],
    ids=["seconds", "date"],
)
def test_retry_after_is_kept_to(retry_after: Callable[[], str]) -> None:
    def busy(exchange: Any) -> None:
        exchange.reply(429, Retry_After=retry_after())

    with MisbehavingServer({"a": at_first(busy)}) as server:
        assert generator(server, prompt_timeout=IN_TIME).generate(["a"]) == ["A"]
    first, second = server.requests
    # a date says no parts of seconds
    assert 0.95 <= second.at - first.at < 5


def test_pauses_grow_and_end() -> None:
    with MisbehavingServer({"a": fails_with(500)}) as server:
        asked = generator(server, max_retries=100, prompt_timeout=4.0)
        start = time.monotonic()
        assert asked.generate(["a"]) == [None]
        assert time.monotonic() - start < IN_TIME
    times = [request.at for request in server.requests]
    pauses = [after - before for before, after in itertools.pairwise(times)]
    assert 2 <= len(pauses) <= 4
    assert pauses[1] > pauses[0] * 0.99
    assert pauses[0] >= 0.25


def test_a_call_ends_with_its_own_limit() -> None:
    with MisbehavingServer({"a": says_nothing}) as server:
        asked = generator(server, timeout=50, prompt_timeout=50, batch_timeout=1.0, concurrency=1)
        start = time.monotonic()
        assert asked.generate(["b", "a", "c", "d"]) == ["B", None, None, None]
        assert time.monotonic() - start < IN_TIME
    assert asked.failures == Counter(timeout=3)


def test_who_never_replies_is_not_asked_for_ever() -> None:
    with MisbehavingServer(otherwise=says_nothing) as server:
        asked = generator(
            server, timeout=0.3, max_retries=0, concurrency=2, give_up_after=3, prompt_timeout=0.3
        )
        assert asked.generate([str(n) for n in range(50)]) == [None] * 50
    assert asked.failures.total() == 50
    assert 3 <= asked.failures["timeout"] <= 4
    assert asked.failures["not_asked"] >= 46


@pytest.mark.parametrize("status", [429, 503])
def test_who_puts_off_for_ever_is_not_asked_for_ever(status: int) -> None:
    with MisbehavingServer(otherwise=fails_with(status)) as server:
        asked = generator(server, max_retries=1, concurrency=2, give_up_after=3)
        assert asked.generate([str(n) for n in range(50)]) == [None] * 50
    kind = {429: "rate_limit", 503: "server_error"}[status]
    assert 3 <= asked.failures[kind] <= 4
    assert asked.failures["not_asked"] >= 46
    assert len(server.requests) <= 2 * 4


def test_a_name_that_is_looked_up_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked up in a thread, which nobody can end, and for which nobody waits."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(20))
    asked = HTTPGenerator("http://nowhere.test/v1", "m", timeout=0.5, prompt_timeout=0.5)
    start = time.monotonic()
    assert asked.generate(["a"]) == [None]
    assert time.monotonic() - start < IN_TIME
    assert asked.failures == Counter(timeout=1)


# ---------------------------------------------------------------- wrong settings

WRONG: dict[str, tuple[Fault, str]] = {
    "401": (fails_with(401, f'{{"error": "invalid key {KEY}"}}'), "`api_key_env` is expected"),
    "403": (fails_with(403), "`api_key_env` is expected"),
    "404": (fails_with(404, "\x1b[31mno model some-model"), "`base_url` and `model` are expected"),
    "redirect": (fails_with(301, Location="http://else.where/v1"), "`base_url` is expected"),
    "redirect with the key": (fails_with(301, Location=f"http://a/?key={KEY}"), "`base_url` is"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_setting_shows_at_once(name: str, key: str) -> None:
    fault, message = WRONG[name]
    with MisbehavingServer(otherwise=fault) as server:
        asked = generator(server, api_key_env=key, concurrency=2)
        with pytest.raises(ConfigurationError, match=message) as caught:
            asked.check()
        assert "\x1b" not in str(caught.value)
        assert_nowhere(KEY, caught.value)
        with pytest.raises(ConfigurationError, match=message):
            asked.generate([str(n) for n in range(50)])
    assert len(server.requests) <= 1 + 2, "all others would fail as well"


@pytest.mark.parametrize("name", WRONG)
def test_what_has_worked_once_is_not_wrong(name: str) -> None:
    with MisbehavingServer({"a": WRONG[name][0]}) as server:
        asked = generator(server)
        asked.check()
        assert asked.generate(["a", "b"]) == [None, "B"]
        assert asked.failures.total() == 1


@pytest.mark.parametrize("first", [fails_with(429), says_nothing], ids=["429", "says nothing"])
@pytest.mark.parametrize("name", WRONG)
def test_what_was_busy_when_it_was_checked_is_not_wrong_later(name: str, first: Fault) -> None:
    with MisbehavingServer({"Hello": first}, otherwise=WRONG[name][0]) as server:
        asked = generator(server, max_retries=0, timeout=0.3, concurrency=2)
        asked.check()
        with pytest.warns(UserWarning, match="has no answer to 9 of 9 prompts"):
            assert asked.generate([str(n) for n in range(9)]) == [None] * 9
    assert asked.failures["not_asked"] >= 7, "all others would fail as well"


def test_check_lets_pass_what_may_pass() -> None:
    for fault in (
        fails_with(429),
        fails_with(500),
        says_nothing,
        refuses,
        says(CHAT.format("null")),
    ):
        with MisbehavingServer(otherwise=fault) as server:
            generator(server, max_retries=0).check()
    with (
        MisbehavingServer(otherwise=fails_with(422, "no field seed")) as server,
        pytest.raises(ConfigurationError, match="no field seed"),
    ):
        generator(server).check()


def test_check_finds_what_is_no_api() -> None:
    for fault in (says("<html>It works!</html>"), says("data: {}\n\n")):
        with MisbehavingServer(otherwise=fault) as server:
            asked = generator(server)
            with pytest.raises(ConfigurationError, match=r"`base_url` .* the reply is no one of"):
                asked.check()
            # in a round it costs the votes alone
            assert asked.generate(["a"]) == [None]


def test_check_finds_nobody() -> None:
    with MisbehavingServer() as server:
        pass
    asked = generator(server, max_retries=0)
    with pytest.raises(UnreachableError, match=r"`base_url` .* failed: ConnectError"):
        asked.check()
    with pytest.warns(UserWarning, match=r"connection 1 \(ConnectError"):
        assert asked.generate(["a"]) == [None]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base_url": "localhost:8000/v1"}, "`base_url` is expected to be an address such as"),
        ({"base_url": "ftp://localhost/v1"}, "`base_url` is expected to be an address such as"),
        ({"base_url": "http://"}, "`base_url` is expected to be an address such as"),
        ({"base_url": "http://a:99999/"}, "`base_url` is expected to be an address such as"),
        ({"base_url": f"http://me:{KEY}@host/v1"}, "without user, password"),
        ({"base_url": f"http://host/v1?key={KEY}"}, "without user, password"),
        ({"api_key_env": KEY}, "`api_key_env` is expected to be the name"),
        *(
            ({"settings": {"seed": 3, field: None}}, f"`settings` is expected .* but got '{field}'")
            for field in ("messages", "prompt", "model", "stream", "n")
        ),
        ({"settings": [("seed", 3)]}, "`settings` is expected to be a mapping .* but got a list"),
        ({"settings": {"stop": {"a"}}}, "written as JSON, but got 'stop' with a set that cannot"),
        ({"settings": {"top_p": float("nan")}}, "but got 'top_p' with a float that cannot"),
        ({"template": "Say it"}, "`template` is expected to have a {prompt}"),
        ({"max_new_tokens": 0}, "`max_new_tokens` is expected to be at least 1"),
        ({"temperature": -1.0}, "`temperature` is expected to be finite and at least 0"),
        ({"timeout": 0.0}, "`timeout` is expected to be finite and above 0"),
        ({"batch_timeout": float("inf")}, "`batch_timeout` is expected to be finite and above 0"),
        ({"max_retries": -1}, "`max_retries` is expected to be at least 0, but got -1"),
        ({"concurrency": 0}, "`concurrency` is expected to be at least 1, but got 0"),
        ({"concurrency": 2.5}, "`concurrency` is expected to be a whole number of at least 1"),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        HTTPGenerator(**{"base_url": "http://localhost/v1", "model": "m", **settings})
    assert_nowhere(KEY, caught.value)


def test_a_text_is_no_list_of_prompts() -> None:
    asked = HTTPGenerator("http://localhost:9/v1", "m")
    with pytest.raises(TypeError, match="`prompts` is expected to be a list of texts"):
        asked.generate("Why?")
    with pytest.raises(TypeError, match="has a int"):
        asked.generate([3])  # type: ignore[list-item]


# ---------------------------------------------------------------- the key


def assert_nowhere(secret: str, *things: object) -> None:
    """Neither in what is printed of them nor in what is saved of them, nor in what has led to an error."""
    for thing in things:
        assert secret not in repr(thing) + str(thing)
        assert secret.encode() not in pickle.dumps(thing)
        for other in (getattr(thing, "__cause__", None), getattr(thing, "__context__", None)):
            if other is not None:
                assert_nowhere(secret, other)


def test_the_key_is_kept_nowhere(key: str) -> None:
    with MisbehavingServer({"a": hangs_up}) as server:
        asked = generator(server, api_key_env=key)
        asked.generate(["a", "b"])
        assert_nowhere(KEY, asked, vars(asked), copy.deepcopy(asked))


def test_a_server_that_repeats_the_key(key: str) -> None:
    """Answers are shown, sent and saved."""

    def tells(exchange: Any) -> None:
        exchange.answer(json.dumps(exchange.request.headers))

    with MisbehavingServer(otherwise=tells) as server:
        (answer,) = generator(server, api_key_env=key).generate(["a"])
    assert answer is not None
    assert "Bearer ***" in answer
    assert KEY not in answer


def test_an_error_in_spite_of_its_status_tells_no_part_of_the_key(key: str) -> None:
    error = json.dumps({"error": {"message": "x" * 195 + KEY, "code": 401}})
    with MisbehavingServer(otherwise=says(error)) as server:
        asked = generator(server, api_key_env=key)
        with pytest.raises(
            ConfigurationError, match=r"`api_key_env` is expected .* status 401"
        ) as caught:
            asked.check()
    assert KEY[:4] not in str(caught.value)


def test_a_key_that_json_writes_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_WITH_SLASHES", "sk/a/b/c")
    escaped = CHAT.format('"your key is sk\\/a\\/b\\/c"')
    with MisbehavingServer(otherwise=says(escaped)) as server:
        (answer,) = generator(server, api_key_env="KEY_WITH_SLASHES").generate(["a"])
    assert answer == "your key is ***"


SPELLED_KEY = "sk/Very\\Secret+0%1"
SPELLINGS = {
    "as it is": SPELLED_KEY,
    "percent-encoded": quote(SPELLED_KEY, safe=""),
    "in small letters": quote(SPELLED_KEY, safe="")
    .lower()
    .replace("very", "Very")
    .replace("secret", "Secret"),
    "twice": quote(quote(SPELLED_KEY, safe=""), safe=""),
    "in JSON": json.dumps(SPELLED_KEY),
    "in JSON with slashes": json.dumps(SPELLED_KEY).replace("/", "\\/"),
    "in JSON in JSON": json.dumps(json.dumps(SPELLED_KEY)),
    "in JSON by numbers": "".join(f"\\u{ord(sign):04X}" for sign in SPELLED_KEY),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("status", [401, 302])
def test_a_key_in_another_spelling_is_told_nowhere(
    status: int, spelling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIT_FED_TEST_KEY", SPELLED_KEY)
    said = f"https://there/?key={SPELLINGS[spelling]}&more"
    with MisbehavingServer(otherwise=fails_with(status, said, Location=said)) as server:
        asked = generator(server, api_key_env="LIT_FED_TEST_KEY")
        with pytest.raises(ConfigurationError) as caught:
            asked.check()
    told = str(caught.value)
    assert "https://there/?key=" in told
    assert "***" in told
    assert "&more" in told
    for part in ("Very", "Secret", quote("Secret+0%1", safe="")):
        assert part.lower() not in told.lower()


def test_no_part_of_a_key_is_told_where_a_reply_is_cut(key: str) -> None:
    def breaks_within(exchange: Any) -> None:
        exchange.hang_up()
        exchange.send(b"HTTP/1.1 401 No\r\nContent-Length: 600\r\n\r\nwrong " + KEY[:-4].encode())
        exchange.wait(0.5)
        exchange.send(KEY[-4:].encode() + b" " * 600)

    with MisbehavingServer(otherwise=breaks_within) as server:
        asked = generator(server, api_key_env=key, max_answer_bytes=20)
        with pytest.raises(ConfigurationError, match="status 401") as caught:
            asked.check()
    assert KEY[:6] not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "answer"),
    [("x", "It is good, x."), ("EMPTY", "EMPTY"), ("good", "It is good."), ("0", "0 x")],
)
def test_a_key_that_is_a_word_is_left_in_answers(
    key: str, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIT_FED_TEST_KEY", key)
    with MisbehavingServer(answer=lambda prompt: answer) as server:
        assert generator(server, api_key_env="LIT_FED_TEST_KEY").generate(["a"]) == [answer]


def test_a_key_that_is_a_part_of_a_reply_breaks_no_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIT_FED_TEST_KEY", "finish_reason")
    with MisbehavingServer() as server:
        asked = generator(server, api_key_env="LIT_FED_TEST_KEY")
        assert asked.generate(["a"]) == ["A"]
    with MisbehavingServer(otherwise=filters) as server:
        asked = generator(server, api_key_env="LIT_FED_TEST_KEY")
        asked.generate(["a"])
        assert asked.failures == Counter(refusal=1)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_takes_the_key_nowhere(status: int, key: str) -> None:
    with MisbehavingServer() as elsewhere:
        location = f"{elsewhere.url}/chat/completions"
        with MisbehavingServer({"a": fails_with(status, Location=location)}) as server:
            assert generator(server, api_key_env=key).generate(["b", "a"]) == ["B", None]
    assert not elsewhere.requests


@pytest.mark.parametrize("value", [None, "", "  ", f"{KEY}\nX-More: 1", f"{KEY} {KEY}", f"{KEY}é"])
def test_no_key_to_be_sent(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIT_FED_TEST_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("LIT_FED_TEST_KEY", value)
    with MisbehavingServer() as server:
        asked = generator(server, api_key_env="LIT_FED_TEST_KEY")
        for call in (asked.check, lambda: asked.generate(["a"])):
            with pytest.raises(ConfigurationError, match="`api_key_env` is expected") as caught:
                call()
            assert_nowhere(KEY, caught.value)
    assert not server.requests


def test_blanks_around_a_key_are_taken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIT_FED_TEST_KEY", f"{KEY}\n")
    with MisbehavingServer() as server:
        generator(server, api_key_env="LIT_FED_TEST_KEY").check()
    assert server.requests[0].headers["Authorization"] == f"Bearer {KEY}"


# ---------------------------------------------------------------- whoever calls


def test_within_a_running_loop() -> None:
    """As in a notebook."""
    import asyncio

    async def cell() -> list[str | None]:
        return generator(server).generate(["a"])

    with MisbehavingServer() as server:
        assert asyncio.run(cell()) == ["A"]


def test_the_run_s_own_draws_are_left_alone() -> None:
    import random

    state = random.getstate()
    with MisbehavingServer({"a": fails_with(500)}) as server:
        generator(server).generate(["a"])
    assert random.getstate() == state


def test_from_yaml() -> None:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--generator", type=TextGenerator)
    settings = {"base_url": "http://localhost:8000/v1", "model": "m", "api_key_env": "A_KEY"}
    given = {"class_path": "lit_fed.backbones.HTTPGenerator", "init_args": settings}
    made = parser.instantiate(parser.parse_object({"generator": given})).generator
    assert isinstance(made, HTTPGenerator)
    assert (made.base_url, made.model, made.api_key_env) == tuple(settings.values())
    assert made.chat


def test_a_reply_without_an_answer_shows_that_the_settings_are_right() -> None:
    """After it, what one prompt is refused is that prompt's, and the others are asked."""
    for trial in ("null", '""'):
        faults: dict[str, Fault] = {TRIAL: says(CHAT.format(trial)), "kill": fails_with(403)}
        with MisbehavingServer(faults) as server:
            asked = generator(server, concurrency=1)
            asked.check()
            with pytest.warns(UserWarning, match="no answer to 1 of 4"):
                assert asked.generate(["kill", "a", "b", "c"]) == [None, "A", "B", "C"]


def test_as_many_are_asked_at_once_as_is_said() -> None:
    running, most = 0, 0
    lock = Lock()

    def busy(exchange: Any) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        until = time.monotonic() + IN_TIME / 2
        while most < 120 and time.monotonic() < until:
            exchange.wait(0.05)
        with lock:
            running -= 1
        exchange.answer("yes")

    with MisbehavingServer(otherwise=busy) as server:
        asked = generator(server, concurrency=120, timeout=IN_TIME, prompt_timeout=IN_TIME)
        assert asked.generate([str(n) for n in range(120)]) == ["yes"] * 120
    assert most == 120


@pytest.mark.parametrize("host", ["0.0.0.0", "127.1"])
def test_this_machine_is_asked_without_a_proxy_whatever_it_is_called(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with MisbehavingServer() as server, MisbehavingServer() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.removesuffix("/v1"))
        port = server.url.rpartition(":")[2]
        assert HTTPGenerator(f"http://{host}:{port}", "some-model").generate(["yes"]) == ["YES"]
        assert not proxy.requests
