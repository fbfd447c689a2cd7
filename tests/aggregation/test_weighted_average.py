import numpy as np
import pytest
import torch

from lit_fed import Payload
from lit_fed.aggregation import WeightedAverage, client_weights
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


def test_scores_that_are_all_zero_give_equal_weights() -> None:
    given = [Update(n, Payload(), 1, metrics={"val/accuracy": 0.0}) for n in "ab"]
    assert client_weights(given, "validation") == [0.5, 0.5]


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
    with pytest.raises(ValueError, match="at least 0, but client 'a' reports -1"):
        client_weights([Update("a", Payload(), 1, metrics={"val/accuracy": -1.0})], "validation")
