"""The public prompts, and the digest by which clients and server know that they mean the same."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from lit_fed.configuration_error import ConfigurationError

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.data import FederatedDataModule


def public_rows(data: FederatedDataModule) -> Dataset:
    """The public set.

    Raises:
        ConfigurationError: If there is none.
    """
    public = data.public
    if public is None:
        raise ConfigurationError(
            "`data.public` or `data.public_size` is expected where clients answer public prompts, but there is no "
            "public set"
        )
    return public


def prompt_digest(data: FederatedDataModule) -> str:
    """A digest of the public prompts in their order, without what the rows say about their answers.

    Returns:
        16 hexadecimal digits.
    """
    asked = data.encoding.inputs(public_rows(data))
    return hashlib.blake2b(json.dumps(asked).encode(), digest_size=8).hexdigest()
