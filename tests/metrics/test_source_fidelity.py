import re

import pytest

from lit_fed.metrics import (
    EntityFidelity,
    NumberFidelity,
    matching_entities,
    matching_numbers,
)


def cities(text: str) -> list[str]:
    """A recogniser of one's own."""
    return [name for name in ("北京", "Paris", "Oslo") if name in text]


def values(metric: NumberFidelity | EntityFidelity) -> list[float]:
    return [value.item() for value in metric.compute().values()]


def test_numbers_by_hand() -> None:
    preds = ["3 ships, 3 men and 40 days", "no number", ""]
    source = ["three ships, 5 men, 40 days", "a 7", "8"]
    assert matching_numbers(preds[0], source[0]) == (2, 2, 3)
    metric = NumberFidelity()
    metric.update(preds, source)
    assert values(metric) == pytest.approx([100 * 2 / 2, 100 * 2 / 5])
    figures = NumberFidelity("target", number_words=False)
    figures.update(preds, target=source)
    assert values(figures) == pytest.approx([100 * 1 / 2, 100 * 1 / 4])


def test_precision_and_recall_change_places_with_the_texts() -> None:
    preds, source = ["1 2 3", "4"], ["2 3 4 5", "six"]
    metric, turned = NumberFidelity(), NumberFidelity()
    metric.update(preds, source)
    turned.update(source, preds)
    assert values(metric) == pytest.approx(values(turned)[::-1])


def test_entities_by_hand() -> None:
    preds = ["There Ann met Bob in new york, and Ann left.", "Nobody.", ""]
    source = ["Ann and Carl met. It was in New York.", "There was Dora.", ""]
    # Ann is there at the beginning of the source's sentence; Bob is not
    assert matching_entities(preds[0], source[0]) == (1, 2, 1, 2)
    metric = EntityFidelity()
    metric.update(preds, source)
    assert values(metric) == pytest.approx([100 * 1 / 2, 100 * 1 / 3])


def test_a_recogniser_of_ones_own() -> None:
    metric = EntityFidelity("target", entities=cities)
    metric.update(["我在北京, not in Oslo"], target=["从北京到 Paris"])
    assert values(metric) == [50.0, 50.0]


def test_each_share_counts_the_names_of_its_own_text() -> None:
    # of the text's names one of two is in the source, in whatever case; of the source's both are in the text
    metric = EntityFidelity(entities=lambda text: [word for word in text.split() if word.isupper()])
    metric.update(["ANN DORA bob carl"], ["ann BOB CARL"])
    assert values(metric) == [50.0, 100.0]


def test_nothing_to_tell() -> None:
    for metric in (NumberFidelity(), EntityFidelity()):
        metric.update(["nothing", ""], ["nothing here", "nor here"])
        assert all(value.isnan() for value in metric.compute().values())
        metric.update(["nothing"], ["but 7, and Rome"])
        precision, recall = metric.compute().values()
        assert precision.isnan()
        assert recall.item() == 0.0


def test_what_the_source_or_the_answer_has_is_not_made_up() -> None:
    rows = [{"answer": "116"}, {"answer": "Ann and Bob came."}]
    told = {
        "source": ["How much is 71 plus 45?", "Yesterday Ann and Bob came."],
        "target": ["Thank you, dear Sir! It is 116.", "You ask: They are Ann and Bob."],
    }
    preds = ["116, because 71 + 45 = 116, or 9", "ANSWER = it was Bob with Carl"]
    numbers = NumberFidelity("both", target_column="answer")
    numbers.update(preds, rows=rows, **told)
    # 116, 71 and 45 of four; the answer's one number
    assert values(numbers) == [75.0, 100.0]
    names = EntityFidelity("both", target_column="answer")
    names.update(preds, rows=rows, **told)
    # Bob of Bob and Carl; of the answer's names Bob, as Ann begins its sentence
    assert values(names) == [50.0, 100.0]
    styled = EntityFidelity("both")
    styled.update(preds, **told)
    assert values(styled) == pytest.approx([50.0, 100 / 3])  # Sir, Ann, Bob
    for metric in (numbers, names):
        with pytest.raises(ValueError, match=r"`target_column` is expected .* 'answer' is none"):
            metric.update(preds, **told)
    with pytest.raises(ValueError, match='`source` is expected with against="both", but was not'):
        styled.update(preds, target=told["target"])


def test_refusals() -> None:
    with pytest.raises(ValueError, match="`against` is expected to be one of 'source', 'target'"):
        NumberFidelity("rows")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`target_column` is expected to be null .* 'answer'"):
        NumberFidelity(target_column="answer")
    message = "`entities` is expected to be a function of a text, but got int"
    with pytest.raises(TypeError, match=re.escape(message)):
        EntityFidelity(entities=3)  # type: ignore[arg-type]
