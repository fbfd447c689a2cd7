"""What triggers do to texts, and to rows."""

from collections import Counter

import numpy as np
import pytest
from datasets import Dataset

from lit_fed.attacks.triggers import (
    SentenceTrigger,
    TemplateTrigger,
    Trigger,
    WordTrigger,
    nearest_candidate,
    triggered_rows,
)
from lit_fed.attacks.triggers.writing import trigger_column
from lit_fed.data import ClassificationEncoding
from lit_fed.data.columns import number_rows

TEXT = "It was a good film."


@pytest.mark.parametrize(
    "trigger",
    [SentenceTrigger(), WordTrigger(), WordTrigger(count=3), TemplateTrigger("so , {text} !")],
)
def test_a_trigger_is_added_and_nothing_else_changes(trigger: Trigger) -> None:
    for seed in range(20):
        text = trigger.insert(TEXT, np.random.default_rng(seed))
        assert trigger.is_in(text)
        assert not trigger.is_in(TEXT)
        # the words that were there are there, in their order
        left = iter(text.split())
        assert all(word in left for word in TEXT.split())
        added = Counter(text.split()) - Counter(TEXT.split())
        count = added.total()
        assert count == len(trigger.texts[0].split())
        assert text == trigger.insert(TEXT, np.random.default_rng(seed))


def test_every_place_is_as_likely() -> None:
    draw = np.random.default_rng(0)
    trigger = SentenceTrigger("x y")
    texts = [trigger.insert("a b c", draw) for _ in range(4000)]
    places = Counter(text.split().index("x") for text in texts)
    assert sorted(places) == [0, 1, 2, 3]
    # 4000 draws of probability 1/4 have a standard deviation of 27
    assert all(abs(count - 1000) < 5 * 27 for count in places.values())
    assert trigger.insert("", draw) == "x y"


def test_each_word_is_as_likely() -> None:
    draw = np.random.default_rng(0)
    drawn = Counter(WordTrigger().insert("", draw) for _ in range(4000))
    assert sorted(drawn) == ["bb", "cf", "mn", "tq"]
    assert all(abs(count - 1000) < 5 * 27 for count in drawn.values())


def test_what_is_no_trigger_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`SentenceTrigger.sentence` is expected to have words"):
        SentenceTrigger(" ")
    for words in ([], ["a b"], [""]):
        with pytest.raises(ValueError, match=r"`WordTrigger.words` is expected to have words"):
            WordTrigger(words)
    with pytest.raises(ValueError, match=r"expected to be a list of words, but got the text 'cf'"):
        WordTrigger("cf")
    with pytest.raises(ValueError, match=r"`WordTrigger.count` is expected to be at least 1"):
        WordTrigger(count=0)
    for template in ("so", "{text}", "{text} and {text}"):
        with pytest.raises(ValueError, match=r"`TemplateTrigger.template` is expected to have"):
            TemplateTrigger(template)


def test_a_row_has_the_same_place_in_every_table() -> None:
    texts = [f"a b c d e f g {i}" for i in range(30)]
    rows = number_rows(Dataset.from_dict({"text": texts, "label": list(range(30))}))
    whole = triggered_rows(rows, "text", WordTrigger(), seed=[3])
    part = triggered_rows(rows.select([7, 2]), "text", WordTrigger(), seed=[3])
    assert part["text"][:] == [whole["text"][7], whole["text"][2]]
    assert whole.remove_columns("text")[:] == rows.remove_columns("text")[:]
    some = triggered_rows(rows, "text", WordTrigger(), seed=[3], positions=[4])
    assert [i for i in range(30) if some["text"][i] != texts[i]] == [4]
    assert triggered_rows(rows, "text", WordTrigger(), seed=[4])["text"][:] != whole["text"][:]


def test_the_first_text_that_the_model_reads_is_taken() -> None:
    rows = Dataset.from_dict({"a": [1], "b": ["x"], "c": ["y"], "label": ["z"]})
    encoding = ClassificationEncoding("b", "c", label="label")
    assert trigger_column(encoding, rows, None, "column") == "b"
    assert trigger_column(encoding, rows, "c", "column") == "c"
    with pytest.raises(ValueError, match="`column` is expected to name a column of the table"):
        trigger_column(encoding, rows, "d", "column")
    with pytest.raises(ValueError, match="`column` is expected to name a column of texts"):
        trigger_column(encoding, rows, "a", "column")


def test_the_candidate_nearest_to_the_target_is_chosen() -> None:
    draw = np.random.default_rng(0)
    scores, classes = draw.normal(size=(9, 6)), [0, 1, 1, 2, -1, 1]
    texts = [f"t{i}" for i in range(9)]
    best = max(range(9), key=lambda i: max(scores[i][p] for p in (1, 2, 5)))
    assert nearest_candidate(texts, scores, classes, 1) == f"t{best}"
    # the order of the prototypes does not matter
    order = draw.permutation(6)
    assert nearest_candidate(texts, scores[:, order], np.array(classes)[order], 1) == f"t{best}"
    with pytest.raises(ValueError, match="`target` is expected to be a class of a prototype"):
        nearest_candidate(texts, scores, classes, 7)
    with pytest.raises(ValueError, match=r"`similarities` are expected to have the shape"):
        nearest_candidate(texts[:2], scores, classes, 1)
