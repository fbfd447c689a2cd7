"""An error of what answers prompts that may be gone the next time."""

from __future__ import annotations

from lit_fed.configuration_error import ConfigurationError


class UnreachableError(ConfigurationError):
    """What answers prompts does not answer the trial: it is not there, or its settings are wrong, which looks the same.

    A run that begins should not train without it. One that goes on from a checkpoint knows that it was there, and
    loses no more by its absence than the answers of a round.

    Example:
        >>> raise UnreachableError("`base_url` is expected to be where the API itself is, but nobody is there")
        Traceback (most recent call last):
        lit_fed.backbones.endpoint.unreachable_error.UnreachableError: `base_url` is expected to be where the API \
itself is, but nobody is there
    """
