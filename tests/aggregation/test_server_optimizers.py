from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lit_fed import FedAvg, Payload
from lit_fed.aggregation import Aggregation, FedAvgM, WeightedAverage
from lit_fed.update import Update
from tests.federation.toy import (
    fast_adamw,
    toy_backbone,
    toy_data,
    toy_trainer,
    without_times,
)

SIZES = (10, 30, 60)


def uploads(draw: np.random.Generator, dtype: torch.dtype = torch.float32) -> list[Update]:
    return [
        Update(
            f"c{k}",
            Payload({"w": torch.tensor(draw.normal(size=(3, 2)), dtype=dtype)}),
            num_samples=size,
        )
        for k, size in enumerate(SIZES)
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_three_rounds_agree_with_numpy(dtype: torch.dtype) -> None:
    draw = np.random.default_rng(0)
    rule = FedAvgM(momentum=0.8, lr=0.7)
    broadcast = Payload({"w": torch.tensor(draw.normal(size=(3, 2)), dtype=dtype)})
    theta, velocity = broadcast.tensors["w"].double().numpy().copy(), np.zeros((3, 2))
    for _ in range(3):
        sent = uploads(draw, dtype)
        broadcast = rule(sent, broadcast)
        values = [u.payload.tensors["w"].double().numpy() for u in sent]
        velocity = 0.8 * velocity + theta - np.average(values, axis=0, weights=SIZES)
        theta = theta - 0.7 * velocity
        rtol = 1e-13 if dtype == torch.float64 else 1e-5
        np.testing.assert_allclose(broadcast.tensors["w"].double(), theta, rtol=rtol)
        assert broadcast.tensors["w"].dtype == dtype
        assert rule.state().tensors["w"].dtype == dtype


def test_a_state_that_is_taken_back_goes_on_and_an_empty_one_forgets() -> None:
    draw = np.random.default_rng(1)
    before, *sent = Payload({"w": torch.zeros(3, 2)}), uploads(draw), uploads(draw)
    rule = FedAvgM()
    middle = rule(sent[0], before)
    state = Payload.from_bytes(rule.state().to_bytes())
    last = rule(sent[1], middle)
    resumed, lost = FedAvgM(), FedAvgM()
    resumed.load_state(state)
    assert resumed(sent[1], middle) == last
    assert lost(sent[1], middle) != last
    rule.load_state(Payload())
    assert rule(sent[0], before) == middle


def test_without_momentum_it_is_the_average() -> None:
    sent = uploads(np.random.default_rng(2))
    before = Payload({"w": torch.ones(3, 2)})
    assert FedAvgM(momentum=0.0)(sent, before) == WeightedAverage()(sent, before)


def test_half_precision_keeps_its_velocity_in_full() -> None:
    rule = FedAvgM()
    sent = [Update("a", Payload({"w": torch.ones(1, dtype=torch.bfloat16)}), 1)]
    out = rule(sent, Payload({"w": torch.full((1,), 2.0, dtype=torch.bfloat16)}))
    assert out.tensors["w"].dtype == torch.bfloat16
    assert rule.state().tensors["w"].dtype == torch.float32


def test_what_has_no_mean_passes_and_has_no_velocity() -> None:
    sent = [Update("a", Payload({"ids": torch.tensor([4])}, {"s": ["x"]}), 1)]
    rule = FedAvgM()
    assert rule(sent, Payload({"ids": torch.tensor([1])})) == sent[0].payload
    assert not rule.state()


def test_bad_input_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"`model.aggregation.momentum` .* at least 0 and below 1, but got 1.0"
    ):
        FedAvgM(momentum=1.0)
    with pytest.raises(ValueError, match=r"`model.aggregation.lr` .* above 0, but got 0"):
        FedAvgM(lr=0.0)
    with pytest.raises(ValueError, match=r"the broadcast before .* 'w' are missing"):
        FedAvgM()(uploads(np.random.default_rng(0)), Payload())
    with pytest.raises(ValueError, match="WeightedAverage is expected to be empty"):
        WeightedAverage().load_state(Payload({"w": torch.ones(1)}))


def test_moments_of_what_is_not_sent_in_a_round_stay() -> None:
    """As where a rule lets factors train in turn."""
    draw = np.random.default_rng(4)
    first, second, third = (
        [Update("a", Payload({name: torch.tensor(draw.normal(size=3))}), 1)] for name in "aba"
    )
    before = Payload({"a": torch.zeros(3).double(), "b": torch.zeros(3).double()})
    rule, without = FedAvgM(), FedAvgM()
    middle = rule(first, before)
    assert rule(second, before).tensors.keys() == {"b"}  # late, and as if in its first round
    assert rule.state().tensors.keys() == {"a", "b"}
    assert without(first, before) == middle
    assert rule(third, middle) == without(third, middle)


class Forgetful(FedAvgM):
    """One whose memory is lost between rounds, as if it had none to give."""

    def state(self) -> Payload:
        return Payload()


def test_a_federation_resumes_bit_for_bit(toy_model: Path, tmp_path: Path) -> None:
    def run(
        folder: str, rounds: int, rule: Callable[[], Aggregation], ckpt_path: str | None = None
    ) -> Any:
        trainer = toy_trainer(tmp_path / folder, max_rounds=rounds, local_steps=2)
        module = FedAvg(toy_backbone(toy_model), rule(), optimizer=fast_adamw, warmup_steps=0)
        trainer.fit(module, toy_data(), ckpt_path)
        return trainer

    whole = run("whole", 4, FedAvgM).federation
    run("parts", 2, FedAvgM)
    resumed = run("parts", 4, FedAvgM, "last").federation
    assert resumed.broadcast == whole.broadcast
    assert resumed.server == whole.server
    assert resumed.server.tensors.keys() == whole.broadcast.tensors.keys()
    assert resumed.ledger == whole.ledger
    assert without_times(resumed.history) == without_times(whole.history)
    lost = run("lost", 4, Forgetful).federation
    assert lost.broadcast != whole.broadcast


def test_a_second_federation_begins_without_the_memory_of_the_first(
    toy_model: Path, tmp_path: Path
) -> None:
    module = FedAvg(toy_backbone(toy_model), FedAvgM(), optimizer=fast_adamw, warmup_steps=0)

    def run(folder: str) -> Any:
        trainer = toy_trainer(tmp_path / folder, max_rounds=1, local_steps=1)
        built = Payload(module.backbone.trainable())
        trainer.fit(module, toy_data())
        velocity = trainer.federation.server.tensors
        after = trainer.federation.broadcast.tensors
        for name, value in built.tensors.items():
            torch.testing.assert_close(after[name], value - velocity[name])

    run("first")
    run("second")
