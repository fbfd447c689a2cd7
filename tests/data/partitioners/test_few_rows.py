import numpy as np
import pytest
from datasets import Dataset

from lit_fed.data import DirichletPartitioner, FewRowsPartitioner, NaturalPartitioner

ROWS = Dataset.from_dict({"label": [0, 1, 2] * 200, "author": ["a", "b", "b"] * 200})


def test_each_client_keeps_some_of_what_it_was_given() -> None:
    before = DirichletPartitioner(alpha=0.3)(ROWS, 6, 5)
    parts = FewRowsPartitioner(40, DirichletPartitioner(alpha=0.3))(ROWS, 6, 5)
    assert [len(part) for part in parts] == [min(40, len(part)) for part in before]
    assert all(set(part) <= set(whole) for part, whole in zip(parts, before, strict=True))
    assert all(part == sorted(set(part)) for part in parts)


def test_rows_are_drawn_by_the_seed_and_all_over() -> None:
    few = FewRowsPartitioner(20)
    assert few(ROWS, 4, 1) == few(ROWS, 4, 1)
    kept = np.zeros(len(ROWS))
    for seed in range(60):
        for part in few(ROWS, 4, seed):
            kept[part] += 1
    # 60 draws of 80 of 600 rows: 8 times each on average, binomial
    assert abs(kept.mean() - 8) < 1e-9
    assert kept.var() == pytest.approx(8 * (1 - 80 / 600), rel=0.25)


def test_the_last_number_holds_for_all_further_clients() -> None:
    parts = FewRowsPartitioner([4, 9])(ROWS, 5, 0)
    assert [len(part) for part in parts] == [4, 9, 9, 9, 9]
    assert [len(part) for part in FewRowsPartitioner([4, 9, 2])(ROWS, 2, 0)] == [4, 9]


def test_a_lower_limit_of_one_client_takes_some_of_its_rows_and_nobody_elses() -> None:
    all_alike = FewRowsPartitioner(40)(ROWS, 4, 3)
    first_few = FewRowsPartitioner([10, 40])(ROWS, 4, 3)
    assert set(first_few[0]) < set(all_alike[0])
    assert first_few[1:] == all_alike[1:]


def test_clients_are_who_they_were() -> None:
    few = FewRowsPartitioner(7, NaturalPartitioner("author"))
    assert few.default_num_clients(ROWS) == 2
    assert few.client_names(ROWS, few(ROWS, 2, 0)) == ["b", "a"]


def test_bad_settings_are_named() -> None:
    with pytest.raises(ValueError, match=r"`data.partitioner.max_rows`"):
        FewRowsPartitioner(0)
    for numbers in ([], [3, 0]):
        with pytest.raises(ValueError, match=r"`data.partitioner.max_rows` is expected to be"):
            FewRowsPartitioner(numbers)
    with pytest.raises(TypeError, match=r"write DirichletPartitioner\(…\)"):
        FewRowsPartitioner(3, DirichletPartitioner)  # type: ignore[arg-type]
