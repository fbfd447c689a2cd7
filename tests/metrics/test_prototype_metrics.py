"""Metrics of prototypes and gates beside NumPy, SciPy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from sklearn.metrics.cluster import contingency_matrix

from lit_fed.metrics import (
    CleanRowsLost,
    KeptShare,
    PrototypeCoverage,
    PrototypeDrift,
    PrototypePurity,
    PrototypeUsage,
    class_purity,
    dead_share,
    usage_entropy,
    within_margin,
)

DRAW = np.random.default_rng(0)


def test_coverage_agrees_with_numpy() -> None:
    cosines = DRAW.uniform(-1, 1, (40, 3))
    metric = PrototypeCoverage(margin=0.6)
    for part in np.split(cosines, [7, 7, 20]):
        metric.update(torch.from_numpy(part))
    assert metric.compute().item() == pytest.approx(100 * (1 - cosines.max(1) <= 0.6).mean())


def test_usage_agrees_with_scipy_and_does_not_depend_on_names() -> None:
    places = DRAW.integers(0, 5, 60)
    metric, renamed = PrototypeUsage(8), PrototypeUsage(8)
    metric.update(torch.from_numpy(places[:10]))
    metric.update(torch.from_numpy(places[10:]))
    renamed.update(torch.from_numpy(DRAW.permutation(8)[places]))
    counts = np.bincount(places, minlength=8)
    told = metric.compute()
    assert told["entropy"].item() == pytest.approx(100 * entropy(counts) / np.log(8), rel=1e-6)
    assert told["dead"].item() == pytest.approx(100 * (counts == 0).mean())
    assert renamed.compute()["entropy"].item() == pytest.approx(told["entropy"].item(), rel=1e-6)
    assert usage_entropy(torch.tensor([3.0])).item() == 1
    assert torch.isnan(PrototypeUsage(2).compute()["dead"])


def test_purity_agrees_with_scikit_learn() -> None:
    places, classes = DRAW.integers(0, 4, 50), DRAW.integers(0, 3, 50)
    metric = PrototypePurity(6, 3)
    metric.update(torch.from_numpy(places[:20]), torch.from_numpy(classes[:20]))
    metric.update(torch.from_numpy(places[20:]), torch.from_numpy(classes[20:]))
    table = contingency_matrix(places, classes)
    assert metric.compute().item() == pytest.approx(100 * table.max(1).sum() / 50, rel=1e-6)
    assert class_purity(torch.eye(3)).item() == 1


def test_drift_agrees_with_numpy_and_not_with_lengths() -> None:
    before, after = DRAW.normal(size=(2, 6, 4))
    cosines = (
        (before * after).sum(1) / np.linalg.norm(before, axis=1) / np.linalg.norm(after, axis=1)
    )
    metric = PrototypeDrift()
    metric.update(torch.from_numpy(before[:1]), torch.from_numpy(7 * after[:1]))
    metric.update(torch.from_numpy(before[1:]), torch.from_numpy(after[1:]))
    assert metric.compute().item() == pytest.approx(1 - cosines.mean(), rel=1e-6)


def test_kept_shares_agree_with_numpy() -> None:
    kept, classes, clients = DRAW.random(80) < 0.6, DRAW.integers(0, 3, 80), DRAW.integers(0, 2, 80)
    metric = KeptShare(3, 3)
    for client in (0, 1):
        own = clients == client
        metric.update(torch.from_numpy(kept[own]), torch.from_numpy(classes[own]), client)
    told = {name: value.item() for name, value in metric.compute().items()}
    assert told["all"] == pytest.approx(100 * kept.mean(), rel=1e-6)
    for client in (0, 1):
        assert told[f"client/{client}"] == pytest.approx(100 * kept[clients == client].mean())
    for label in range(3):
        assert told[f"class/{label}"] == pytest.approx(100 * kept[classes == label].mean())
    assert np.isnan(told["client/2"])


def test_kept_rows_are_marked_by_numbers_as_well() -> None:
    kept, classes = torch.tensor([1, 0, 0, 1]), torch.tensor([0, 1, 2, 2])
    metric, marked = KeptShare(1, 3), KeptShare(1, 3)
    metric.update(kept, classes, client=0)
    marked.update(kept.bool(), classes, client=0)
    assert metric.compute() == marked.compute()
    assert metric.compute()["class/2"] == 50


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.float16, torch.bfloat16])
def test_counts_of_any_dtype_are_used_alike(dtype: torch.dtype) -> None:
    for counts in ([4, 2, 0, 0], [0, 3, 0], [3], [0, 0]):
        wide = torch.tensor(counts, dtype=torch.float64)
        for function in (dead_share, usage_entropy):
            found = function(wide.to(dtype))
            torch.testing.assert_close(
                found, function(wide), check_dtype=False, rtol=1e-6, atol=0, equal_nan=True
            )


def test_clean_rows_lost_agree_with_numpy() -> None:
    kept, clean = DRAW.random((2, 30)) < 0.7
    metric = CleanRowsLost()
    metric.update(torch.from_numpy(kept), torch.from_numpy(clean))
    assert metric.compute().item() == pytest.approx(100 * (clean & ~kept).sum() / clean.sum())


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"`margin` is expected to be from 0 to 2, but got 3"):
        PrototypeCoverage(margin=3)
    with pytest.raises(ValueError, match=r"`similarities` .* but got \[4\]"):
        within_margin(torch.zeros(4), 0.3)
    with pytest.raises(ValueError, match=r"places from 0 to 1, but has those from 0 to 2"):
        PrototypeUsage(2).update(torch.tensor([0, 2]))
    with pytest.raises(ValueError, match=r"classes from 0 to 1, but has those from 0 to 5"):
        PrototypePurity(2, 2).update(torch.tensor([0, 1]), torch.tensor([0, 5]))
    with pytest.raises(ValueError, match=r"`before` and `after` .* but got \[2, 2\] and \[3, 2\]"):
        PrototypeDrift().update(torch.ones(2, 2), torch.ones(3, 2))
    with pytest.raises(ValueError, match=r"`client` .* from 0 to 1, but got 2"):
        KeptShare(2, 2).update(torch.tensor([True]), torch.tensor([0]), client=2)
