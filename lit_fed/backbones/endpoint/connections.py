"""Connections: the client that requests go through, with the certificates and proxies that the environment names."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address
from socket import inet_aton
from urllib.parse import urlsplit
from urllib.request import getproxies

from httpx2 import AsyncClient, InvalidURL, Limits, create_ssl_context

from lit_fed.configuration_error import ConfigurationError


def http_client(url: str, headers: Mapping[str, str], at_once: int) -> AsyncClient:
    """A client for requests to an address, without limits of time.

    It goes by the environment: by certificates of ``SSL_CERT_FILE`` or ``SSL_CERT_DIR``, and through the proxy that
    ``HTTP_PROXY``, ``HTTPS_PROXY`` or ``ALL_PROXY`` names, unless ``NO_PROXY`` has the address. This machine itself is
    always asked without a proxy.

    Args:
        url: The address.
        headers: Of each request.
        at_once: How many requests may be under way.

    Raises:
        ConfigurationError: If one of these variables holds what cannot be used.
    """
    certificates = _certificates()
    alone = is_this_machine(url)
    if not alone:
        _check_proxies(certificates)
    limits = Limits(max_connections=at_once, max_keepalive_connections=at_once)
    return AsyncClient(
        timeout=None, headers=headers, verify=certificates, trust_env=not alone, limits=limits
    )


def is_this_machine(url: str) -> bool:
    """Whether an address is one of the machine on which this runs.

    Args:
        url: The address.

    Example:
        >>> hosts = "localhost:8000", "127.0.0.1", "127.1", "[::1]", "0.0.0.0", "10.0.0.1"
        >>> [is_this_machine(f"http://{host}/v1") for host in hosts]
        [True, True, True, True, True, False]
    """
    host = (urlsplit(url).hostname or "").rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        try:
            # numbers of IPv4 in other forms, such as 127.1, as every resolver takes them
            address = ip_address(inet_aton(host))
        except OSError:
            return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    own = mapped or address
    return own.is_loopback or own.is_unspecified


def _certificates() -> ssl.SSLContext:
    try:
        return create_ssl_context()
    except OSError as error:
        named = [name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)]
        if not named:
            raise
        raise ConfigurationError(
            f"`{named[0]}` of the environment is expected to name certificates, or not to be set, but is "
            f"{os.environ[named[0]]!r}, which cannot be read: {error.strerror or error}"
        ) from None


def _check_proxies(certificates: ssl.SSLContext) -> None:
    """Name the variable whose proxy cannot be used; its value is not shown, since it may hold a password."""
    given = getproxies()
    if "*" in map(str.strip, given.get("no", "").split(",")):
        return
    for scheme in ("http", "https", "all"):
        proxy = given.get(scheme)
        if proxy and (wrong := _wrong(proxy, certificates)):
            lower = f"{scheme}_proxy"
            name = lower if os.environ.get(lower) else lower.upper()
            raise ConfigurationError(
                f"`{name}` of the environment is expected to be the address of a proxy that can be used, such as "
                f"http://proxy:3128, or not to be set, but is {wrong}"
            )


def _wrong(proxy: str, certificates: ssl.SSLContext) -> str | None:
    """What an address that is no proxy's is; None of one that is."""
    address = proxy if "://" in proxy else f"http://{proxy}"
    try:
        AsyncClient(proxy=address, verify=certificates, trust_env=False)
        known = urlsplit(address).port != 0
    except ImportError:
        return "one of SOCKS, for which the package socksio is not installed"
    # which of them depends on the part of the address that is wrong
    except (InvalidURL, ValueError):
        known = False
    return None if known else "something else, which is not shown since it may hold a password"
