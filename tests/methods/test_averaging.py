from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from lit_fed import FedAvg, Payload
from lit_fed.aggregation import Aggregation, FedAvgM, WeightedAverage
from lit_fed.client import Client
from lit_fed.update import Update
from tests.federation.toy import toy_backbone


class Recorder(WeightedAverage):
    """Keeps what it is given, and has a client's name as its memory."""

    def __init__(self) -> None:
        super().__init__()
        self.previous: list[Payload] = []
        self.given: list[Update] = []
        self.memory = Payload()

    def __call__(self, updates: Sequence[Update], previous: Payload) -> Payload:
        self.previous.append(previous)
        self.given = list(updates)
        self.memory = Payload(strings={"last": [updates[-1].client_id]})
        return super().__call__(updates, previous)

    def state(self) -> Payload:
        return self.memory

    def load_state(self, state: Payload) -> None:
        self.memory = state


def shifted(payload: Payload, by: float) -> Payload:
    return Payload({name: value + by for name, value in payload.tensors.items()})


def client(index: int) -> Client:
    return Client(str(index), index, 8, round=0, rounds=0, steps=0)


def test_the_rule_is_given_the_last_broadcast_and_uploads_without_their_parts(
    toy_model: Path,
) -> None:
    rule = Recorder()
    module = FedAvg(toy_backbone(toy_model), rule)
    built = module.initial_broadcast()
    extra = {"consensus": Payload({"probs": torch.ones(2)})}
    updates = [Update("a", built.with_parts(extra), 1), Update("b", shifted(built, 1.0), 3)]
    module.aggregate(updates)
    assert rule.previous[-1] == built  # nothing has been downloaded yet
    last = shifted(built, 2.0).with_parts(extra)
    module.act_as(None)
    module.download(last)
    module.act_as(client(0))
    module.download(shifted(built, 3.0))  # a client's is none of the server's
    module.act_as(None)
    result = module.aggregate(updates)
    assert rule.previous[-1] == last.main
    assert not any(update.payload.parts for update in rule.given)
    assert rule.given[1] == updates[1]
    assert not result.parts
    for name, value in built.tensors.items():
        torch.testing.assert_close(result.tensors[name], value + 0.75)


def test_the_rules_memory_is_the_servers_and_nobody_elses(toy_model: Path) -> None:
    rule = Recorder()
    module = FedAvg(toy_backbone(toy_model), rule)
    module.act_as(None)
    module.aggregate([Update("a", module.initial_broadcast(), 1)])
    state = module.server_state()
    assert state.strings["last"] == ("a",)
    module.act_as(client(0))
    assert not rule.memory
    module.act_as(None)
    assert not module.server_state()
    module.load_server_state(state.with_parts({"of the method": Payload({"x": torch.ones(1)})}))
    assert rule.memory == state


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Recorder(), [0.25, 0.75]),
        (WeightedAverage("uniform"), [0.5, 0.5]),
        (FedAvgM(weights="rounds"), [0.2, 0.8]),
    ],
)
def test_a_rule_says_what_each_client_counts(rule: Aggregation, expected: list[float]) -> None:
    updates = [Update("a", Payload(), 1, rounds=1), Update("b", Payload(), 3, rounds=4)]
    assert rule.weights(updates) == pytest.approx(expected)


class Wrong(WeightedAverage):
    """Returns what it is told to make of the average."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        self.make = make

    def __call__(self, updates: Sequence[Update], previous: Payload) -> Payload:
        made: Payload = self.make(super().__call__(updates, previous))
        return made


@pytest.mark.parametrize(
    ("make", "kind", "said"),
    [
        (
            lambda average: dict(average.tensors),
            TypeError,
            "to return a Payload, but returned a dict",
        ),
        (
            lambda average: Payload({n: v[None] for n, v in average.tensors.items()}),
            ValueError,
            r"to leave the shape of \S+ as it was, \[\d+, \d+\], but returned \[1, \d+, \d+\]",
        ),
    ],
)
def test_what_a_rule_must_not_return_is_named(
    make: Any, kind: type[Exception], said: str, toy_model: Path
) -> None:
    module = FedAvg(toy_backbone(toy_model), aggregation=Wrong(make))
    sent = module.initial_broadcast()
    with pytest.raises(kind, match=f"`model.aggregation` Wrong is expected {said}"):
        module.aggregate([Update("a", sent, 3, 1, {})])
