"""Steps without noise of clients that have an account of their privacy, which no ε bounds."""

from __future__ import annotations

from typing import Final

import torch

from lit_fed.payload import Payload

_UNPROTECTED: Final = "unprotected"


def with_unprotected_steps(privacy: Payload, steps: int) -> Payload:
    """A client's account after steps without noise; one that is empty stays so.

    Args:
        privacy: The account; see :class:`~lit_fed.federation.client.client_state.ClientState`.
        steps: How many steps.

    Example:
        >>> account = Payload({"epsilon": torch.tensor(1.0)})
        >>> unprotected_steps(with_unprotected_steps(with_unprotected_steps(account, 3), 4))
        7
        >>> with_unprotected_steps(Payload(), 3) == Payload()
        True
    """
    if not privacy or not steps:
        return privacy
    count = unprotected_steps(privacy) + steps
    return Payload({**privacy.tensors, _UNPROTECTED: torch.tensor(count)})


def unprotected_steps(privacy: Payload) -> int:
    """How many steps without noise a client has taken since it has an account.

    Args:
        privacy: The account.
    """
    return int(privacy.tensors.get(_UNPROTECTED, 0))
