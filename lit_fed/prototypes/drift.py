"""Drift: how far prototypes have moved between versions, and how many inputs lie beyond the margin of all of them."""

from __future__ import annotations

from torch import Tensor

from lit_fed.losses.prototype_margin import require_margin
from lit_fed.prototypes.prototype_set import PrototypeSet, require_finite


def prototype_drift(before: PrototypeSet, after: PrototypeSet) -> float:
    """1 − the mean cosine of each prototype of one version and the same one of another, from 0 to 2.

    Args:
        before: The earlier version.
        after: The later one.

    Raises:
        ValueError: If they are no versions of the same prototypes.

    Example:
        >>> import torch
        >>> classes = counts = torch.tensor([0, 1])
        >>> one = PrototypeSet(torch.eye(2), classes, counts, version=0, encoder="a1b2")
        >>> two = PrototypeSet(-torch.eye(2), classes, counts, version=1, encoder="a1b2")
        >>> prototype_drift(one, one), prototype_drift(one, two)
        (0.0, 2.0)
    """
    if before.vectors.shape != after.vectors.shape or before.encoder != after.encoder:
        raise ValueError(
            f"two versions of the same prototypes are expected, but got {list(before.vectors.shape)} of the encoder "
            f"{before.encoder} and {list(after.vectors.shape)} of the encoder {after.encoder}"
        )
    return 1.0 - float((before.vectors * after.vectors).sum(-1).mean())


def share_beyond(prototypes: PrototypeSet, states: Tensor, margin: float) -> float:
    """The share of inputs whose nearest prototype is farther than a cosine distance, from 0 to 1.

    The drift score of Bergman et al., §4: inputs that consistently lie far from all prototypes are an alarm.

    Args:
        prototypes: The prototypes.
        states: The inputs' representations by the prototypes' encoder, [N, d].
        margin: m in [0, 2).

    Returns:
        The share; NaN of no inputs.

    Raises:
        ValueError: If the margin is out of range, the widths differ, or a representation is not finite.

    Example:
        >>> import torch
        >>> zero = torch.tensor([0])
        >>> one = PrototypeSet(torch.tensor([[1.0, 0.0]]), zero, zero, version=0, encoder="a1b2")
        >>> share_beyond(one, torch.tensor([[2.0, 0.0], [0.0, 1.0]]), margin=0.3)
        0.5
    """
    require_margin("margin", margin)
    require_finite("states", states)
    distances = 1 - prototypes.similarities(states).max(-1).values
    return float((distances > margin).double().mean())
