import pytest

from lit_fed.metrics import ExactMatch


def test_by_hand() -> None:
    metric = ExactMatch()
    metric.update(
        ["New  York.", "the lungs", "lungs and heart", "42", "我们走"],
        ["new york", "lungs", "heart and lungs", "42", "我们走！"],
    )
    assert metric.compute().item() == pytest.approx(100 * 3 / 5)


def test_batches_add_up() -> None:
    metric = ExactMatch()
    metric.update(["a"], ["a"])
    metric.update(["a", "b", "c"], ["b", "b", "d"])
    assert metric.compute().item() == pytest.approx(50)
    assert ExactMatch().compute().isnan()
