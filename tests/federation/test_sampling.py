from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lit_fed.federation import ClientSampler, FixedOrderSampler, SizeSampler, UniformSampler
from lit_fed.federation.sampling import clients_per_round
from tests.federation.toy import toy_data, toy_module, toy_trainer

SIZES = [10, 20, 70, 100]


@pytest.mark.parametrize("sampler", [UniformSampler(), SizeSampler(), FixedOrderSampler()])
def test_samples_are_distinct_and_depend_on_seed_and_round_alone(sampler: ClientSampler) -> None:
    first = [sampler(SIZES, 2, seed=3, round=r) for r in range(20)]
    again = [sampler(SIZES, 2, seed=3, round=r) for r in reversed(range(20))][::-1]
    assert first == again
    assert all(len(set(s)) == 2 and set(s) <= set(range(4)) for s in first)
    assert len({tuple(s) for s in first}) > 1


def share(sampler: ClientSampler, count: int) -> np.ndarray:
    counts = np.bincount([c for r in range(4000) for c in sampler(SIZES, count, 0, r)], minlength=4)
    return counts / counts.sum()


def test_uniform_is_uniform() -> None:
    np.testing.assert_allclose(share(UniformSampler(), 2), 0.25, atol=0.02)


def test_size_sampler_draws_by_size() -> None:
    np.testing.assert_allclose(share(SizeSampler(), 1), np.array(SIZES) / 200, atol=0.02)


def test_fixed_order_gives_everyone_a_turn() -> None:
    sampler = FixedOrderSampler([2, 0, 3])
    assert [sampler(SIZES, 2, 0, r) for r in range(3)] == [[2, 0], [3, 2], [0, 3]]
    with pytest.raises(
        ValueError,
        match=r"`trainer.sampler.order` .* at least 4 different clients of 0 … 3, but got \[2, 0, 3\]",
    ):
        sampler(SIZES, 4, 0, 0)
    with pytest.raises(ValueError, match=r"but got \[0, 9\]"):
        FixedOrderSampler([0, 9])(SIZES, 1, 0, 0)


def test_counts_and_fractions() -> None:
    assert [clients_per_round(s, 10) for s in (1, 10, 0.5, 1.0, 0.01)] == [1, 10, 5, 10, 1]
    with pytest.raises(ValueError, match="between 1 and the 10 clients there are, but got 11"):
        clients_per_round(11, 10)
    with pytest.raises(ValueError, match=r"as a fraction is expected in \(0, 1\], but got 1.5"):
        clients_per_round(1.5, 10)


def test_a_checkpoint_has_the_samplers_state_of_its_round(toy_model: Path, tmp_path: Path) -> None:
    class Counts(UniformSampler):
        """Counts in a container that it gives as its state."""

        def __init__(self) -> None:
            self.counts: dict[str, list[int]] = {"rounds": []}

        def __call__(self, sizes: Any, count: int, seed: int, round: int) -> list[int]:
            self.counts["rounds"].append(round)
            return super().__call__(sizes, count, seed, round)

        def state_dict(self) -> dict[str, Any]:
            return self.counts

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            self.counts = state_dict

    trainer = toy_trainer(tmp_path, sampler=Counts(), max_rounds=1)
    trainer.fit(toy_module(toy_model), toy_data())
    state = trainer.federation
    trainer.sampler([1, 1], 1, 0, 7)
    assert state.sampler == {"rounds": [0]}
    again = toy_trainer(tmp_path, sampler=Counts(), max_rounds=2)
    again.fit(toy_module(toy_model), toy_data(), "last")
    assert again.federation.sampler == {"rounds": [0, 1]}
