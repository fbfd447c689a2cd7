import pytest
from torchmetrics.functional.text.rouge import rouge_score

from lit_fed.metrics import RougeL

PREDS = ["My name is John", "It's 1,000.5 men, isn't it?", "", "the the the"]
TARGET = ["Is your name John?", "It is 1,000.5 men.", "something", "The cat, the dog"]


@pytest.mark.parametrize("value", ["fmeasure", "precision", "recall"])
def test_equals_torchmetrics_for_english(value: str) -> None:
    metric = RougeL(value)  # type: ignore[arg-type]
    metric.update(PREDS[:1], TARGET[:1])
    metric.update(PREDS[1:], TARGET[1:])
    expected = 100 * rouge_score(PREDS, TARGET, rouge_keys="rougeL")[f"rougeL_{value}"]
    assert metric.compute().item() == pytest.approx(expected.item(), rel=1e-5)
    assert 0 < metric.compute().item() < 100


def test_chinese_has_words() -> None:
    metric = RougeL()
    metric.update(["我们在北京"], ["他们在南京"])
    # 们, 在 and 京 of five
    assert metric.compute().item() == pytest.approx(60.0)
    assert rouge_score(["我们在北京"], ["我们在北京"], rouge_keys="rougeL")["rougeL_fmeasure"] == 0


def test_the_same_text_scores_100_and_an_empty_one_0() -> None:
    same, empty = RougeL(), RougeL()
    same.update(TARGET, TARGET)
    assert same.compute().item() == pytest.approx(100.0)
    empty.update(["", "word"], ["word", ""])
    assert empty.compute().item() == 0.0


def test_another_value_is_refused() -> None:
    with pytest.raises(ValueError, match="`value` is expected to be one of 'fmeasure'"):
        RougeL("f1")  # type: ignore[arg-type]
