import numpy as np
import pytest
from datasets import ClassLabel, Dataset
from transformers import PreTrainedTokenizerFast

from lit_fed.data import ClassificationEncoding
from lit_fed.data.columns import ROW_ID

ONE = ClassificationEncoding("text", text_pair=None)


def table(labels: list[object], **columns: list[object]) -> Dataset:
    texts = ["a b c", "d", "e f"][: len(labels)]
    return Dataset.from_dict({"text": texts, "label": labels, **columns})


def test_one_text(wordpiece: PreTrainedTokenizerFast) -> None:
    rows = table([1, 0, 1]).add_column(ROW_ID, [7, 5, 6])
    features = ONE.encode(rows, wordpiece, 10)
    batch = features.batch([0, 1])
    assert wordpiece.batch_decode(batch["input_ids"]) == [
        "[CLS] a b c [SEP]",
        "[CLS] d [SEP] [PAD] [PAD]",
    ]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert batch["labels"].tolist() == [1, 0]
    assert batch["index"].tolist() == [7, 5]


def test_a_pair_is_what_the_tokenizer_makes_of_it(wordpiece: PreTrainedTokenizerFast) -> None:
    rows = table([1, 0, 1], other=["x", "y y y y y", "z"])
    encoding = ClassificationEncoding("text", "other")
    batch = encoding.encode(rows, wordpiece, 7).batch([0, 1, 2])
    expected = wordpiece(
        rows["text"][:],
        rows["other"][:],
        truncation=True,
        max_length=7,
        padding=True,
        return_tensors="pt",
    )
    for name in ("input_ids", "token_type_ids", "attention_mask"):
        assert batch[name].tolist() == expected[name].tolist()


def test_strings_become_numbers_in_sorted_order() -> None:
    encoding = ClassificationEncoding("text", None)
    encoding.prepare(table(["spam", "ham", "spam"]))
    assert encoding.names == ["ham", "spam"]
    assert encoding.label_ids(table(["ham", "spam"])).tolist() == [0, 1]
    with pytest.raises(
        ValueError,
        match=r"has labels \['eggs'\], the first in row 0, but the known ones are \['ham', 'spam'\]",
    ):
        encoding.label_ids(table(["eggs"]))


@pytest.mark.parametrize(
    ("labels", "names", "ids"),
    [
        (["b", "a"], ["b", "a"], [0, 1]),
        ([1, 3, 2], ["1", "2", "3"], [0, 2, 1]),
        ([0, 1], ["no", "yes"], [0, 1]),
        ([0.0, 2.0], None, [0, 2]),
        (["10", "9"], None, [10, 9]),
    ],
)
def test_label_names(labels: list[object], names: list[str] | None, ids: list[int]) -> None:
    encoding = ClassificationEncoding("text", None, label_names=names)
    encoding.prepare(table(labels))
    assert encoding.names == names
    assert encoding.label_ids(table(labels)).tolist() == ids


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([True, False], ["false", "true"]),
        ([0.5, 1.0], ["0.5", "1.0"]),
        (["250.10", "38.00", "250.1"], ["38.00", "250.1", "250.10"]),
        (["007", "7"], ["007", "7"]),
        (["null", "1"], ["1", "null"]),
    ],
)
def test_labels_that_are_no_whole_numbers_are_names_as_they_are_written(
    labels: list[object], names: list[str]
) -> None:
    encoding = ClassificationEncoding("text", None)
    encoding.prepare(table(labels))
    assert encoding.names == names
    written = [str(label).lower() if isinstance(label, bool) else str(label) for label in labels]
    assert [names[i] for i in encoding.label_ids(table(labels))] == written


def test_classes_of_another_order_go_by_their_names() -> None:
    encoding = ClassificationEncoding("text", None)
    rows = table([0, 1])
    encoding.prepare(rows.cast_column("label", ClassLabel(names=["no", "yes"])))
    turned = rows.cast_column("label", ClassLabel(names=["yes", "no"]))
    assert encoding.label_ids(turned).tolist() == [1, 0]
    assert encoding.label_ids(table(["yes", "no"])).tolist() == [1, 0]


def test_weights_are_carried(wordpiece: PreTrainedTokenizerFast) -> None:
    encoding = ClassificationEncoding("text", None, weight="w")
    batch = encoding.encode(table([0, 1], w=[0.5, 2]), wordpiece, 8).batch([1, 0])
    assert batch["weight"].tolist() == [2.0, 0.5]
    for bad in (-1.0, float("nan"), None):
        with pytest.raises(
            ValueError,
            match=r"`data.encoding.weight` is expected to name .* \(in all 1 such rows of 2\)",
        ):
            encoding.encode(table([0, 1], w=[0.5, bad]), wordpiece, 8)


