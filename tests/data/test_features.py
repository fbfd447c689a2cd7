import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils.rnn import pad_sequence

from lit_fed.data import Features

ROWS = st.lists(
    st.lists(st.integers(1, 2**31 - 1), min_size=1, max_size=9), min_size=1, max_size=20
)


@settings(deadline=None)
@given(rows=ROWS, data=st.data())
def test_batches_are_what_torch_pads(rows: list[list[int]], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=8))
    labels = [[token % 7 for token in row] for row in rows]
    features = Features(
        {"input_ids": rows, "labels": labels},
        {"index": np.arange(len(rows))},
        {"input_ids": 3, "labels": -100},
    )
    batch = features.batch(chosen)

    def padded(values: list[list[int]], padding: int) -> torch.Tensor:
        return pad_sequence([torch.tensor(values[i]) for i in chosen], True, padding)

    assert torch.equal(batch["input_ids"], padded(rows, 3))
    assert torch.equal(batch["labels"], padded(labels, -100))
    assert torch.equal(batch["attention_mask"], padded([[1] * len(row) for row in rows], 0))
    assert torch.equal(batch["index"], torch.tensor(chosen))
    assert {value.dtype for value in batch.values()} == {torch.int64}
    assert features.lengths.tolist() == [len(row) for row in rows]


def test_length_is_padded_to_a_multiple() -> None:
    features = Features({"input_ids": [[1] * 5, [2] * 8]}, {}, {"input_ids": 0})
    features.pad_to_multiple_of = 8
    assert features.batch([0])["input_ids"].tolist() == [[1] * 5 + [0] * 3]
    assert features.batch([0])["attention_mask"].sum() == 5
    assert features.batch([0, 1])["input_ids"].shape == (2, 8)


def test_single_rows() -> None:
    features = Features({"input_ids": [[1, 2], [3]]}, {"labels": [4, 5]}, {"input_ids": 0})
    assert {name: value.tolist() for name, value in features[1].items()} == {
        "input_ids": [3],
        "attention_mask": [1],
        "labels": 5,
    }
