"""A paper's claim as data: which of its runs' figures are compared, and what is said of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from lit_fed.limits import require_non_negative, require_positive

Part = Literal["whole", "first half", "second half"]
Statistic = Literal["rise", "steepness", "wavering"]
Direction = Literal["higher", "lower"]


@dataclass(frozen=True)
class ArmComparison:
    """Whether a weighted sum over the final figures of several arms is on the better side of 0.

    Args:
        metrics: Names in the runs' summaries. Each makes a comparison of its own.
        weights: The arms' weights by their folders below the study's root, such as ``ddg_msi`` or, of a
            sweep, ``ddg_msi/scale=0.1``. ``{a: 1, b: -1}``: a is better than b.
        text: What is compared. Empty: made of the arms, where these are two.
        margin: By how much it may be worse and still hold, in the metrics' units, as in a test of non-inferiority.
        times: By which factor it has to be better, of amounts such as bytes: what is compared is the logarithm to base
            10 of each. None: the amounts themselves, by any difference.

    Raises:
        ValueError: If the weights are not two or more that add up to 0, the margin is negative, ``times`` is not
            above 0 or comes with a margin, or a text is missing.

    Example:
        >>> ArmComparison(["test/accuracy"], {"ddg": 1, "lora_fedavg": -1}).text
        'ddg better than lora_fedavg'
        >>> ArmComparison(["test/accuracy"], {"gated": 1, "undefended": -1}, margin=0.02).text
        'gated worse than undefended by less than 0.02'
        >>> ArmComparison(["bytes/up"], {"consensus": 1, "fedavg": -1}, times=100).text
        'consensus better than fedavg by a factor of 100 (log10)'
    """

    metrics: list[str]
    weights: dict[str, float]
    text: str = ""
    margin: float = 0.0
    times: float | None = None

    def __post_init__(self) -> None:
        require_non_negative("margin", self.margin)
        if self.times is not None:
            require_positive("times", self.times)
            if self.margin:
                raise ValueError(
                    f"`margin` is expected to be 0 where there is `times`, but got {self.margin}"
                )
        if len(self.weights) < 2 or abs(sum(self.weights.values())) > 1e-9:
            raise ValueError(
                "`weights` of a comparison are expected to be of two arms or more and to add up to 0, "
                f"but got {self.weights}"
            )
        if not self.text:
            if sorted(self.weights.values()) != [-1, 1]:
                raise ValueError(
                    f"`text` of a comparison of {list(self.weights)} is expected, but there is none"
                )
            worse, better = sorted(self.weights, key=lambda arm: self.weights[arm])
            said = f"{better} better than {worse}"
            if self.margin:
                said = f"{better} worse than {worse} by less than {self.margin:g}"
            if self.times is not None:
                said = f"{better} better than {worse} by a factor of {self.times:g} (log10)"
            object.__setattr__(self, "text", said)


@dataclass(frozen=True)
class Term:
    """A statistic of one metric's curve, with its weight in a comparison.

    Args:
        metric: Name in the rounds' rows or, over swept values, in the summaries.
        part: The part of the curve. Halves share the middle: of n points the first half has the first
            n // 2 + 1, the second half the last n // 2 + 1.
        weight: Factor of the statistic.
    """

    metric: str
    part: Part = "whole"
    weight: float = 1.0


@dataclass(frozen=True)
class CurveComparison:
    """Whether a weighted sum of curves' statistics is above 0.

    Args:
        text: What is compared.
        arm: Folder below the study's root.
        terms: Curves and weights.
        over: ``rounds``, or the last part of the swept setting's name, such as ``scale``.
        statistic: ``rise``: the rank correlation with the rounds or values, from −1 to 1. ``steepness``: its
            absolute value. ``wavering``: the share of the way up and down that leads nowhere, 0 of a monotone
            curve.

    Raises:
        ValueError: If there is no term, or only terms of steepness or wavering, which are never below 0,
            with weights of one sign.
    """

    text: str
    arm: str
    terms: list[Term]
    over: str = "rounds"
    statistic: Statistic = "rise"

    def __post_init__(self) -> None:
        weights = [term.weight for term in self.terms]
        if not weights:
            raise ValueError(
                f"`terms` of {self.text!r} are expected to be one or more, but got none"
            )
        if self.statistic != "rise" and (min(weights) >= 0 or max(weights) <= 0):
            raise ValueError(
                f"`terms` of {self.text!r} are expected to have weights of both signs, since a {self.statistic} is "
                f"never below 0, but got {weights}"
            )


@dataclass(frozen=True)
class Condition:
    """What has to be so for a claim to be judged at all: a bound on arms' means over their seeds.

    A defence, for instance, cannot be credited where there is no attack.

    Args:
        text: What is there where it is met, such as ``attack``: where it is not, the page says that there is none.
        metrics: Names in the runs' summaries. It is to be met by each.
        weights: The arms' weights in a sum of their means, by their folders below the study's root.
        at_least: The least sum. None: any.
        at_most: The largest sum. None: any.

    Raises:
        ValueError: If there is no metric, no arm or no bound.

    Example:
        >>> Condition("attack", ["backdoor/asr"], {"undefended": 1}, at_least=90.0).met(61.5)
        False
    """

    text: str
    metrics: list[str]
    weights: dict[str, float]
    at_least: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        if not self.metrics or not self.weights:
            raise ValueError(
                f"`provided` {self.text!r} is expected to have `metrics` and `weights`, but has {self.metrics} and "
                f"{self.weights}"
            )
        if self.at_least is None and self.at_most is None:
            raise ValueError(
                f"`provided` {self.text!r} is expected to have `at_least` or `at_most`, but has none"
            )

    def met(self, value: float) -> bool:
        """Whether a sum is within the bounds; NaN is not."""
        low = self.at_least is None or value >= self.at_least
        high = self.at_most is None or value <= self.at_most
        return value == value and low and high


@dataclass(frozen=True)
class Claim:
    """A claim, taken apart into comparisons. It holds if each of them does.

    Args:
        text: The claim in the words of the page.
        arms: Comparisons of arms.
        curves: Comparisons of curves.
        provided: What has to be so for it to be judged. Where it is not, the page says what is missing in the place of
            a verdict, and its comparisons are none of the page's.
    """

    text: str
    arms: list[ArmComparison] = field(default_factory=list)
    curves: list[CurveComparison] = field(default_factory=list)
    provided: list[Condition] = field(default_factory=list)
