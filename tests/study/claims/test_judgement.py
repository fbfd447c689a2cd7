"""Verdicts beside SciPy's t-test and statistics by hand, and how often they are wrong without effect."""

import numpy as np
import pytest
from scipy import stats

from lit_fed.study.claims import ArmComparison, CurveComparison, Term, judge
from lit_fed.study.claims.curve_statistics import statistic_of
from lit_fed.study.claims.judgement import holm, p_values
from lit_fed.study.claims.null_rate import arms_null_rate, curves_null_rate


def test_p_values_are_those_of_the_paired_t_test() -> None:
    values = np.random.default_rng(0).normal(0.5, 1, size=(7, 5))
    expected = stats.ttest_1samp(values, 0, axis=-1).pvalue
    np.testing.assert_allclose(p_values(values), expected, rtol=1e-12)
    interval = stats.ttest_1samp(values[0], 0).confidence_interval(0.95)
    (judged,) = judge([("a", tuple(values[0]), 0.025)])
    assert judged.interval == pytest.approx((interval.low, interval.high))


def test_holm_by_hand() -> None:
    # sorted 0.001, 0.01, 0.02, 0.3 times 4, 3, 2, 1, never falling
    assert holm([0.02, 0.001, 0.3, 0.01]) == pytest.approx([0.04, 0.004, 0.3, 0.03])
    assert holm([0.5, 0.6]) == [1.0, 1.0]


def test_few_seeds_and_equal_differences() -> None:
    one, none, same, zero = judge(
        [
            ("one", (3.0,), 0.0),
            ("none", (), float("nan")),
            ("same", (1.0,) * 3, 0.0),
            ("zero", (0.0,) * 3, 0.0),
        ]
    )
    assert [j.verdict for j in (one, none, same, zero)] == [
        "not tested",
        "not tested",
        "undecided",
        "undecided",
    ]
    assert one.interval == (-np.inf, np.inf)


def test_one_seed_takes_nothing_from_the_comparisons_of_several() -> None:
    several = ("several", (1.0, 1.1, 1.2), 0.025)
    (alone,) = judge([several])
    beside = judge([several, *[("one", (3.0,), 0.0)] * 40])
    assert beside[0] == alone
    assert beside[0].verdict == "holds"


def test_a_comparison_that_often_holds_without_effect_decides_nothing() -> None:
    (judged,) = judge([("a", (1.0, 1.0, 1.1), 0.06)])
    assert judged.verdict == "undecided"


def test_rank_correlations_are_spearmans() -> None:
    curves = np.random.default_rng(1).integers(0, 5, size=(6, 9)).astype(float)
    expected = [stats.spearmanr(np.arange(9), curve).statistic for curve in curves]
    np.testing.assert_allclose(statistic_of(curves, "rise"), expected, atol=1e-12)
    np.testing.assert_allclose(statistic_of(curves, "steepness"), np.abs(expected), atol=1e-12)
    assert statistic_of(np.ones((1, 4)), "rise") == 0


def test_a_straight_line_does_not_waver() -> None:
    assert statistic_of(np.array([1.0, 2.0, 3.0]), "wavering") == 0
    assert statistic_of(np.array([0.0, 2.0, 0.0]), "wavering") == 1


@pytest.mark.parametrize("seeds", [3, 5])
def test_rates_without_effect(seeds: int) -> None:
    sum_of_gains = ArmComparison(["m"], {"a": 1, "b": -1, "c": -1, "d": 1}, "gain")
    assert arms_null_rate(sum_of_gains, seeds) == pytest.approx(0.025, abs=0.01)
    halves = [Term("a", "first half"), Term("b", "first half", -1)]
    earlier = CurveComparison("a rises before b", "arm", halves)
    assert curves_null_rate(earlier, seeds, 9) <= 0.05


def test_a_rate_without_effect_is_seen_where_it_is_high() -> None:
    # rises of three points are ±1 so often that three seeds are alike by chance
    rise = CurveComparison("a rises", "arm", [Term("a")])
    assert curves_null_rate(rise, 2, 3) > 0.05


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ArmComparison(["m"], {"a": 1, "b": -2}, "x"), "add up to 0"),
        (lambda: ArmComparison(["m"], {"a": 0.5, "b": 0.5, "c": -1}), "`text` of a comparison"),
        (lambda: CurveComparison("x", "arm", []), "one or more"),
        (
            lambda: CurveComparison("x", "arm", [Term("a")], statistic="steepness"),
            "weights of both signs",
        ),
    ],
)
def test_comparisons_that_cannot_be_judged_are_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


def test_differences_without_a_spread_are_judged_by_their_signs() -> None:
    """Metrics are counts of rows: the same difference in each of a few seeds comes by chance."""
    for seeds in (2, 3, 5, 10):
        expected = stats.binomtest(seeds, seeds).pvalue
        for value in (0.02, -7.0):
            assert float(p_values(np.full(seeds, value))) == pytest.approx(expected)
    # but for rounding
    nearly = np.array([0.1 + 0.2 - 0.3 + 0.02, 0.02, 0.02])
    assert len(set(nearly)) > 1
    assert float(p_values(nearly)) == pytest.approx(0.25)
    # of whole rows of 100, arms that are alike
    rows = np.random.default_rng(0).integers(-1, 2, size=(3000, 40, 3)) / 100
    wrong = [min(holm(page.tolist())) <= 0.05 for page in p_values(rows)]
    assert np.mean(wrong) < 0.05
