from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lit_fed.limits import (
    require_at_least,
    require_fraction,
    require_non_negative,
    require_none_or_at_least,
    require_positive,
)


@pytest.mark.parametrize(
    ("limit", "value"),
    [
        (require_non_negative, 0.0),
        (require_non_negative, 2),
        (require_positive, 1e-9),
        (require_fraction, 0.0),
        (require_fraction, 0.999),
    ],
)
def test_what_is_allowed_comes_back(limit: Callable[[str, float], float], value: float) -> None:
    assert limit("x", value) is value


def test_a_count_may_be_missing_where_it_says_so() -> None:
    assert require_none_or_at_least("x", None, 1) is None
    assert require_none_or_at_least("x", 1, 1) == 1
    with pytest.raises(ValueError, match="`x` is expected to be at least 2, but got 1"):
        require_none_or_at_least("x", 1, 2)


@pytest.mark.parametrize("value", [2.5, 3.0, True, "3", None])
def test_a_count_is_a_whole_number(value: Any) -> None:
    assert require_at_least("x", np.int64(1), 1) == 1
    said = f"`x` is expected to be a whole number of at least 1, but got {value!r}"
    with pytest.raises(ValueError, match=said):
        require_at_least("x", value, 1)


@pytest.mark.parametrize(
    ("limit", "expected", "values"),
    [
        (require_non_negative, "finite and at least 0", [-0.1, float("inf"), float("nan")]),
        (require_positive, "finite and above 0", [0.0, -1, float("inf"), float("nan")]),
        (require_fraction, "at least 0 and below 1", [-0.1, 1.0, 10, float("nan")]),
    ],
)
def test_what_is_not_names_the_setting(
    limit: Callable[[str, float], float], expected: str, values: list[float]
) -> None:
    for value in values:
        said = f"`x` is expected to be {expected}, but got {value}"
        with pytest.raises(ValueError, match=said):
            limit("x", value)
