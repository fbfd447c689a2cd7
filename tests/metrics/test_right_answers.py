import pickle  # only ever of what the test made itself
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from torchmetrics import MetricCollection

from lit_fed.data import EmbeddedInstructions, answer_is_right
from lit_fed.metrics import EntityFidelity, RightAnswers
from lit_fed.metrics.running_ratio import identity


def says(word: str, row: Mapping[str, Any], text: str) -> bool:
    return word in text


@dataclass
class Says:
    word: str

    def __call__(self, row: Mapping[str, Any], text: str) -> bool:
        return self.word in text

    def not_at_all(self, row: Mapping[str, Any], text: str) -> bool:
        return self.word not in text


def closure(word: str) -> Any:
    return lambda row, text: word in text


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


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Says("x"), Says("y")),
        (Says("x").not_at_all, Says("y").not_at_all),
        (partial(says, "x"), partial(says, "y")),
        (closure("x"), closure("y")),
        (lambda row, text: "x" in text, lambda row, text: "y" in text),
    ],
    ids=["objects", "methods", "partials", "closures", "lambdas"],
)
def test_judges_of_one_name_do_not_share(first: Any, second: Any) -> None:
    collection = MetricCollection({"x": RightAnswers(first), "y": RightAnswers(second)})
    alone = {"x": RightAnswers(first), "y": RightAnswers(second)}
    for answer in ("", "x"):  # of the first, both say the same or each the other's contrary
        collection.update(preds=[answer], rows=[{}])
        for metric in alone.values():
            metric.update([answer], [{}])
    assert collection.compute() == {name: metric.compute() for name, metric in alone.items()}
    assert len(collection.compute_groups) == 2


def test_entities_of_one_name_do_not_share() -> None:
    collection = MetricCollection(
        {f"{n}": EntityFidelity(entities=lambda text, n=n: text.split()[:n]) for n in (1, 2)}
    )
    collection.update(preds=["a"], source=["a"])
    assert len(collection.compute_groups) == 2


def test_a_judge_is_known_again_where_that_can_be() -> None:
    assert identity(says) == f"{__name__}.says"
    assert identity(Says) == f"{__name__}.Says"
    for one, same, other in (
        (Says("x"), Says("x"), Says("y")),
        (partial(says, "x"), partial(says, "x"), partial(says, "y")),
    ):
        assert identity(one) == identity(same) != identity(other)
        assert identity(one) == identity(pickle.loads(pickle.dumps(one)))  # noqa: S301
    metric = RightAnswers(Says("x"))
    metric.update(["x", "y"], [{}, {}])
    again = pickle.loads(pickle.dumps(metric))  # noqa: S301
    again.merge_state(metric)
    again.update(["x"] * 4, [{}] * 4)
    assert again.compute().item() == 75.0
