"""Weights that stay as they were built and travel to nobody: a run knows them again by a digest."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from lit_fed.backbones.identity import weights_digest
from lit_fed.payload import Payload


class FrozenWeights:
    """The digest of frozen weights, which a rule keeps as its state.

    Args:
        what: What they are, such as ``A`` or ``head``.
        weights: As they were built, by name.

    Example:
        >>> import torch
        >>> frozen = FrozenWeights("A", {"a": torch.ones(2)})
        >>> frozen.require(frozen.state(), "FFALoRA")
    """

    def __init__(self, what: str, weights: Mapping[str, Tensor]) -> None:
        self._what = what
        self._digest = weights_digest(weights)

    def state(self) -> Payload:
        """The digest."""
        return Payload(strings={f"frozen {self._what}": [self._digest]})

    def require(self, state: Payload, rule: str) -> None:
        """Compare with those of the run.

        Args:
            state: What :meth:`state` gave; an empty payload stands for a run that begins.
            rule: The class that asks, for the message.

        Raises:
            ValueError: If they are others.
        """
        kept = state.strings.get(f"frozen {self._what}", ())
        if state and kept != (self._digest,):
            raise ValueError(
                f"`model.aggregation` {rule} expects the frozen {self._what} of the run, "
                f"{', '.join(kept) or 'which it has not kept'}, but those of `model.backbone` are {self._digest}: "
                "build it with the same `seed_everything`"
            )
