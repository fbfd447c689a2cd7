"""Fitting of prototypes: k-means of the references' directions, or the means of their classes."""

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
_SAME = 1e-6
"""Up to this cosine distance two directions are one: noise of padding and batching is far below."""


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
    r"""Prototypes of references by k-means of their directions, or by the mean of each class.

    Spherical k-means (Dhillon and Modha, 2001, https://doi.org/10.1023/A:1007612920971) is k-means of vectors of length
    1 whose centres are of length 1 again, so that no step lowers the sum of cosines. Here scikit-learn's k-means++ and
    Lloyd's iterations run over the normalised states, give an empty cluster the reference that is farthest from its
    centre, and the centres are normalised once, at the end. Before that a centre is the shorter the more its references
    differ, and these are assigned by Euclidean distance. So a reference may end nearer to another prototype than to its
    cluster's, and spherical k-means, begun at the result, may still raise the sum of cosines a little.

    The class of a prototype is that of most of the references that are nearest to it; of a tie, the lowest. A class
    that would have none, as a rare one, has its mean in the place of the prototype with the fewest references of a
    class with several, since a gate that goes by classes would drop all of its rows. A prototype that no reference is
    nearest to goes to the reference that is farthest from all of them; that of a rare class goes to the farthest of its
    own, and has none where all of these are the same as references that stand for other rare classes.

    Args:
        states: The references' representations, [N, d], none of them 0.
        labels: Their classes, [N], at least 0. None: prototypes have no class.
        n: P, how many prototypes, at most as many as references whose directions differ. Where they are the means of
            classes, there is one a class, and this is left out.
        seed: Of k-means++.
        supervised: Whether prototypes are the means of the classes.
        encoder: Digest of the encoder that has made the states.
        names: Names of the classes, where there are.
        texts: The references' texts, [N], of which each prototype keeps its three nearest. None: none is kept.

    Raises:
        ValueError: If fewer references differ in direction than there are prototypes, those of a prototype cancel each
            other out, a state is 0 or not finite, a label is negative, there are not as many texts as references, or a
            class that is named has no reference.

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
    _check_references(states, labels, n, supervised, names, texts)
    unit = F.normalize(states.detach().float().cpu(), dim=-1)
    if not supervised and (differ := _directions(unit, n)) < n:
        raise ValueError(
            f"`num_prototypes` is expected to be at most the number of references that differ in direction, {differ} "
            f"of {len(states)}, but got {n}"
        )
    if supervised and labels is not None:
        present = labels.unique()
        centres = torch.stack([unit[labels == label].mean(0) for label in present])
        vectors = F.normalize(centres, dim=-1)
        classes, counts = present.long().cpu(), torch.bincount(labels.cpu())[present.cpu()]
    else:
        centres = F.normalize(_k_means(unit, n, seed), dim=-1)
        vectors, classes = _settled(centres, unit, None if labels is None else labels.cpu())
        counts = torch.bincount((unit @ vectors.T).argmax(-1), minlength=n)
    _require_means(vectors, classes, names)
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


def _settled(vectors: Tensor, unit: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
    """Prototypes of which none is empty and each class has one, if there are as many, and their classes.

    It ends: a step gives a class a place of its own, or settles a place, which stays so unless a class takes it.
    """
    vectors, present = vectors.clone(), [] if labels is None else labels.unique().tolist()
    own, settled = dict[int, int](), set[int]()
    while True:
        cosines = unit @ vectors.T
        nearest = cosines.argmax(-1)
        counts = torch.bincount(nearest, minlength=len(vectors))
        classes = torch.full((len(vectors),), NO_CLASS)
        if labels is not None:
            classes = _majority(labels, nearest, len(vectors))
        for place, label in own.items():
            classes[place] = label
        missing = [one for one in present if not bool((classes == one).any())]
        if missing and len(present) <= len(vectors):
            place = _least_needed(classes, counts, list(own))
            vectors[place] = F.normalize(unit[labels == missing[0]].mean(0), dim=-1)
            own[place] = missing[0]
            settled.discard(place)
            continue
        empty = [p for p in (counts == 0).nonzero().flatten().tolist() if p not in settled]
        if not empty:
            return vectors, classes
        place, closest = empty[0], cosines.amax(-1)
        if place in own:
            closest = closest.where(torch.as_tensor(labels == own[place]), torch.inf)
        farthest = int(closest.argmin())
        # where two directions differ, one of them is at least a quarter of their distance from any third
        if float(closest[farthest]) < 1 - _SAME / 4:
            vectors[place] = unit[farthest]
        elif place in own and (holder := int(nearest[farthest])) not in own:
            # the class has a prototype where its references are, and this place is free
            own[holder] = own.pop(place)
            place = holder
        settled.add(place)


def _least_needed(classes: Tensor, counts: Tensor, own: list[int]) -> int:
    """The prototype with the fewest references of those of a class with several, but for places of classes' own."""
    several = [int((classes == one).sum()) > 1 or one == NO_CLASS for one in classes.tolist()]
    spare = torch.tensor(several)
    spare[own] = False
    return int(counts.where(spare, counts.max() + 1).argmin())


def _nearest_texts(cosines: Tensor, texts: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    if not texts:
        return ()
    order = np.argsort(-cosines.T.numpy(), axis=1, kind="stable")[:, :_NEAREST]
    return tuple(tuple(texts[place] for place in row) for row in order)


def _directions(unit: Tensor, most: int) -> int:
    """How many of the references' directions differ; it counts no further than is asked."""
    exact = unit.double()
    closest = torch.full((len(unit),), -1.0, dtype=torch.float64)
    for found in range(most):
        farthest = int(closest.argmin())
        if float(closest[farthest]) > 1 - _SAME:
            return found
        closest = torch.maximum(closest, exact @ exact[farthest])
    return most


def _require_means(vectors: Tensor, classes: Tensor, names: Sequence[str]) -> None:
    """Raise where the mean of a prototype's references is 0, which has no direction."""
    lengths = torch.linalg.vector_norm(vectors, dim=-1)
    if bool((lengths > 0.5).all()):
        return
    place = int(lengths.argmin())
    label = int(classes[place])
    named = names[label] if 0 <= label < len(names) else label
    of_class = "" if label == NO_CLASS else f" of class {named!r}"
    raise ValueError(
        f"`references` are expected to have a mean direction for each prototype, but those of prototype {place}"
        f"{of_class} cancel each other out"
    )


def _check_references(
    states: Tensor,
    labels: Tensor | None,
    n: int,
    supervised: bool,
    names: Sequence[str],
    texts: Sequence[str],
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
    if texts and len(texts) != len(states):
        raise ValueError(
            f"`texts` are expected to be one a reference, {len(states)}, but got {len(texts)}"
        )
    lengths = torch.linalg.vector_norm(states.detach().float(), dim=-1)
    if not bool((lengths.isfinite() & (lengths > 0)).all()):
        place = int((~(lengths.isfinite() & (lengths > 0))).nonzero()[0])
        raise ValueError(
            f"`states` are expected to be finite and not 0, but that of reference {place} has length "
            f"{float(lengths[place]):g}"
        )
    if labels is not None:
        if bool((labels < 0).any()):
            place = int((labels < 0).nonzero()[0])
            raise ValueError(
                f"`labels` are expected to be at least 0, but that of reference {place} is {int(labels[place])}"
            )
        absent = [name for c, name in enumerate(names) if not bool((labels == c).any())]
        if absent:
            raise ValueError(
                f"`references` are expected to have rows of each class, but have none of {absent[0]!r} (in all "
                f"{len(absent)} of {len(names)} classes)"
            )
