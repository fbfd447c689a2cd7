import numpy as np
from datasets import Dataset

from lit_fed.data import IIDPartitioner


def test_sizes_differ_by_one_at_most() -> None:
    parts = IIDPartitioner()(Dataset.from_dict({"label": range(103)}), 10, 0)
    assert sorted(map(len, parts)) == [10] * 7 + [11] * 3


def test_labels_are_alike() -> None:
    labels = np.repeat([0, 1], 5000)
    parts = IIDPartitioner()(Dataset.from_dict({"label": labels}), 10, 0)
    shares = [labels[part].mean() for part in parts]
    # Five standard deviations of a share of 1000 rows.
    assert np.abs(np.array(shares) - 0.5).max() < 5 * 0.5 / np.sqrt(1000)
