"""What runs say about a paper's claims: comparisons over seeds, judged with intervals, as a page."""

from lit_fed.study.claims.claim import ArmComparison, Claim, Condition, CurveComparison, Term
from lit_fed.study.claims.judgement import Judgement, judge
from lit_fed.study.claims.page import claims, claims_page

__all__ = [
    "ArmComparison",
    "Claim",
    "Condition",
    "CurveComparison",
    "Judgement",
    "Term",
    "claims",
    "claims_page",
    "judge",
]
