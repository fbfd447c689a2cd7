import math
import re
import statistics
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lit_fed.metrics import ParameterEfficiency, changed_share, relative_change


def states(seed: int = 0, scale: float = 1e-3) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    before = {
        "a": torch.randn(30, 7, generator=generator),
        "b": 100 * torch.randn(50, generator=generator),
    }
    after = {
        name: tensor + scale * torch.randn(tensor.shape, generator=generator)
        for name, tensor in before.items()
    }
    return before, after


def test_equals_numpy() -> None:
    before, after = states()
    changed = 0
    for name in before:
        old, new = before[name].numpy(), after[name].numpy()
        changed += int((np.abs(new - old) > 1e-3 * np.sqrt(np.mean(old**2))).sum())
    assert 0 < changed < 210
    assert changed_share(before, after, 1000).item() == pytest.approx(changed / 1000)


def test_threshold_is_relative_to_the_block() -> None:
    before = {"a": torch.ones(2), "b": 100 * torch.ones(2)}
    after = {name: tensor + 0.01 for name, tensor in before.items()}
    assert changed_share(before, after, 4).item() == 0.5
    assert changed_share(before, after, 4, threshold=0.0).item() == 1.0


def test_invariant_to_the_scale_of_the_model() -> None:
    before, after = states()
    expected = changed_share(before, after, 300)
    for factor in (2.0**-10, 2.0**10):
        old, new = ({n: factor * t for n, t in state.items()} for state in (before, after))
        assert changed_share(old, new, 300) == expected


def test_block_of_zeros_counts_any_change() -> None:
    before = {"lora_B": torch.zeros(4)}
    after = {"lora_B": torch.tensor([0.0, 0.0, 1e-9, -1.0])}
    assert changed_share(before, after, 4).item() == 0.5


def test_nan_counts_as_a_change() -> None:
    before, after = {"w": torch.ones(2)}, {"w": torch.tensor([1.0, float("nan")])}
    assert changed_share(before, after, 2).item() == 0.5


def test_low_precision_is_compared_in_float32() -> None:
    before = {"w": torch.ones(1000, dtype=torch.bfloat16)}
    after = {"w": torch.full((1000,), 1.0078125, dtype=torch.bfloat16)}
    assert changed_share(before, after, 1000).item() == 1.0


def test_mean_over_clients_with_models_of_different_sizes() -> None:
    pe = ParameterEfficiency()
    before, after = {"w": torch.ones(4)}, {"w": torch.tensor([1.0, 1.0, 2.0, 2.0])}
    pe.update(before, after, num_parameters=4)
    pe.update(before, after, num_parameters=8)
    pe.update(before, before, num_parameters=4)
    assert pe.compute().item() == pytest.approx(25.0)
    pe.reset()
    pe.update(before, before, num_parameters=4)
    assert pe.compute().item() == 0.0


def test_trainable_and_communicated() -> None:
    before, after = states()
    assert ParameterEfficiency("trainable")(before, after, 2600).item() == pytest.approx(10.0)
    pe = ParameterEfficiency("communicated")
    pe.update(before, after, 2600, communicated=130)
    pe.update(before, after, 2600, communicated=0)
    assert pe.compute().item() == pytest.approx(2.5)


def test_no_trainable_parameters() -> None:
    assert ParameterEfficiency()({}, {}, num_parameters=5).item() == 0.0


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_empty() -> None:
    assert ParameterEfficiency().compute().isnan()


@pytest.mark.parametrize(
    ("before", "after", "total", "message"),
    [
        ({"a": 1}, {"b": 1}, 9, "expected to hold the same names, but only one of them has a, b"),
        ({"a": 1}, {"a": 2}, 9, "the same shapes, but 'a' has [1] and [2]"),
        ({"a": 5}, {"a": 5}, 4, "`num_parameters` is expected to be at least 5, the number of par"),
    ],
)
@pytest.mark.parametrize("mode", ["changed", "trainable"])
def test_bad_states(
    before: dict[str, int], after: dict[str, int], total: int, message: str, mode: Any
) -> None:
    old, new = ({n: torch.ones(size) for n, size in s.items()} for s in (before, after))
    with pytest.raises(ValueError, match=re.escape(message)):
        ParameterEfficiency(mode).update(old, new, total)


def test_bad_settings() -> None:
    with pytest.raises(
        ValueError,
        match="`mode` is expected to be one of 'changed', 'relative_change', 'trainable',",
    ):
        ParameterEfficiency("all")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`threshold` is expected to be at least 0, but got -1"):
        ParameterEfficiency(threshold=-1)
    with pytest.raises(ValueError, match="`communicated` is expected to be the count of numbers"):
        ParameterEfficiency("communicated").update({}, {}, 1)
    with pytest.raises(TypeError, match="`num_parameters` is expected to be an integer, but got 1"):
        ParameterEfficiency().update({}, {}, 1.5)  # type: ignore[arg-type]


def test_relative_change_by_hand() -> None:
    before = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([[4.0]])}
    after = {"a": torch.tensor([3.0, 1.0]), "b": torch.tensor([[4.5]])}
    assert float(relative_change(before, after)) == pytest.approx(math.sqrt(1.25) / 5)
    assert relative_change({"a": torch.zeros(2)}, {"a": torch.zeros(2)}) == 0
    assert relative_change({"a": torch.zeros(1)}, {"a": torch.ones(1)}) == math.inf
    with pytest.raises(ValueError, match="only one of them has b"):
        relative_change(before, {"a": after["a"]})


def test_the_standard_error_is_that_of_the_mean_over_clients() -> None:
    metric = ParameterEfficiency("relative_change")
    shares = []
    for change in (0.1, 0.3, 0.2, 0.6):
        metric.update({"w": torch.ones(4)}, {"w": torch.ones(4) + change}, 10)
        shares.append(100 * change)
    expected = statistics.stdev(shares) / 2
    assert float(metric.standard_error()) == pytest.approx(expected, rel=1e-5)
    metric.reset()
    metric.update({"w": torch.ones(4)}, {"w": torch.ones(4)}, 10)
    assert metric.standard_error().isnan()


def test_without_trainable_parameters_nothing_has_moved() -> None:
    assert relative_change({}, {}) == 0
    assert ParameterEfficiency("relative_change")({}, {}, num_parameters=5) == 0
