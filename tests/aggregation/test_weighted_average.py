import math
from typing import Any

import numpy as np
import pytest
import torch

from lit_fed import Payload
from lit_fed.aggregation import (
    FedAdagrad,
    FedAdam,
    FedAvgM,
    FedYogi,
    GeometricMedian,
    NormClipping,
    WeightedAverage,
    client_weights,
)
from lit_fed.update import Update

BEFORE = Payload()


def updates(seed: int = 0) -> list[Update]:
    draw = np.random.default_rng(seed)
    return [
        Update(
            f"c{k}",
            Payload(
                {
                    "w": torch.tensor(draw.normal(size=(3, 2)), dtype=torch.float32),
                    "b": torch.tensor(draw.normal(size=2)),
                }
            ),
            num_samples=n,
            rounds=k + 1,
            metrics={"val/accuracy": 0.1 * (k + 1)},
        )
        for k, n in enumerate((10, 30, 60))
    ]


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("size", [0.1, 0.3, 0.6]),
        ("uniform", [1 / 3] * 3),
        ("rounds", [1 / 6, 2 / 6, 3 / 6]),
        ("validation", [1 / 6, 2 / 6, 3 / 6]),
    ],
)
def test_the_mean_agrees_with_numpy(by: str, expected: list[float]) -> None:
    given = updates()
    assert client_weights(given, by) == pytest.approx(expected)  # type: ignore[arg-type]
    result = WeightedAverage(by)(given, BEFORE)  # type: ignore[arg-type]
    for name in ("w", "b"):
        stacked = np.stack([u.payload.tensors[name].numpy() for u in given])
        np.testing.assert_allclose(
            result.tensors[name], np.average(stacked, axis=0, weights=expected), rtol=1e-6
        )
        assert result.tensors[name].dtype == given[0].payload.tensors[name].dtype


def test_equal_uploads_are_returned_bit_for_bit() -> None:
    payload = updates()[0].payload
    assert WeightedAverage()([Update("a", payload, 3), Update("b", payload, 11)], BEFORE) == payload


def test_the_order_of_clients_does_not_matter() -> None:
    given = updates()
    forward, backward = (WeightedAverage()(g, BEFORE) for g in (given, given[::-1]))
    torch.testing.assert_close(dict(forward.tensors), dict(backward.tensors), rtol=1e-7, atol=0)


def test_half_precision_is_summed_in_full() -> None:
    many = [
        Update(str(k), Payload({"w": torch.tensor([1.0], dtype=torch.bfloat16)}), 1)
        for k in range(1000)
    ]
    assert WeightedAverage()(many, BEFORE).tensors["w"].item() == 1.0


@pytest.mark.parametrize(
    ("by", "what"),
    [
        ("size", "sizes"),
        ("validation", "scores 'val/accuracy'"),
        ("rounds", "rounds taken part in"),
    ],
)
def test_weights_that_sum_to_zero_are_refused(by: Any, what: str) -> None:
    nothing = {"num_samples": 0, "rounds": 0, "metrics": {"val/accuracy": 0.0}}
    given = [Update(n, Payload({"w": torch.ones(1)}), **nothing) for n in "ab"]
    with pytest.raises(ValueError, match=rf"sum above 0, but the {what} of all 2 clients are 0; "):
        client_weights(given, by)
    rule = WeightedAverage(by)
    # one client of a weight of 0 is none that cannot be combined: it counts nothing beside others
    rule.check_update(given[0])
    some = Update("c", Payload({"w": torch.full((1,), 3.0)}), 5, metrics={"val/accuracy": 0.1})
    assert rule([*given, some], BEFORE).tensors["w"].item() == 3.0
    assert client_weights(given, "uniform") == [0.5, 0.5]


@pytest.mark.parametrize("rule", [WeightedAverage, FedAdam, NormClipping, GeometricMedian])
def test_a_weighting_that_there_is_not_is_refused_at_once(rule: Any) -> None:
    with pytest.raises(ValueError, match=r"size, uniform, validation or rounds, but got 'sizes'"):
        rule(weights="sizes")


@pytest.mark.parametrize("rule", [WeightedAverage, FedAvgM, FedAdagrad, FedAdam, FedYogi])
@pytest.mark.parametrize("by", ["size", "uniform", "rounds", "validation"])
def test_every_rule_takes_every_weighting(rule: Any, by: Any) -> None:
    given, expected = updates(), np.array(client_weights(updates(), by))
    before = Payload({name: torch.zeros_like(t) for name, t in given[0].payload.tensors.items()})
    made = rule(weights=by)
    assert made.needs_validation == (by == "validation")
    assert made.weights(given) == expected.tolist()
    mean = Payload(
        {
            name: torch.einsum(
                "k,k...->...",
                torch.tensor(expected),
                torch.stack([u.payload.tensors[name].double() for u in given]),
            )
            for name in before.tensors
        }
    )
    alone = made(given, before), rule()([Update("all", mean, 1)], before)
    for name, tensor in alone[0].tensors.items():
        torch.testing.assert_close(
            tensor.double(), alone[1].tensors[name].double(), rtol=1e-5, atol=0
        )


def test_what_cannot_be_averaged_is_refused_by_name() -> None:
    def two(first: Payload, second: Payload) -> list[Update]:
        return [Update("a", first, 1), Update("b", second, 1)]

    def average(given: list[Update]) -> Payload:
        return WeightedAverage()(given, BEFORE)

    with pytest.raises(
        ValueError,
        match=r"the upload of client 'b' tensor 'w' is expected to have shape \[2\], but got \[3\]",
    ):
        average(two(Payload({"w": torch.ones(2)}), Payload({"w": torch.ones(3)})))
    with pytest.raises(ValueError, match=r"the upload of client 'b' .* 'w' are missing"):
        average(two(Payload({"w": torch.ones(2)}), Payload()))
    with pytest.raises(ValueError, match=r"client 'b' sent \['extra'\] and client 'a' did not"):
        average(two(Payload(), Payload({"extra": torch.ones(2)})))
    with pytest.raises(ValueError, match=r"tensor 'ids' of torch.int64 has no mean"):
        average(two(Payload({"ids": torch.tensor([1])}), Payload({"ids": torch.tensor([2])})))
    with pytest.raises(ValueError, match="strings cannot be averaged, but clients 'a' and 'b'"):
        average(two(Payload(strings={"s": ["x"]}), Payload(strings={"s": ["y"]})))
    with pytest.raises(ValueError, match="from at least one client"):
        average([])


def test_what_all_sent_alike_passes() -> None:
    same = Payload({"ids": torch.tensor([4, 2])}, {"s": ["x"]})
    assert WeightedAverage()([Update("a", same, 1), Update("b", same, 2)], BEFORE) == same


def test_a_missing_or_negative_score_names_the_client() -> None:
    with pytest.raises(
        ValueError, match=r"client 'a' reports .*set trainer.validate_clients to true"
    ):
        client_weights([Update("a", Payload(), 1)], "validation")
    for score in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=rf"at least 0, but client 'a' reports {score}"):
            client_weights(
                [Update("a", Payload(), 1, metrics={"val/accuracy": score})], "validation"
            )
