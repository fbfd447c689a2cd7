import numpy as np
import pytest
from datasets import Dataset

from lit_fed.data import QuantitySkewPartitioner

ROWS = Dataset.from_dict({"label": [0, 1] * 500})


def test_sizes_follow_the_distribution() -> None:
    sizes = np.array(
        [[len(p) for p in QuantitySkewPartitioner(0.5, 0)(ROWS, 5, seed)] for seed in range(100)]
    )
    mean = 1 / 5
    assert (sizes / 1000).var() == pytest.approx(mean * (1 - mean) / (5 * 0.5 + 1), rel=0.2)


def test_labels_stay_alike() -> None:
    labels = np.array(ROWS["label"][:])
    largest = max(QuantitySkewPartitioner(0.5)(ROWS, 5, 0), key=len)
    assert labels[largest].mean() == pytest.approx(0.5, abs=5 * 0.5 / np.sqrt(len(largest)))


def test_min_samples() -> None:
    parts = QuantitySkewPartitioner(0.2, min_samples=20)(ROWS, 5, 0)
    assert min(map(len, parts)) >= 20
    with pytest.raises(ValueError, match=r"raise `data.partitioner.alpha`"):
        QuantitySkewPartitioner(0.01, min_samples=190)(ROWS, 5, 0)
