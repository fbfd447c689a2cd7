import pytest

from lit_fed.metrics import LengthRatio


def test_by_hand() -> None:
    preds, target = ["two words", "", "我们走"], ["one two three four", "yes", "走"]
    words, characters = LengthRatio(), LengthRatio("characters")
    words.update(preds, target)
    characters.update(preds, target)
    assert words.compute().item() == pytest.approx((2 + 0 + 3) / (4 + 1 + 1))
    assert characters.compute().item() == pytest.approx((9 + 0 + 3) / (18 + 3 + 1))
    turned = LengthRatio()
    turned.update(target, preds)
    assert turned.compute().item() == pytest.approx(1 / words.compute().item())


def test_without_targets_there_is_nothing_to_tell() -> None:
    metric = LengthRatio()
    metric.update(["many words"], ["…"])
    assert metric.compute().isnan()


def test_another_unit_is_refused() -> None:
    with pytest.raises(ValueError, match="`unit` is expected to be one of 'words', 'characters'"):
        LengthRatio("tokens")  # type: ignore[arg-type]
