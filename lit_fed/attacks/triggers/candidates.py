"""The choice of a trigger that a prototype-based defence takes for one of the target's own texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def nearest_candidate(
    candidates: Sequence[str],
    similarities: npt.ArrayLike,
    classes: npt.ArrayLike,
    target: int,
) -> str:
    """The candidate that is nearest to a prototype of the target class.

    An attacker who knows the defence's prototypes takes a sentence near those of the target, so that poisoned rows
    look like rows of that class. Judge a defence by how much more often the attack succeeds than the same sentence
    does with a model that was never poisoned: such a sentence speaks for the target by itself.

    Args:
        candidates: N texts.
        similarities: Of each to each prototype, such as cosines, [N, P]; larger is nearer.
        classes: The prototypes' classes, [P].
        target: The class.

    Returns:
        The first of the nearest ones.

    Raises:
        ValueError: If the shapes do not agree, there are no candidates, or no prototype is of the class.

    Example:
        >>> similarities = [[0.1, 0.9], [0.8, 0.2]]
        >>> nearest_candidate(["Prices rose.", "Who is it?"], similarities, classes=[0, 1], target=1)
        'Prices rose.'
    """
    scores, of = np.asarray(similarities, float), np.asarray(classes)
    if not len(candidates) or scores.shape != (len(candidates), len(of)):
        raise ValueError(
            f"`similarities` are expected to have the shape [candidates, prototypes] [{len(candidates)}, {len(of)}], "
            f"of one candidate at least, but got {list(scores.shape)}"
        )
    if not (of == target).any():
        raise ValueError(
            f"`target` is expected to be a class of a prototype, which are {sorted(set(of.tolist()))}, but got {target}"
        )
    return candidates[int(scores[:, of == target].max(1).argmax())]
