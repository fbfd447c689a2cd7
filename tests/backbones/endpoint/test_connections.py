"""Proxies and certificates that the environment names: used where they are meant, and named where they are wrong."""

from __future__ import annotations

import pytest

from lit_fed.backbones import HTTPGenerator
from lit_fed.backbones.endpoint.connections import is_this_machine
from lit_fed.configuration_error import ConfigurationError
from tests.backbones.endpoint.misbehaving_server import MisbehavingServer

ELSEWHERE = "http://nowhere.test/v1"
SECRET = "very-secret"


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def asking(url: str) -> HTTPGenerator:
    return HTTPGenerator(url, "m", timeout=2.0, max_retries=0)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize(
    "value", [f"http://me:{SECRET}@h:1x", f"foo://{SECRET}", "http://[::1", "http://h:99999"]
)
def test_a_proxy_that_is_none_is_named(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(
        ConfigurationError, match=f"`{name}` of the environment is expected"
    ) as told:
        asking(ELSEWHERE).check()
    assert SECRET not in str(told.value)
    assert told.value.__context__ is None


def test_a_socks_proxy_names_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "socksio", None)
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    with pytest.raises(ConfigurationError, match=r"`ALL_PROXY` .* the package socksio is not"):
        asking(ELSEWHERE).check()


def test_a_wrong_proxy_for_nobody_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "foo://x")
    monkeypatch.setenv("NO_PROXY", "*")
    with pytest.raises(ConfigurationError, match=r"`base_url` is expected .* ConnectError"):
        asking(ELSEWHERE).check()


def test_certificates_that_are_not_there_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent")
    with pytest.raises(
        ConfigurationError, match=r"`SSL_CERT_FILE` .* '/nonexistent', .*: No such file"
    ):
        asking(ELSEWHERE).check()


def test_this_machine_is_asked_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with MisbehavingServer() as proxy, MisbehavingServer() as server:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.removesuffix("/v1"))
        assert asking(server.url).generate(["a"]) == ["A"]
        assert asking(server.url.replace("127.0.0.1", "localhost")).generate(["b"]) == ["B"]
        assert not proxy.requests
        assert asking(ELSEWHERE).generate(["c"]) == ["C"]
        assert [request.path for request in proxy.requests] == [f"{ELSEWHERE}/chat/completions"]
        # nor does a wrong one matter
        monkeypatch.setenv("ALL_PROXY", "foo://x")
        assert asking(server.url).generate(["d"]) == ["D"]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("api.localhost:80", True),
        ("127.3.2.1:80", True),
        ("[::1]:80", True),
        ("[::ffff:127.0.0.1]", True),
        ("192.168.0.1", False),
        ("[::2]", False),
        ("localhost.example", False),
        ("127.0.0.1.example", False),
    ],
)
def test_which_addresses_are_of_this_machine(host: str, expected: bool) -> None:
    assert is_this_machine(f"http://{host}/v1") == expected
