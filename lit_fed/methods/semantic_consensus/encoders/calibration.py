"""Calibration: the distance at which an encoder's answers that say the same part from those that do not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import roc_curve

from lit_fed.methods.semantic_consensus.encoders.answer_encoder import AnswerEncoder


def calibrated_threshold(
    encoder: AnswerEncoder,
    groups: Sequence[Sequence[str]],
    prompts: Sequence[int] | None = None,
) -> float:
    """The cosine distance that best tells pairs of answers that say the same from other pairs.

    It is where the share of pairs of one group within the distance exceeds that of pairs of two groups by most
    (Youden's index, 1950), halfway to the next larger distance.

    Args:
        encoder: Makes vectors of the answers.
        groups: Answers that say the same, a group for each meaning, one of them at least with two answers.
        prompts: Of each group the prompt that it answers. Where it is given, pairs of two groups count where they
            answer the same prompt: different answers to one prompt are nearer to each other than answers to two, and
            it is those that a consensus has to tell apart. Otherwise all pairs count.

    Returns:
        In [0, 2].

    Raises:
        ValueError: If no two answers say the same, or no two that are compared do not.

    Example:
        >>> from lit_fed.methods.semantic_consensus import HashedNgramEncoder
        >>> groups = [["yes", "yes.", "Yes!"], ["no", "no.", "No, never"]]
        >>> 0.4 < calibrated_threshold(HashedNgramEncoder(), groups) < 1
        True
    """
    sizes = [len(group) for group in groups]
    group = np.repeat(np.arange(len(groups)), sizes)
    prompt = np.repeat(np.zeros(len(groups)) if prompts is None else np.array(prompts), sizes)
    one, other = np.triu_indices(len(group), k=1)
    compared = prompt[one] == prompt[other]
    one, other = one[compared], other[compared]
    differ = group[one] != group[other]
    if not differ.any() or differ.all():
        raise ValueError(
            f"`groups` is expected to have answers to one prompt that say the same and others that do not, but got "
            f"groups of {sizes} for prompts {None if prompts is None else list(prompts)}"
        )
    vectors = encoder.encode([answer for answers in groups for answer in answers]).double().numpy()
    distances = np.clip(1 - (vectors[one] * vectors[other]).sum(1), 0, 2)
    false, true, cuts = roc_curve(differ, distances, drop_intermediate=False)
    best = cuts[int((true - false).argmax())]
    nearer = distances[distances < best]
    return float((best + nearer.max()) / 2) if len(nearer) else 0.0
