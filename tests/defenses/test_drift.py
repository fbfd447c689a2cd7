"""Drift: the threshold beside Fisher's exact test, false alarms by simulation, and streams that shift."""

from __future__ import annotations

from itertools import count, islice

import numpy as np
import pytest
from scipy.stats import binom, fisher_exact

from lit_fed.defenses import alarm_count, drift_windows
from lit_fed.defenses.drift import reference_margin


@pytest.mark.parametrize(
    ("beyond", "references", "window", "alpha"),
    [
        (10, 200, 50, 0.01),
        (0, 30, 20, 0.05),
        (5, 5, 4, 0.1),
        (3, 1000, 100, 0.001),
        (20, 40, 7, 0.2),
    ],
)
def test_the_threshold_is_that_of_fishers_exact_test(
    beyond: int, references: int, window: int, alpha: float
) -> None:
    def p_value(k: int) -> float:
        table = [[k, window - k], [beyond, references - beyond]]
        return float(fisher_exact(table, alternative="greater").pvalue)

    alarms = [k for k in range(window + 1) if p_value(k) <= alpha]
    found = alarm_count(beyond, references, window, alpha)
    assert list(range(found, window + 1)) == alarms


def test_false_alarms_are_as_rare_as_promised_also_of_few_references() -> None:
    draw = np.random.default_rng(0)
    trials, references, window, alpha = 20_000, 40, 25, 0.05
    for share in (0.02, 0.1, 0.3, 0.8):
        held = draw.binomial(references, share, trials)
        seen = draw.binomial(window, share, trials)
        thresholds = np.array(
            [alarm_count(b, references, window, alpha) for b in range(references + 1)]
        )
        assert (seen >= thresholds[held]).mean() <= alpha
    # a bound that takes the references' share for the true one alarms too often
    held, seen = draw.binomial(references, 0.1, trials), draw.binomial(window, 0.1, trials)
    naive = binom.ppf(1 - alpha, window, np.arange(references + 1) / references) + 1
    assert (seen >= naive[held]).mean() > 1.5 * alpha


def test_a_margin_from_the_references_keeps_the_rate_as_well() -> None:
    draw = np.random.default_rng(1)
    alarms = [
        window.alarm
        for _ in range(400)
        for window in drift_windows(
            draw.normal(size=100), draw.normal(size=60), window=20, alpha=0.05
        )
    ]
    assert np.mean(alarms) <= 0.05


def test_a_stream_that_shifts_is_told_when_it_does() -> None:
    draw = np.random.default_rng(2)
    references = draw.uniform(0.6, 1.0, 300)
    stream = np.concatenate([draw.uniform(0.6, 1.0, 200), draw.uniform(0.2, 0.9, 200)])
    windows = list(drift_windows(stream, references, margin=0.3, window=50))
    assert [one.alarm for one in windows] == [False] * 4 + [True] * 4
    for number, one in enumerate(windows):
        part = stream[50 * number : 50 * number + 50]
        assert (one.start, one.size) == (50 * number, 50)
        assert one.share == pytest.approx((1 - part > 0.3).mean())
    # what the whole stream would have told too late, an endless one tells at once
    endless = (0.1 for _ in count())
    assert next(iter(drift_windows(endless, references, margin=0.3, window=50))).alarm
    # the order within a window does not matter, and what is left over is not told of
    again = [*draw.permutation(stream[:50]), 0.0]
    (first,) = drift_windows(again, references, margin=0.3, window=50)
    assert first == windows[0]


def test_the_margin_is_exceeded_by_its_share() -> None:
    draw = np.random.default_rng(3)
    references = draw.uniform(size=200)
    for share in (0.0, 0.05, 0.5):
        margin = reference_margin(references.tolist(), share)
        assert (1 - references > margin).sum() == int(share * 200)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="`references` are expected to be one or more"):
        list(drift_windows([1.0], [], margin=0.3))
    with pytest.raises(ValueError, match="`window` is expected to be at least 1, but got 0"):
        list(drift_windows([1.0], [1.0], window=0))
    with pytest.raises(
        ValueError, match="`alpha` is expected to be above 0 and below 1, but got 1"
    ):
        list(drift_windows([1.0], [1.0], alpha=1))
    with pytest.raises(ValueError, match="`margin` is expected to be finite, but got inf"):
        list(drift_windows([1.0], [1.0], margin=float("inf")))
    with pytest.raises(ValueError, match="a similarity is expected to be finite, but got nan"):
        list(islice(drift_windows([float("nan")], [1.0], margin=0.3, window=1), 1))
    with pytest.raises(ValueError, match="from 0 to the 3 references, but got 4"):
        alarm_count(4, 3, 5)
    with pytest.raises(ValueError, match="`share` is expected to be at least 0 and below 1"):
        reference_margin([1.0], 1.0)
