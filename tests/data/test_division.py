from collections.abc import Callable

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_fed.data import IIDPartitioner, Partitioner
from lit_fed.data.columns import ROW_ID
from lit_fed.data.division import Division, divide


def table(count: int) -> Dataset:
    return Dataset.from_dict({ROW_ID: range(count), "label": [i % 2 for i in range(count)]})


def division(count: int = 100, **changed: object) -> Division:
    settings = {
        "partitioner": IIDPartitioner(),
        "num_clients": 4,
        "validation_fraction": 0.2,
        "public_size": 10,
        "client_validation_fraction": 0.25,
        "seed": 0,
    }
    return divide(table(count), **{**settings, **changed})  # type: ignore[arg-type]


def ids(rows: Dataset | None) -> list[int]:
    return [] if rows is None else list(rows[ROW_ID])


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(60, 120),
    num_clients=st.integers(1, 9),
    validation_fraction=st.sampled_from([0.0, 0.01, 0.3]),
    public_size=st.integers(0, 20),
    client_validation_fraction=st.sampled_from([0.0, 0.2, 0.9]),
    seed=st.integers(0, 99),
)
def test_parts_are_disjoint_and_together_all(count: int, **settings: object) -> None:
    parts = division(count, **settings)
    pieces = [ids(parts.validation), ids(parts.public)]
    pieces += [ids(client.rows) for client in parts.clients]
    pieces += [ids(client.validation) for client in parts.clients]
    assert sorted(row for piece in pieces for row in piece) == list(range(count))
    assert ids(parts.pooled) == sorted(row for client in parts.clients for row in ids(client.rows))
    assert len(ids(parts.public)) == settings["public_size"]
    assert all(len(client.rows) >= 1 for client in parts.clients)


def test_sizes() -> None:
    parts = division()
    assert len(ids(parts.validation)) == 20
    assert len(ids(parts.public)) == 10
    assert [len(client.rows) + len(ids(client.validation)) for client in parts.clients] == [
        18,
        18,
        17,
        17,
    ]
    assert [len(ids(client.validation)) for client in parts.clients] == [4, 4, 4, 4]


def test_no_parts_where_none_are_wanted() -> None:
    parts = division(validation_fraction=0.0, public_size=0, client_validation_fraction=0.0)
    assert parts.validation is None
    assert parts.public is None
    assert all(client.validation is None for client in parts.clients)


def test_the_seed_decides() -> None:
    one, same, other = division(seed=3), division(seed=3), division(seed=4)
    assert [ids(c.rows) for c in one.clients] == [ids(c.rows) for c in same.clients]
    assert ids(one.validation) == ids(same.validation) != ids(other.validation)
    # Another public set leaves validation as it is.
    assert ids(division(seed=3, public_size=30).validation) == ids(one.validation)


def test_ids_of_clients_sort_as_they_are_numbered() -> None:
    names = [client.id for client in division(num_clients=12).clients]
    assert names == sorted(names)
    assert names[0] == "client-00"


class Fixed(Partitioner):
    def __init__(self, parts: Callable[[int], list[list[int]]]) -> None:
        self.parts = parts

    def __call__(self, rows: Dataset, num_clients: int, seed: int) -> list[list[int]]:
        return self.parts(len(rows))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            lambda n: [[0], [1], [], [2]],
            "Fixed leaves 1 of 4 clients without data, the first is client 2: .*min_samples",
        ),
        (lambda n: [[0], [1], [2]], "Fixed is expected to give 4 parts .*, but gave 3"),
        (lambda n: [[0], [1], [2], [0]], "some repeat"),
        (lambda n: [[0], [1], [2], [n]], "out of range"),
    ],
)
def test_bad_partitions(parts: Callable[[int], list[list[int]]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        division(partitioner=Fixed(parts))


def test_more_clients_than_rows() -> None:
    with pytest.raises(
        ValueError,
        match=r"`data.num_clients` is 8, but only 7 of the 10 rows of data.train are left for clients "
        r"\(2 are for validation, 1 are public\)",
    ):
        division(10, num_clients=8, public_size=1)
    with pytest.raises(ValueError, match=r"`data.public_size` is 9, but only 8 of the 10 rows"):
        division(10, public_size=9)


def test_the_rows_of_all_clients_may_be_those_of_one() -> None:
    apart, together = division(), division(pool_clients=True)
    (client,) = together.clients
    assert client.id == "all-clients"
    assert ids(client.rows) == sorted(i for one in apart.clients for i in ids(one.rows))
    assert ids(together.pooled) == ids(apart.pooled)
    for name in ("validation", "public"):
        assert ids(getattr(together, name)) == ids(getattr(apart, name))
