"""API key: read from an environment variable when it is needed, and kept nowhere."""

from __future__ import annotations

import os
import re

from lit_fed.configuration_error import ConfigurationError


def require_variable_name(setting: str, name: str | None) -> str | None:
    """The name of an environment variable, where there is one.

    Args:
        setting: The setting.
        name: What it gives.

    Raises:
        ValueError: If it is no name in capitals; it is not shown, since it may be the key itself.

    Example:
        >>> require_variable_name("api_key_env", "OPENAI_API_KEY")
        'OPENAI_API_KEY'
        >>> require_variable_name("api_key_env", "sk-abc")
        Traceback (most recent call last):
        ValueError: `api_key_env` is expected to be the name of an environment variable, in capitals, such as \
OPENAI_API_KEY, but got something else, which is not shown since it may be the key itself
    """
    if name is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
        raise ValueError(
            f"`{setting}` is expected to be the name of an environment variable, in capitals, such as OPENAI_API_KEY, "
            "but got something else, which is not shown since it may be the key itself"
        )
    return name


def read_key(setting: str, name: str | None) -> str | None:
    """The key in an environment variable, without blanks around it.

    Args:
        setting: The setting that names the variable.
        name: Its name. None: there is no key.

    Raises:
        ConfigurationError: If the variable is not set, or has what no header can carry.
    """
    if name is None:
        return None
    key = os.environ.get(name, "").strip()
    if not key:
        raise ConfigurationError(
            f"`{setting}` is expected to name an environment variable that holds a key, but it names one that is not "
            "set or empty (its name is not shown, in case that it is the key itself)"
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ConfigurationError(
            f"`{setting}` is expected to name an environment variable that holds a key, without blanks and in ASCII, "
            f"but {name} holds something else"
        )
    return key
