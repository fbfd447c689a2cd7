"""The public prompts, and the digest by which clients and server know that they mean the same."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from lit_fed.configuration_error import ConfigurationError

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor

    from lit_fed.data import FederatedDataModule
    from lit_fed.payload import Payload

DIGEST: Final = "digest"
"""The strings in a payload that say which prompts it is about."""


@dataclass(frozen=True)
class _Prompts:
    """What is made of a public set, once for all clients and rounds.

    Attributes:
        public: The public set of which it is made.
        rows: The rows as they are asked and learnt.
        names: Of the labels, where rows have such.
        digest: Of their prompts and these names.
    """

    public: Dataset
    rows: Dataset
    names: list[str] | None
    digest: str


_KNOWN: Final[WeakKeyDictionary[FederatedDataModule, _Prompts]] = WeakKeyDictionary()


def public_rows(data: FederatedDataModule) -> Dataset:
    """The public set; of chats that go on after the turn that is learnt what comes up to it.

    So a prompt asks for the turn in whose place its label is learnt, and not for one after it.

    Raises:
        ConfigurationError: If there is none.
    """
    return _prompts(data).rows


def require_prompts(data: FederatedDataModule) -> Dataset:
    """The public set as clients are asked it, with something in its prompts.

    Raises:
        ConfigurationError: If there is none, or all of its prompts are empty.
    """
    rows = public_rows(data)
    if not any(prompt.strip() for prompt in data.encoding.inputs(rows)):
        raise ConfigurationError(
            f"`data.public` is expected to have prompts, but the texts of all of its {len(rows):,} rows are empty"
        )
    return rows


def prompt_digest(data: FederatedDataModule) -> str:
    """A digest of the public prompts in their order and of the labels' names, not of what the rows say themselves.

    Returns:
        16 hexadecimal digits.

    Raises:
        ConfigurationError: If there is no public set.
    """
    return _prompts(data).digest


def digest_of(data: FederatedDataModule | None) -> str | None:
    """The digest of the public prompts; None where there is no data, or no public set.

    Args:
        data: The data, if there is any yet.
    """
    return None if data is None or data.public is None else prompt_digest(data)


def asked_digest(digest: str, bits: Tensor, in_round: int) -> str:
    """A digest of what is asked in a round, by which an upload says what it answers.

    Args:
        digest: Of the public prompts.
        bits: Which of them are asked, packed.
        in_round: The round, counted from 0.

    Returns:
        16 hexadecimal digits.

    Example:
        >>> import torch
        >>> first, others = torch.tensor([0b11000000]).byte(), torch.tensor([0b00110000]).byte()
        >>> len({asked_digest("1f", bits, n) for bits in (first, others) for n in (3, 4)})
        4
    """
    asked = f"{digest} {in_round} ".encode() + bits.numpy().tobytes()
    return hashlib.blake2b(asked, digest_size=8).hexdigest()


def is_of_others(payload: Payload, digest: str | None) -> bool:
    """Whether a payload says that it is about other prompts than those of a digest.

    Args:
        payload: The payload; from before digests were kept it says nothing.
        digest: The digest. None: it is not known, as where there is no data.

    Example:
        >>> from lit_fed import Payload
        >>> held = Payload(strings={DIGEST: ["1f"]})
        >>> [is_of_others(held, digest) for digest in ("1f", "2e", None)]
        [False, True, False]
    """
    held = payload.strings.get(DIGEST)
    return held is not None and digest is not None and held != (digest,)


def _prompts(data: FederatedDataModule) -> _Prompts:
    public = data.public
    if public is None:
        raise ConfigurationError(
            "`data.public` or `data.public_size` is expected where clients answer public prompts, but there is no "
            "public set"
        )
    known = _KNOWN.get(data)
    names = data.encoding.names
    if known is None or known.public is not public or known.names != names:
        encoding, rows = data.encoding, public
        more = encoding.goes_on(public)
        if more is not None and more.any():
            # a prompt with nothing more in it, since what follows the turn is left out of those
            rows = encoding.with_hints(public, [""] * len(public))
        asked = json.dumps([encoding.inputs(rows), names]).encode()
        digest = hashlib.blake2b(asked, digest_size=8).hexdigest()
        known = _KNOWN[data] = _Prompts(public, rows, names, digest)
    return known
