"""What holds for every partitioner."""

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_fed.data import (
    DirichletPartitioner,
    IIDPartitioner,
    LabelShardsPartitioner,
    NaturalPartitioner,
    Partitioner,
    QuantitySkewPartitioner,
)
from lit_fed.data.partitioners.partitioner import draw_until

PARTITIONERS = [
    IIDPartitioner(),
    DirichletPartitioner(alpha=1.0, min_samples=0),
    LabelShardsPartitioner(shards_per_client=1),
    QuantitySkewPartitioner(alpha=1.0, min_samples=0),
    NaturalPartitioner(column="author"),
]


@pytest.mark.parametrize("partitioner", PARTITIONERS, ids=lambda p: type(p).__name__)
@settings(max_examples=20, deadline=None)
@given(
    labels=st.lists(st.integers(0, 4), min_size=6, max_size=60),
    num_clients=st.integers(1, 6),
    seed=st.integers(0, 2**31),
)
def test_every_row_goes_to_exactly_one_client(
    partitioner: Partitioner, labels: list[int], num_clients: int, seed: int
) -> None:
    authors = [f"author {i % 6}" for i in range(len(labels))]
    rows = Dataset.from_dict({"label": labels, "author": authors})
    parts = partitioner(rows, num_clients, seed)
    assert len(parts) == num_clients
    assert sorted(row for part in parts for row in part) == list(range(len(labels)))
    assert all(part == sorted(part) for part in parts)
    assert parts == partitioner(rows, num_clients, seed)


@pytest.mark.parametrize("partitioner", PARTITIONERS[:4], ids=lambda p: type(p).__name__)
def test_another_seed_gives_another_partition(partitioner: Partitioner) -> None:
    rows = Dataset.from_dict({"label": [0, 1, 2] * 50})
    assert partitioner(rows, 5, 0) != partitioner(rows, 5, 1)


def test_draws_are_repeated_until_every_client_has_enough() -> None:
    draws = iter([[[0, 1, 2], []], [[0, 1], [2]], [[1], [0, 2]]])
    parts = draw_until(lambda: [np.array(part) for part in next(draws)], 3, 2, 1, "pray")
    assert parts == [[0, 1], [2]]


def test_too_few_rows_for_min_samples() -> None:
    with pytest.raises(
        ValueError, match=r"`data.partitioner.min_samples` is 4, but 7 rows for 2 clients"
    ):
        draw_until(list, 7, 2, 4, "")


def test_no_draw_is_good_enough() -> None:
    with pytest.raises(
        ValueError,
        match=r"in 1000 draws for 2 clients the smallest client had at most 1 rows: .* or pray",
    ):
        draw_until(lambda: [np.arange(9), np.arange(1)], 10, 2, 3, "pray")
