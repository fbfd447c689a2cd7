import pytest

from lit_fed.data import EmbeddedInstructions, answer_is_right
from lit_fed.metrics import RightAnswers


def test_the_embedded_world_judges() -> None:
    rows = list(EmbeddedInstructions(split="test", size=24).load())
    answers = [row["response"] for row in rows]
    metric = RightAnswers(answer_is_right)
    metric.update(answers, rows)
    assert metric.compute().item() == 100.0
    metric.update(["I do not know."] * 8, rows[:8])
    assert metric.compute().item() == pytest.approx(100 * 24 / 32)


def test_a_judge_is_a_function() -> None:
    message = "`judge` is expected to be a function of a row and an answer, but got str"
    with pytest.raises(TypeError, match=message):
        RightAnswers("lit_fed.data.answer_is_right")  # type: ignore[arg-type]
