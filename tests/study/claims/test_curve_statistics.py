"""What a curve with a point that is no number says: nothing."""

import math
from typing import get_args

import numpy as np
import pytest
from scipy.stats import spearmanr

from lit_fed.study.claims.claim import Statistic
from lit_fed.study.claims.curve_statistics import statistic_of


@pytest.mark.parametrize("statistic", get_args(Statistic))
@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_a_curve_with_a_point_that_is_not_finite_has_no_statistic(
    statistic: Statistic, odd: float
) -> None:
    curves = np.array([[1.0, 3.0, 2.0, 9.0], [1.0, 3.0, odd, 9.0]])
    whole, broken = statistic_of(curves, statistic).tolist()
    assert math.isnan(broken)
    expected = {"rise": spearmanr(range(4), curves[0]).statistic, "wavering": 2 / 10}
    assert whole == pytest.approx(expected.get(statistic, expected["rise"]))
