"""Fitting of prototypes: spherical k-means of the references' representations, or the means of their classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lit_fed.limits import require_at_least
from lit_fed.prototypes.prototype_set import NO_CLASS, PrototypeSet

_ITERATIONS = 300
_NEAREST = 3


def fit_prototypes(
    states: Tensor,
    labels: Tensor | None,
    n: int,
    seed: int,
    supervised: bool = False,
    encoder: str = "",
    names: Sequence[str] = (),
    texts: Sequence[str] = (),
) -> PrototypeSet:
    r"""Prototypes of references by spherical k-means, or by the mean of each class.

    Spherical k-means (Dhillon and Modha, 2001, https://doi.org/10.1023/A:1007612920971) is k-means of vectors of length
    1 whose centres are of length 1 again: it maximises the sum of cosines. Here it is scikit-learn's k-means++ and
    Lloyd's iterations, which give an empty cluster the reference that is farthest from its centre, and the centres are
    normalised. The class of a prototype is that of most of its references; of a tie, the lowest. A class that would
    have none, as a rare one, has its mean in the place of the prototype with the fewest references of a class with
    several, since a gate that goes by classes would drop all of its rows.

    Args:
        states: The references' representations, [N, d], none of them 0.
        labels: Their classes, [N], at least 0. None: prototypes have no class.
        n: P, how many prototypes. Where they are the means of classes, there is one a class, and this is left out.
        seed: Of k-means++.
        supervised: Whether prototypes are the means of the classes.
        encoder: Digest of the encoder that has made the states.
        names: Names of the classes, where there are.
        texts: The references' texts, [N], of which each prototype keeps its three nearest. None: none is kept.

    Raises:
        ValueError: If fewer references differ than there are prototypes, a state is 0 or not finite, or a class that is
            named has no reference.

    Example:
        >>> states = torch.tensor([[1.0, 0.1], [1.0, -0.1], [-1.0, 0.0]])
        >>> prototypes = fit_prototypes(states, torch.tensor([1, 1, 0]), n=2, seed=0)
        >>> sorted(zip(prototypes.classes.tolist(), prototypes.counts.tolist()))
        [(0, 1), (1, 2)]
        >>> fit_prototypes(states, None, n=4, seed=0)
        Traceback (most recent call last):
        ValueError: `num_prototypes` is expected to be at most the number of references, 3, but got 4
    """
    require_at_least("num_prototypes", n, 1)
    _check_references(states, labels, n, supervised, names)
    unit = F.normalize(states.detach().float().cpu(), dim=-1)
    if supervised and labels is not None:
        present = labels.unique()
        centres = torch.stack([unit[labels == label].mean(0) for label in present])
    else:
        centres = _k_means(unit, n, seed)
    vectors = F.normalize(centres, dim=-1)
    classes = torch.full((len(vectors),), NO_CLASS)
    if labels is not None and not supervised:
        vectors, classes = _of_every_class(vectors, unit, labels.cpu())
    nearest = (unit @ vectors.T).argmax(-1)
    counts = torch.bincount(nearest, minlength=len(vectors))
    if labels is not None and supervised:
        classes, counts = present.long().cpu(), torch.bincount(labels.cpu())[present.cpu()]
    return PrototypeSet(
        vectors, classes, counts, 0, encoder, _nearest_texts(unit @ vectors.T, texts), tuple(names)
    )


def _k_means(unit: Tensor, n: int, seed: int) -> Tensor:
    from sklearn.cluster import KMeans

    fitted = KMeans(n, n_init=1, max_iter=_ITERATIONS, random_state=seed).fit(unit.double().numpy())
    return torch.from_numpy(fitted.cluster_centers_).float()


def _majority(labels: Tensor, nearest: Tensor, n: int) -> Tensor:
    """The class of most references of each prototype; −1 of one that is nearest to none."""
    width = int(labels.max()) + 1
    votes = torch.bincount(nearest * width + labels, minlength=n * width).view(n, width)
    return votes.argmax(-1).where(votes.sum(-1) > 0, NO_CLASS)


def _of_every_class(vectors: Tensor, unit: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Prototypes of which each class has one, if there are as many, and their classes; see :func:`fit_prototypes`."""
    vectors, present, means = vectors.clone(), labels.unique(), dict[int, int]()
    while True:
        nearest = (unit @ vectors.T).argmax(-1)
        classes = _majority(labels, nearest, len(vectors))
        for place, own in means.items():
            classes[place] = own
        missing = [one for one in present.tolist() if not bool((classes == one).any())]
        if not missing or len(present) > len(vectors):
            return vectors, classes
        counts = torch.bincount(nearest, minlength=len(vectors))
        several = [int((classes == one).sum()) > 1 or one == NO_CLASS for one in classes.tolist()]
        spare = torch.tensor(several)
        spare[list(means)] = False
        place = int(counts.where(spare, counts.max() + 1).argmin())
        vectors[place] = F.normalize(unit[labels == missing[0]].mean(0), dim=-1)
        means[place] = missing[0]


def _nearest_texts(cosines: Tensor, texts: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    if not texts:
        return ()
    order = np.argsort(-cosines.T.numpy(), axis=1, kind="stable")[:, :_NEAREST]
    return tuple(tuple(texts[place] for place in row) for row in order)


def _check_references(
    states: Tensor, labels: Tensor | None, n: int, supervised: bool, names: Sequence[str]
) -> None:
    if states.dim() != 2 or (labels is not None and labels.shape != states.shape[:1]):
        raise ValueError(
            f"`states` are expected to be [N, d] and `labels` [N], but got {list(states.shape)} and "
            f"{None if labels is None else list(labels.shape)}"
        )
    if supervised and labels is None:
        raise ValueError(
            "`labels` are expected where prototypes are means of classes, but got none"
        )
    if not supervised and len(states) < n:
        raise ValueError(
            f"`num_prototypes` is expected to be at most the number of references, {len(states)}, but got {n}"
        )
    if not supervised and (differ := len(torch.unique(states.detach().float(), dim=0))) < n:
        raise ValueError(
            f"`num_prototypes` is expected to be at most the number of references that differ, {differ} of "
            f"{len(states)}, but got {n}"
        )
    lengths = torch.linalg.vector_norm(states.detach().float(), dim=-1)
    if not bool((lengths.isfinite() & (lengths > 0)).all()):
        place = int((~(lengths.isfinite() & (lengths > 0))).nonzero()[0])
        raise ValueError(
            f"`states` are expected to be finite and not 0, but that of reference {place} has length "
            f"{float(lengths[place]):g}"
        )
    if labels is not None:
        absent = [name for c, name in enumerate(names) if not bool((labels == c).any())]
        if absent:
            raise ValueError(
                f"`references` are expected to have rows of each class, but have none of {absent[0]!r} (in all "
                f"{len(absent)} of {len(names)} classes)"
            )
