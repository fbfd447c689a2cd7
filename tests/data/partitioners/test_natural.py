from collections import Counter

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features

from lit_fed.data import NaturalPartitioner

SIZES = {"ann": 7, "bo": 5, "cy": 4, "di": 3, "ed": 1}
AUTHORS = [name for name, size in SIZES.items() for _ in range(size)]
ROWS = Dataset.from_dict({"author": np.random.default_rng(0).permutation(AUTHORS).tolist()})


def authors_of(parts: list[list[int]]) -> list[set[str]]:
    names = ROWS["author"][:]
    return [{names[row] for row in part} for part in parts]


def test_one_author_a_client() -> None:
    parts = NaturalPartitioner()(ROWS, 5, 0)
    assert sorted(map(sorted, authors_of(parts))) == [["ann"], ["bo"], ["cy"], ["di"], ["ed"]]
    assert {len(part) for part in parts} == set(SIZES.values())


def test_surplus_is_grouped_evenly_and_no_author_is_divided() -> None:
    parts = NaturalPartitioner()(ROWS, 2, 0)
    # By hand: ann 7 | bo 5, cy 4 | 7 + di 3 = 10 | 9 + ed 1 = 10.
    assert sorted(map(len, parts)) == [10, 10]
    owners = Counter(name for names in authors_of(parts) for name in names)
    assert owners == dict.fromkeys(SIZES, 1)


def test_surplus_is_dropped() -> None:
    parts = NaturalPartitioner(surplus="drop")(ROWS, 2, 0)
    assert authors_of(parts) == [{"ann"}, {"bo"}]


def test_small_authors_are_left_out() -> None:
    assert set().union(*authors_of(NaturalPartitioner(min_samples=4)(ROWS, 2, 0))) == {
        "ann",
        "bo",
        "cy",
    }


def test_ties_are_broken_by_the_seed() -> None:
    rows = Dataset.from_dict({"author": list("abcdefgh")})
    assert NaturalPartitioner()(rows, 8, 0) == NaturalPartitioner()(rows, 8, 0)
    assert NaturalPartitioner()(rows, 8, 0) != NaturalPartitioner()(rows, 8, 1)


def test_errors() -> None:
    with pytest.raises(
        ValueError, match=r"`data.num_clients` is 6, but column 'author' .* has only 5 values"
    ):
        NaturalPartitioner()(ROWS, 6, 0)
    with pytest.raises(ValueError, match=r"has only 2 values with 5 rows or more"):
        NaturalPartitioner(min_samples=5)(ROWS, 3, 0)
    with pytest.raises(
        ValueError, match=r"has 5 values; set `data.partitioner.surplus` to group or drop"
    ):
        NaturalPartitioner(surplus="error")(ROWS, 3, 0)
    with pytest.raises(
        ValueError, match=r"`data.partitioner.surplus` is expected to be group, drop or error"
    ):
        NaturalPartitioner(surplus="merge")  # type: ignore[arg-type]


def test_clients_are_called_by_their_values() -> None:
    rows = Dataset.from_dict(
        {"who": ["b", "a", "b", "c/d", "\x00", "x\ny"], "number": [3, 1, 3, 2, 0, 5]}
    )
    parts = [[0, 2], [1], [3], [4], [5]]
    assert NaturalPartitioner("who").client_names(rows, parts) == [
        "b",
        "a",
        "c/d",
        "(blank)",
        "x y",
    ]
    assert NaturalPartitioner("number").client_names(rows, [[0, 1, 2], [3]]) == ["3+1", "2"]
    names = ClassLabel(names=["sun", "moon"])
    rows = Dataset.from_dict({"who": [1, 0]}, Features({"who": names}))
    assert NaturalPartitioner("who").client_names(rows, [[0], [1]]) == ["moon", "sun"]


def test_there_are_as_many_clients_as_values_with_enough_rows() -> None:
    rows = Dataset.from_dict({"who": ["b", "a", "b", "c", "c"]})
    assert NaturalPartitioner("who").default_num_clients(rows) == 3
    assert NaturalPartitioner("who", min_samples=2).default_num_clients(rows) == 2


def test_no_author_with_enough_rows_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"min_samples` is 9, but no value of column 'author' .* has as"
    ):
        NaturalPartitioner(min_samples=9).default_num_clients(ROWS)
