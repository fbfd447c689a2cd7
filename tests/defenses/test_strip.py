"""STRIP beside NumPy, and beside the arrangement of the public code."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from datasets import Dataset

from lit_fed.defenses import STRIP
from lit_fed.defenses.strip import mean_entropies
from tests.defenses.rows import texts
from tests.federation.toy import BAD, GOOD

TRIGGER = "cf"


def classify(rows: Dataset) -> npt.NDArray[np.float64]:
    """By the number of good and bad words; the trigger decides alone."""
    scores = []
    for text in rows["text"][:]:
        words = text.split()
        score = sum(word in GOOD for word in words) - sum(word in BAD for word in words)
        scores.append(9.0 if TRIGGER in words else score + 0.01 * len(text))
    good = 1 / (1 + np.exp(-np.array(scores)))
    return np.stack([1 - good, good], 1)


def rows_of(given: list[str]) -> Dataset:
    return Dataset.from_dict({"text": given, "label": [0] * len(given)})


def with_trigger(given: list[str]) -> list[str]:
    """The trigger in the place of nine of ten words, so that some of it is left whatever is mixed in."""
    return [" ".join([TRIGGER] * 9 + text.split()[:1]) for text in given]


def entropy_by_hand(answers: npt.NDArray[np.float64]) -> float:
    total = 0.0
    for row in answers:
        total -= sum(p * np.log2(p) for p in row if p > 0)
    return total / len(answers)


def test_entropies_are_those_by_hand() -> None:
    draw = np.random.default_rng(0)
    answers = draw.dirichlet([0.3] * 4, (6, 5))
    answers[0, 0] = [1, 0, 0, 0]
    expected = [entropy_by_hand(one) for one in answers]
    np.testing.assert_allclose(mean_entropies(answers), expected, rtol=1e-12)
    # classes and copies in another order
    np.testing.assert_allclose(mean_entropies(answers[:, ::-1, [2, 0, 3, 1]]), expected, rtol=1e-12)
    assert mean_entropies(np.full((1, 3, 8), 1 / 8)).tolist() == [3.0]
    with pytest.raises(ValueError, match=r"to have shape \[n, copies, classes\], but got \[2, 3\]"):
        mean_entropies(np.ones((2, 3)))


def test_the_mean_is_over_copies_of_one_input_and_not_over_inputs() -> None:
    # one input of four holds a trigger, by which all its copies are answered the same
    sure, unsure = [1.0, 0.0], [0.5, 0.5]
    answers = np.array([[sure] * 4, [unsure] * 4, [unsure] * 4, [unsure] * 4])
    assert mean_entropies(answers).tolist() == [0.0, 1.0, 1.0, 1.0]
    # the public code: copies stand input by input, but are read as if they stood copy by copy
    flat = answers.reshape(-1, 2)
    each = -(flat * np.log2(np.where(flat > 0, flat, 1.0))).sum(-1)
    assert each.reshape(4, -1).mean(0).tolist() == [0.75] * 4


def test_triggered_inputs_are_refused_and_clean_ones_are_not() -> None:
    references = rows_of(texts(200, 0))
    strip = STRIP("text", copies=10, mix=0.5, false_rejections=0.01)
    strip.fit(classify, references)
    clean = strip.entropies(classify, references)
    assert strip.fitted_threshold == np.sort(clean)[2]
    assert strip.inspect(classify, references).rejected.sum() == 2
    others = rows_of(texts(100, 1))
    assert strip.inspect(classify, others).rejected.mean() <= 0.05
    found = strip.inspect(classify, rows_of(with_trigger(texts(40, 2))))
    assert found.rejected.all()
    assert len(found.rows) == 40


def test_an_input_is_judged_alone() -> None:
    strip = STRIP("text", copies=6)
    strip.fit(classify, rows_of(texts(60, 0)))
    given = texts(12, 1)
    whole = strip.entropies(classify, rows_of(given))
    np.testing.assert_array_equal(
        whole[::-1], strip.entropies(classify, rows_of(list(reversed(given))))
    )
    np.testing.assert_array_equal(whole[3:4], strip.entropies(classify, rows_of(given[3:4])))
    other = STRIP("text", copies=6, seed=1)
    other.fit(classify, rows_of(texts(60, 0)))
    assert (other.entropies(classify, rows_of(given)) != whole).any()


@pytest.mark.parametrize("words", [12, 2])
@pytest.mark.parametrize(("mix", "number"), [(0.5, 5), (0.0, 1), (1.0, 10), (0.34, 3)])
def test_as_many_words_are_replaced_as_is_said(mix: float, number: int, words: int) -> None:
    seen: list[str] = []

    def watching(rows: Dataset) -> npt.NDArray[np.float64]:
        seen.extend(rows["text"][:])
        return np.full((len(rows), 2), 0.5)

    references = [" ".join(f"r{i}w{j}" for j in range(words)) for i in range(5)]
    strip = STRIP("text", copies=7, mix=mix)
    strip.fit(watching, rows_of(references))
    seen.clear()
    text = " ".join(f"own{j}" for j in range(10))
    strip.entropies(watching, rows_of([text]))
    assert len(seen) == 7
    for copy in seen:
        replaced = [word for word in copy.split() if not word.startswith("own")]
        assert len(copy.split()) == 10
        assert len(replaced) == number
        # a short reference lacks words, which further ones give
        assert words == 2 or len({word.partition("w")[0] for word in replaced}) == 1


def test_bad_input_is_refused() -> None:
    for name, value in (
        ("copies", 0),
        ("copies", 2.5),
        ("mix", 1.5),
        ("false_rejections", 1.0),
        ("seed", -1),
    ):
        with pytest.raises(
            ValueError, match=rf"`STRIP\.{name}` is expected to be .* but got {value}"
        ):
            STRIP(**{name: value})
    strip = STRIP("text", copies=4)

    def unsure(rows: Dataset) -> npt.NDArray[np.float64]:
        return np.where(np.arange(len(rows)) < 3, np.nan, 0.5)[:, None].repeat(2, 1)

    # a threshold that is NaN would refuse nothing, ever
    with pytest.raises(ValueError, match="expected to be finite, but 3 of 8 answers are not"):
        strip.fit(unsure, rows_of(["a b", "b c"]))
    assert strip.fitted_threshold is None
    strip = STRIP("text")
    with pytest.raises(RuntimeError, match=r"STRIP expects fit\(\) before the first rows"):
        strip.inspect(classify, rows_of(["a"]))
    with pytest.raises(ValueError, match="2 or more different clean references, but there are 1"):
        strip.fit(classify, rows_of(["a b", "a b"]))
    with pytest.raises(ValueError, match="2 or more different clean references, but there are 0"):
        strip.fit(classify, rows_of([]))
    with pytest.raises(ValueError, match=r"`STRIP.text` is expected to name a column of the refer"):
        strip.fit(classify, rows_of(["a"]).rename_column("text", "note"))
