"""FLAME: the clients of one direction, clipped, with a little noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from lit_fed.aggregation.robust.changes import Geometry
from lit_fed.aggregation.robust.norm_clipping import clipped, median
from lit_fed.aggregation.robust.robust_rule import RobustRule
from lit_fed.limits import require_non_negative
from lit_fed.payload import Payload
from lit_fed.update import Update

# scikit-learn counts the client itself: the 1 of the paper's library.
_MIN_SAMPLES: Final = 2


class FLAME(RobustRule):
    r"""Clients whose changes point the same way as those of most others, clipped to the median norm, with noise.

    1. HDBSCAN clusters the n changes by their cosine distances, with at least ⌊n/2⌋ + 1 clients in a cluster, so that
       there is one at most. Who is not in it is left out.
    2. With :math:`S = \mathrm{median}_k \lVert \Delta_k \rVert` over all clients, each change of the L that are left is
       scaled by :math:`\min(1, S / \lVert \Delta_k \rVert)`, and their mean is added to θ_g.
    3. Gaussian noise of the standard deviation λ·S is added to every coordinate: over LoRA's products to every entry of
       the weights, as in the paper, of which the truncation takes a part away.

    Nguyen et al., "FLAME: Taming Backdoors in Federated Learning", 2022, Algorithm 1,
    https://arxiv.org/abs/2101.02281. It bears less than half of wrong clients. All clients count alike. The cluster is
    the smallest that is large enough: as a rule ⌊n/2⌋ + 1 clients are in it, also where all are honest. The clustering
    is scikit-learn's, with the settings of the authors. Where it finds no cluster all clients count, clipped, and a
    warning says so. The noise is for what remains of a backdoor and no promise of privacy: for that see
    :class:`~lit_fed.aggregation.robust.NormClipping`. Every round logs ``server/flame/left_out`` (clients), ``…/bound``
    (S) and ``…/clipped`` (share of those that are left). Bytes are those of federated averaging; the server compares
    all pairs.

    Args:
        noise: λ, at least 0; the paper's 0.001. 0: none.
        geometry: What a client's change is. None: products over LoRA, else coordinates.

    Raises:
        ValueError: If ``noise`` is out of range.

    Example:
        >>> way = {"a": [1.0, 0.1], "b": [1.0, 0.0], "c": [1.1, 0.1], "d": [-9.0, 0.0]}
        >>> sent = [Update(n, Payload({"w": torch.tensor(x)}), 1) for n, x in way.items()]
        >>> rule = FLAME(noise=0.0)
        >>> _ = rule(sent, Payload({"w": torch.zeros(2)}))
        >>> [round(w, 3) for w in rule.weights(sent)]
        [0.333, 0.333, 0.333, 0.0]
    """

    def __init__(self, noise: float = 0.001, geometry: Geometry | None = None) -> None:
        super().__init__(geometry)
        self.noise = require_non_negative("model.aggregation.noise", noise)

    def __call__(self, updates: Sequence[Update], previous: Payload) -> Payload:
        """Cluster, clip, average and add noise.

        Raises:
            ValueError: If there is no update, or clients or the broadcast before hold other tensors.
        """
        changes = self._changes(updates, previous)
        admitted = majority(changes.cosine_distances())
        if not bool(admitted.any()):
            rank_zero_warn(
                f"FLAME finds no {len(updates) // 2 + 1} of {len(updates)} clients whose changes point the same way: "
                "all of them count, clipped"
            )
            admitted = torch.ones_like(admitted)
        norms = changes.norms()
        bound = median(norms)
        weights = admitted.double() / admitted.sum()
        self._note(
            updates,
            weights,
            {
                "server/flame/left_out": float((~admitted).sum()),
                "server/flame/bound": bound,
                "server/flame/clipped": float((norms[admitted] > bound).double().mean()),
            },
        )
        return changes.combined(weights * clipped(norms, bound), self.noise * bound)


def majority(distances: Tensor) -> Tensor:
    """Which points are in the one cluster that has more than half of them, [n] of booleans.

    Args:
        distances: Between all pairs, [n, n], in float64.

    Example:
        >>> x = torch.tensor([0.0, 0.1, 0.2, 9.0], dtype=torch.float64)
        >>> majority((x[:, None] - x).abs())
        tensor([ True,  True,  True, False])
    """
    count = len(distances)
    if count < _MIN_SAMPLES:
        return torch.ones(count, dtype=torch.bool)
    from sklearn.cluster import HDBSCAN

    clustering = HDBSCAN(
        min_cluster_size=count // 2 + 1,
        min_samples=_MIN_SAMPLES,
        metric="precomputed",
        allow_single_cluster=True,
        copy=True,
    )
    return torch.from_numpy(clustering.fit_predict(distances.numpy()) >= 0)
