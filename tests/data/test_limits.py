import pytest

from lit_fed.data.limits import require_at_least, require_fraction, require_positive


def test_what_is_allowed_passes() -> None:
    require_at_least("x", 1, 1)
    require_at_least("x", None, 1)
    require_positive("x", 1e-9)
    require_fraction("x", 0.0)
    require_fraction("x", 0.999)


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_not_positive(value: float) -> None:
    with pytest.raises(
        ValueError, match=f"`x` is expected to be finite and above 0, but got {value}"
    ):
        require_positive("x", value)


@pytest.mark.parametrize("value", [-0.1, 1.0, 10, float("nan")])
def test_no_fraction(value: float) -> None:
    with pytest.raises(ValueError, match=r"`x` is expected to be at least 0 and below 1, but got"):
        require_fraction("x", value)