@pytest.mark.parametrize(("labels", "bad", "row"), [([0, 1, 2], 2, 2), ([0, -1, 1], -1, 1)])
def test_labels_out_of_range(
    wordpiece: PreTrainedTokenizerFast, labels: list[object], bad: int, row: int
) -> None:
    features = ONE.encode(table(labels), wordpiece, 8)
    with pytest.raises(
        ValueError,
        match=rf"`data.encoding.label` .* from 0 and below .* num_labels, 2, but 'label' has {bad} in row {row}",
    ):
        ONE.check(features, 2)
    ONE.check(ONE.encode(table([0, 1, 2]), wordpiece, 8), 3)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, None], "names column 'label', which has no value in 1 of 2 rows, the first is row 1"),
        (["a", " "], "names column 'label', which has no value in 1 of 2 rows"),
        ([0.5, float("nan")], "names column 'label', which has no value in 1 of 2 rows"),
        (
            [[0], [1]],
            r"is expected to name a column of strings or numbers, .* has list \[0\] in row 0",
        ),
    ],
)
def test_labels_that_are_none(labels: list[object], message: str) -> None:
    with pytest.raises(
        ValueError,
        match=rf"`data.encoding.label` {message}",
    ):
        ClassificationEncoding("text", None).prepare(table(labels))


def test_texts_that_are_none(wordpiece: PreTrainedTokenizerFast) -> None:
    rows = Dataset.from_dict({"text": ["a", None], "label": [0, 1]})
    with pytest.raises(
        ValueError,
        match=r"`data.encoding.text` names column 'text', which has no value in 1 of 2 rows",
    ):
        ONE.encode(rows, wordpiece, 8)
    rows = Dataset.from_dict({"text": [["a"], ["b"]], "label": [0, 1]})
    with pytest.raises(
        ValueError,
        match=r"`data.encoding.text` is expected to name a column of strings or numbers, but 'text' has list",
    ):
        ONE.encode(rows, wordpiece, 8)


def test_rows_without_a_token(bpe: PreTrainedTokenizerFast) -> None:
    bare = PreTrainedTokenizerFast(
        tokenizer_object=type(bpe.backend_tokenizer)(bpe.backend_tokenizer.model)
    )
    rows = Dataset.from_dict({"text": ["a", "", ""], "label": [0, 1, 1]})
    with pytest.raises(ValueError, match=r"2 of 3 rows have no token to read"):
        ONE.check(ONE.encode(rows, bare, 8), 2)


def test_missing_columns_name_setting_and_way_out() -> None:
    with pytest.raises(
        ValueError,
        match=r"`data.encoding.text` .* got 'english'; its columns are \['text', 'label'\]$",
    ):
        ClassificationEncoding().require_columns(table([0]))
    with pytest.raises(
        ValueError,
        match=r"`data.encoding.text_pair` .* got 'chinese'; .*; set it to null if there is none",
    ):
        ClassificationEncoding("text").require_columns(table([0]))


def test_bad_settings(wordpiece: PreTrainedTokenizerFast) -> None:
    with pytest.raises(ValueError, match=r"`data.encoding.label_names` are expected to differ"):
        ClassificationEncoding(label_names=["a", "a"])
    with pytest.raises(
        ValueError, match=r"`data.max_length` is expected to be above 2, .* but got 2"
    ):
        ONE.encode(table([0]), wordpiece, 2)


def test_arrays_are_compact(wordpiece: PreTrainedTokenizerFast) -> None:
    features = ONE.encode(table([0, 1, 1]), wordpiece, 8)
    assert features.tokens["input_ids"].dtype == np.int32
    assert features.nbytes < 300


def with_classes(labels: list[object], names: list[str]) -> Dataset:
    return table(labels).cast_column("label", ClassLabel(names=names))


def test_classes_of_another_table_go_by_their_names() -> None:
    # numbers in training whose names are told
    encoding = ClassificationEncoding("text", None, label_names=["neg", "pos"])
    encoding.prepare(table([0, 1, 0]))
    assert encoding.label_ids(with_classes([0, 1, 1], ["pos", "neg"])).tolist() == [1, 0, 0]
    # told names that say what the training table's own are
    renamed = ClassificationEncoding("text", None, label_names=["negative", "positive"])
    renamed.prepare(with_classes([0, 1, 0], ["neg", "pos"]))
    assert renamed.label_ids(with_classes([0, 1, 1], ["pos", "neg"])).tolist() == [1, 0, 0]
    # of names that nobody knows, the numbers count
    assert renamed.label_ids(with_classes([0, 1, 1], ["bad", "good"])).tolist() == [0, 1, 1]
    # what is not told is filled with a class of the training table
    unknown = table([0, 1]).remove_columns("label")
    filled, without = renamed.answered(unknown, with_classes([1, 0], ["neg", "pos"]))
    assert renamed.label_ids(filled).tolist() == [1, 1]
    assert without == {0, 1}
