import numpy as np
import pytest
from datasets import Dataset

from lit_fed.data import LabelShardsPartitioner


def test_clients_hold_few_labels_of_equal_size() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 60))
    parts = LabelShardsPartitioner(2)(Dataset.from_dict({"label": labels}), 10, 0)
    assert [len(part) for part in parts] == [60] * 10
    # Shards of 30 rows divide labels of 60, so each has one label.
    assert all(len(set(labels[part])) <= 2 for part in parts)
    assert all(set(np.bincount(labels[part])) <= {0, 30, 60} for part in parts)


def test_too_few_rows() -> None:
    with pytest.raises(
        ValueError, match=r"`data.partitioner.shards_per_client` is 3, but 5 rows .* 6 shards for 2"
    ):
        LabelShardsPartitioner(3)(Dataset.from_dict({"label": range(5)}), 2, 0)
    with pytest.raises(
        ValueError, match=r"`data.partitioner.shards_per_client` is expected to be at least 1"
    ):
        LabelShardsPartitioner(0)
