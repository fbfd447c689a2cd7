"""The attack that stays where the global model has moved little."""

import numpy as np
import pytest
import torch

from lit_fed import Payload
from lit_fed.attacks import Neurotoxin
from lit_fed.client import Client

CLIENT = Client("a", 0, 8, 1, 1, 8)


def payload(draw: np.random.Generator) -> Payload:
    shapes = {"A": (3, 7), "B": (5, 2)}
    return Payload(
        {n: torch.from_numpy(draw.normal(size=s).astype(np.float32)) for n, s in shapes.items()}
    )


def flat(one: Payload) -> np.ndarray:
    return np.concatenate([one.tensors[n].numpy().ravel() for n in ("A", "B")])


@pytest.mark.parametrize("ratio", [0.01, 0.25, 0.9])
def test_the_change_is_projected_where_the_global_model_has_moved(ratio: float) -> None:
    draw = np.random.default_rng(0)
    before, now, trained = payload(draw), payload(draw), payload(draw)
    sent, kept = Neurotoxin(ratio, ["a"]).upload(CLIENT, trained, now, before)
    moved = np.abs(flat(now) - flat(before))
    number = max(1, round(ratio * 31))
    top = set(np.argsort(-moved)[:number].tolist())
    for i, (value, own, start) in enumerate(zip(flat(sent), flat(trained), flat(now), strict=True)):
        assert value == (start if i in top else pytest.approx(own, abs=1e-6))
    assert kept == now


def test_in_its_first_round_it_sends_its_change() -> None:
    draw = np.random.default_rng(1)
    now, trained = payload(draw), payload(draw)
    sent, kept = Neurotoxin(0.5, ["a"]).upload(CLIENT, trained, now, Payload())
    assert np.allclose(flat(sent), flat(trained), atol=1e-6)
    assert kept == now


def test_which_coordinates_are_left_alone_does_not_depend_on_the_change() -> None:
    draw = np.random.default_rng(2)
    before, now, first, second = (payload(draw) for _ in range(4))
    attack = Neurotoxin(0.3, ["a"])
    still = [
        flat(attack.upload(CLIENT, one, now, before)[0]) == flat(now) for one in (first, second)
    ]
    assert still[0].tolist() == still[1].tolist()
    assert still[0].sum() == round(0.3 * 31)


@pytest.mark.parametrize("ratio", [0.0, 1.0, -1.0])
def test_a_ratio_out_of_range_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match=r"Neurotoxin.ratio` is expected to be above 0 and below"):
        Neurotoxin(ratio, ["a"])


def test_factors_that_take_turns_are_each_compared_with_when_they_were_sent_last() -> None:
    """As RoLoRA sends them: B in even rounds, A in odd ones, of a model that moves what is sent."""
    draw = np.random.default_rng(3)
    attack, now, memory = Neurotoxin(0.3, ["a"]), payload(draw), Payload()
    last: dict[str, torch.Tensor] = {}
    for number in range(4):
        name = "BA"[number % 2]
        before = now.tensors[name]
        trained = Payload({name: before + torch.from_numpy(draw.normal(size=before.shape)).float()})
        sent, memory = attack.upload(CLIENT, trained, now, memory)
        still = (sent.tensors[name] == before).numpy()
        if number > 1:
            moved = (before - last[name]).abs().numpy()
            top = np.zeros(moved.size, bool)
            top[np.argsort(-moved.ravel(), kind="stable")[: round(0.3 * moved.size)]] = True
            assert still.ravel().tolist() == top.tolist()
        last[name] = before
        change = torch.from_numpy(draw.normal(size=before.shape)).float()
        now = Payload({**now.tensors, name: before + change})
