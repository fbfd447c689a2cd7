"""Drift: whether the inputs of a deployed model lie farther from its prototypes than its references do."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from lit_fed.limits import require_at_least, require_inner_fraction

One = TypeVar("One")


@dataclass(frozen=True)
class DriftWindow:
    """Consecutive inputs of a stream.

    Attributes:
        start: Position of the first in the stream.
        size: How many there are.
        beyond: How many lie beyond the margin.
        threshold: From how many on there is an alarm.
    """

    start: int
    size: int
    beyond: int
    threshold: int

    @property
    def share(self) -> float:
        """Share of the inputs beyond the margin, from 0 to 1."""
        return self.beyond / self.size

    @property
    def alarm(self) -> bool:
        """Whether there are too many."""
        return self.beyond >= self.threshold


def alarm_count(beyond: int, references: int, window: int, alpha: float = 0.01) -> int:
    r"""From how many inputs beyond the margin on a window is an alarm.

    If inputs and references come from one distribution, each choice of ``window`` of all of them is as likely as any
    other. So, given that k inputs and ``beyond`` references lie beyond the margin, the number of inputs among these is
    hypergeometric, and the threshold is the smallest k with

    .. math:: P(X \ge k) \le \alpha, \quad X \sim \mathrm{Hypergeometric}(n + w, b + k, w)

    which is Fisher's exact test. A false alarm comes in at most a share α of the windows, whatever the true share
    beyond the margin is, and however few references there are: a binomial bound that took the references' share for
    the true one would alarm more often.

    Args:
        beyond: References beyond the margin, b.
        references: References, n.
        window: Inputs of a window, w.
        alpha: Share of windows that may be false alarms, above 0 and below 1.

    Returns:
        The number, at most ``window`` + 1, with which there is never an alarm.

    Raises:
        ValueError: If there are no references, more are beyond than there are, or a number is out of range.

    Example:
        >>> alarm_count(beyond=10, references=200, window=50)
        9
    """
    from scipy.stats import hypergeom

    _check(references, window, alpha)
    if not 0 <= beyond <= references:
        raise ValueError(
            f"`beyond` is expected to be from 0 to the {references} references, but got {beyond}"
        )
    counts = np.arange(window + 1)
    tails = hypergeom.sf(counts - 1, references + window, beyond + counts, window)
    # the test is monotone, so that one number tells all of it
    return int(window + 1 - (tails <= alpha)[::-1].cumprod().sum())


def reference_margin(references: Sequence[float], share: float = 0.05) -> float:
    """The margin beyond which a share of the references lies.

    Args:
        references: Cosine of each reference to its nearest prototype.
        share: The share, at least 0 and below 1.

    Returns:
        The distance 1 − cosine that at most that share exceeds.

    Raises:
        ValueError: If there are no references, or the share is out of range.

    Example:
        >>> reference_margin([1.0, 0.75, 0.5, 0.0], share=0.25)
        0.5
    """
    if not 0 <= share < 1:
        raise ValueError(f"`share` is expected to be at least 0 and below 1, but got {share!r}")
    if not len(references):
        raise ValueError("`references` are expected to be one or more, but there are none")
    distances = np.sort(1.0 - np.asarray(references, np.float64))
    return float(distances[len(distances) - 1 - int(share * len(distances))])


def drift_windows(
    similarities: Iterable[float],
    references: Sequence[float],
    margin: float | None = None,
    window: int = 100,
    alpha: float = 0.01,
) -> Iterator[DriftWindow]:
    """Watch a stream of inputs for drift, window by window.

    An input lies beyond the margin m if 1 − cos > m for its nearest prototype. Windows do not overlap, each is told
    when its last input has come, and the inputs after the last whole one are not told of. Each is a false alarm with
    probability α at most (:func:`alarm_count`), so that in W windows αW are to be expected.

    Args:
        similarities: Cosine of each input to its nearest prototype; the stream may have no end.
        references: Those of held-out references, which are not what the prototypes were made of.
        margin: m. None: the one that 5 % of the references exceed (:func:`reference_margin`).
        window: Inputs of a window.
        alpha: Share of windows that may be false alarms, above 0 and below 1.

    Yields:
        The windows.

    Raises:
        ValueError: If there are no references, a number is out of range, or a similarity is not finite.

    Example:
        >>> clean, strange = [0.9, 0.8, 0.95, 0.85] * 10, [0.1] * 20
        >>> [one.alarm for one in drift_windows(clean[:20] + strange, clean, margin=0.3, window=20)]
        [False, True]
    """
    _check(len(references), window, alpha)
    if margin is None:
        margin = reference_margin(references)
    if not math.isfinite(margin):
        raise ValueError(f"`margin` is expected to be finite, but got {margin!r}")
    beyond = sum(_is_beyond(one, margin) for one in references)
    threshold = alarm_count(beyond, len(references), window, alpha)
    for number, part in enumerate(_parts(similarities, window)):
        if len(part) == window:
            found = sum(_is_beyond(one, margin) for one in part)
            yield DriftWindow(number * window, window, found, threshold)


def text_drift(
    texts: Iterable[One],
    references: Sequence[One],
    embed: Callable[[Sequence[One]], Tensor],
    similarities: Callable[[Tensor], Tensor],
    **settings: Any,
) -> Iterator[DriftWindow]:
    """Watch a stream of texts for drift; see :func:`drift_windows`.

    Args:
        texts: The inputs, texts or whatever ``embed`` takes, such as pairs of texts; the stream may have no end.
        references: Held-out references.
        embed: Vectors of texts, such as ``module.embed``.
        similarities: Their cosines to the prototypes, [B, P], such as ``module.prototypes.similarities``.
        **settings: ``margin``, ``window`` and ``alpha`` of :func:`drift_windows`.

    Yields:
        The windows.

    Example:
        >>> import torch
        >>> def embed(texts):
        ...     return torch.tensor([[1.0, 0.0] if "film" in text else [0.0, 1.0] for text in texts])
        >>> def similarities(vectors):  # one prototype
        ...     return vectors @ torch.tensor([[1.0], [0.0]])
        >>> stream = ["a film"] * 20 + ["a goal"] * 20
        >>> settings = {"margin": 0.3, "window": 20}
        >>> [one.alarm for one in text_drift(stream, ["the film"] * 40, embed, similarities, **settings)]
        [False, True]
    """

    def nearest(some: Sequence[One]) -> list[float]:
        found: list[float] = similarities(embed(some)).amax(-1).double().tolist()
        return found

    size = require_at_least("window", settings.get("window", 100), 1)
    held_out = nearest(references) if references else []
    stream = (one for part in _parts(texts, size) for one in nearest(part))
    return drift_windows(stream, held_out, **settings)


def _parts(stream: Iterable[One], size: int) -> Iterator[list[One]]:
    remaining = iter(stream)
    while part := list(islice(remaining, size)):
        yield part


def _is_beyond(similarity: float, margin: float) -> bool:
    if not math.isfinite(similarity):
        raise ValueError(f"a similarity is expected to be finite, but got {similarity!r}")
    return 1.0 - similarity > margin


def _check(references: int, window: int, alpha: float) -> None:
    if references < 1:
        raise ValueError("`references` are expected to be one or more, but there are none")
    require_at_least("window", window, 1)
    require_inner_fraction("alpha", alpha)
