"""What a case says of a rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from lit_fed.conformance.lora_case import LoRACase
from lit_fed.conformance.subject import NotOffered, Subject

Verdict = Literal["exact", "nearest of its rank", "mean of factors", "no", "not offered", "error"]


@dataclass(frozen=True)
class Judgement:
    """What a case says of a rule.

    Attributes:
        case: The case.
        verdict: ``exact``: the change is Σ w_k s_k B_k A_k. ``nearest of its rank``: it is the best approximation of
            the global adapter's rank. ``mean of factors``: it is s·(Σ w B)(Σ w A), the usual mean, which is right as
            such and not exact. ``no``: it is none of these. ``not offered``: the rule says that it does not do this, or
            that it needs more clients than the case has. ``error``: it raises something.
        distance: From Σ w_k s_k B_k A_k, relative, in Frobenius norm; None where there is no result.
        said: What it means, where it is not exact.
    """

    case: LoRACase
    verdict: Verdict
    distance: float | None
    said: str = ""

    @property
    def holds(self) -> bool:
        """Whether the rule does what one of its kind should."""
        return self.verdict in ("exact", "nearest of its rank", "mean of factors")

    @property
    def wrong(self) -> bool:
        """Whether the rule does something else than it should; to not offer something is no fault."""
        return self.verdict in ("no", "error")


def judge(case: LoRACase, subject: Subject) -> Judgement:
    """Put a rule to the test of a case.

    Args:
        case: The case.
        subject: The rule.

    Returns:
        The judgement. What the rule's own code raises is one as well.
    """
    try:
        given, found, reversed_order = subject.run(case)
    except (NotOffered, NotImplementedError) as why:
        return Judgement(case, "not offered", None, str(why))
    except Exception as error:  # the code of somebody else's rule
        return Judgement(case, "error", None, f"{type(error).__name__}: {error}; {case.meaning}")
    exact = given.exact()
    distance, mean = found.distance(exact), given.mean_of_factors()

    def near(expected: Mapping[str, Tensor] | None) -> bool:
        return expected is not None and found.distance(expected) <= case.tolerance

    judged = Judgement(case, "no", distance, case.meaning)
    if near(exact):
        judged = Judgement(case, "exact", distance)
    elif near(mean):
        judged = Judgement(
            case, "mean of factors", distance, "not exact, as s·(Σ w B)(Σ w A) is not"
        )
    elif near(given.nearest()):
        judged = Judgement(case, "nearest of its rank", distance, "exact but for the rank")
    if judged.holds and reversed_order.distance(found.changes) > case.tolerance:
        return Judgement(case, "no", distance, "it depends on the order of clients")
    return judged
