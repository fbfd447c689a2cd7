"""Adaptation and merging: prototypes that clients move towards their own rows, and the server averages again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_fed.limits import require_share
from lit_fed.prototypes.prototype_set import PrototypeSet


def adapt_prototypes(
    prototypes: PrototypeSet, states: Tensor, share: float, assignment: Tensor | None = None
) -> PrototypeSet:
    r"""A client's own prototypes: each moved towards the mean of the client's rows that are assigned to it.

    .. math:: P_j^k \propto (1 - \beta) P_j + \beta \, \bar u_j, \qquad u = r / \lVert r \rVert

    The domain-adaptive prototypes of Bergman et al., §4. One without rows stays where it is, with a count of 0.

    Args:
        prototypes: P, those that all share.
        states: r, representations of the client's rows, [N, d]; there may be none.
        share: β in [0, 1]. 0: nothing moves.
        assignment: The rows' prototypes, [N]. None: the nearest ones.

    Returns:
        Prototypes of the same version, whose counts are the client's rows.

    Raises:
        ValueError: If β is out of range, or the widths differ.

    Example:
        >>> zero = torch.tensor([0])
        >>> east = PrototypeSet(torch.tensor([[1.0, 0.0]]), zero, zero, version=0, encoder="a1b2")
        >>> adapt_prototypes(east, torch.tensor([[0.0, 5.0]]), share=0.5).vectors.round(decimals=3)
        tensor([[0.7070, 0.7070]])
    """
    require_share("share", share)
    unit = F.normalize(states.detach().float().cpu(), dim=-1)
    places = prototypes.nearest(unit) if assignment is None else assignment.cpu()
    counts = torch.bincount(places, minlength=len(prototypes))
    sums = torch.zeros_like(prototypes.vectors).index_add_(0, places, unit)
    means = sums / counts.clamp(min=1).unsqueeze(-1)
    moved = (1 - share) * prototypes.vectors + share * means
    # Opposite directions cancel out: such a prototype stays where it was.
    usable = (counts > 0) & (torch.linalg.vector_norm(moved, dim=-1) > 1e-6)
    vectors = torch.where(usable.unsqueeze(-1), F.normalize(moved, dim=-1), prototypes.vectors)
    return replace(prototypes, vectors=vectors, counts=counts)


def merge_prototypes(before: PrototypeSet, clients: Sequence[PrototypeSet]) -> PrototypeSet:
    r"""The next version: of each prototype the mean of the clients', weighted by the counts of their rows.

    .. math:: P_j \propto \sum_k n_j^k P_j^k \, / \, \sum_k n_j^k

    The federated averaging of prototypes of Bergman et al., §4. One that no client has rows for stays as it was.

    Args:
        before: The prototypes that the clients started from.
        clients: Theirs, with the counts of their rows.

    Returns:
        Prototypes of the version after ``before``, whose counts are those of all clients' rows.

    Raises:
        ValueError: If a client's are of another version, encoder or number.

    Example:
        >>> zero = torch.tensor([0])
        >>> east = PrototypeSet(torch.tensor([[1.0, 0.0]]), zero, zero, version=0, encoder="a1b2")
        >>> north = adapt_prototypes(east, torch.tensor([[0.0, 1.0]] * 3), share=1.0)
        >>> south = adapt_prototypes(east, torch.tensor([[0.0, -1.0]]), share=1.0)
        >>> merged = merge_prototypes(east, [north, south])
        >>> merged.vectors.tolist(), merged.counts.tolist(), merged.version
        ([[0.0, 1.0]], [4], 1)
    """
    for number, one in enumerate(clients):
        _require_mergeable(before, one, number)
    counts = torch.stack([one.counts for one in clients]).sum(0) if clients else before.counts * 0
    sums = torch.zeros_like(before.vectors, dtype=torch.float64)
    for one in clients:
        sums += one.counts.unsqueeze(-1) * one.vectors.double()
    usable = (counts > 0) & (torch.linalg.vector_norm(sums, dim=-1) > 1e-6)
    vectors = torch.where(usable.unsqueeze(-1), F.normalize(sums, dim=-1).float(), before.vectors)
    return replace(before, vectors=vectors, counts=counts, version=before.version + 1)


def _require_mergeable(before: PrototypeSet, one: PrototypeSet, number: int) -> None:
    for what, ours, theirs in (
        ("version", before.version, one.version),
        ("encoder", before.encoder, one.encoder),
        ("shape", list(before.vectors.shape), list(one.vectors.shape)),
    ):
        if ours != theirs:
            raise ValueError(
                f"prototypes of client {number} are expected to have the {what} {ours} of those that are merged, but "
                f"have {theirs}"
            )
