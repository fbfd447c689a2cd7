import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_fed.data import LengthBucketSampler


@settings(deadline=None, max_examples=50)
@given(
    lengths=st.lists(st.integers(1, 100), max_size=300),
    batch_size=st.integers(1, 8),
    bucketing=st.booleans(),
)
def test_every_row_comes_once(lengths: list[int], batch_size: int, bucketing: bool) -> None:
    sampler = LengthBucketSampler(np.array(lengths, np.int64), batch_size, 0, bucketing)
    assert sorted(sampler) == list(range(len(lengths)))
    assert len(sampler) == len(lengths)
    assert list(sampler) == list(sampler)


def waste(order: list[int], lengths: np.ndarray, batch_size: int) -> float:
    batches = [lengths[order[i : i + batch_size]] for i in range(0, len(order), batch_size)]
    return 1 - lengths.sum() / sum(len(batch) * batch.max() for batch in batches)


def test_little_is_padding_and_batches_are_shuffled() -> None:
    lengths = np.random.default_rng(0).integers(5, 100, 2000)
    order = list(LengthBucketSampler(lengths, 8, seed=0))
    shuffled = list(LengthBucketSampler(lengths, 8, seed=0, bucketing=False))
    assert waste(order, lengths, 8) < 0.05 < 0.3 < waste(shuffled, lengths, 8)
    longest = [lengths[order[i : i + 8]].max() for i in range(0, 2000, 8)]
    assert abs(np.corrcoef(longest[:-1], longest[1:])[0, 1]) < 0.2


def test_the_batch_that_is_not_full_is_any_and_last() -> None:
    lengths = np.arange(10)
    last = [list(LengthBucketSampler(lengths, 4, seed))[8:] for seed in range(50)]
    assert {row for rows in last for row in rows} == set(range(10))


@pytest.mark.parametrize("bucketing", [True, False])
def test_order_depends_on_seed_and_epoch(bucketing: bool) -> None:
    lengths = np.arange(100) % 7
    first = LengthBucketSampler(lengths, 4, 0, bucketing)
    again = LengthBucketSampler(lengths, 4, 0, bucketing)
    other = LengthBucketSampler(lengths, 4, 1, bucketing)
    zero = list(first)
    assert zero == list(again) != list(other)
    first.set_epoch(1)
    assert zero != list(first)
    first.set_epoch(0)
    assert zero == list(first)
