"""Top-k with error feedback, compared with NumPy."""

import math

import numpy as np
import pytest
import torch

from lit_fed import Payload
from lit_fed.client import Client
from lit_fed.compression import TopK

CLIENT = Client("a", 0, 8, round=0, rounds=0, steps=0)


def drawn(seed: int, dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    draw = np.random.default_rng(seed)
    shapes = {"a": (4, 30), "b": (7,), "scalar": ()}
    return {n: torch.tensor(draw.normal(size=shape)).to(dtype) for n, shape in shapes.items()}


def largest(values: np.ndarray, fraction: float) -> np.ndarray:
    """The k largest by absolute value, the others 0."""
    flat = values.ravel()
    count = math.ceil(round(fraction * flat.size, 9))
    result = np.zeros_like(flat)
    for place in np.argsort(-np.abs(flat))[:count]:
        result[place] = flat[place]
    return result.reshape(values.shape)


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 1.0])
def test_it_is_the_papers_algorithm(fraction: float) -> None:
    attachment, memory = TopK(fraction), Payload()
    error = {name: np.zeros(tensor.shape) for name, tensor in drawn(0).items()}
    for number in range(5):
        start, trained = drawn(2 * number), drawn(2 * number + 1)
        broadcast = Payload(start)
        sent, memory = attachment.upload(CLIENT, Payload(trained), broadcast, memory)
        seen = attachment.received(CLIENT, sent, broadcast).tensors
        assert seen.keys() == trained.keys()
        for name, before in start.items():
            p = error[name] + trained[name].numpy() - before.numpy()
            p_hat = largest(p, fraction)
            error[name] = p - p_hat
            np.testing.assert_allclose(seen[name], before.numpy() + p_hat, atol=1e-10)
            np.testing.assert_allclose(memory.tensors[name], error[name], atol=1e-10)


def test_what_was_sent_and_the_memory_are_all_that_has_changed() -> None:
    attachment, memory = TopK(0.05), Payload()
    sums = {name: torch.zeros_like(tensor) for name, tensor in drawn(0).items()}
    true = {name: torch.zeros_like(tensor) for name, tensor in drawn(0).items()}
    for number in range(20):
        start, trained = drawn(2 * number), drawn(2 * number + 1)
        sent, memory = attachment.upload(CLIENT, Payload(trained), Payload(start), memory)
        seen = attachment.received(CLIENT, sent, Payload(start)).tensors
        for name in sums:
            sums[name] += seen[name] - start[name]
            true[name] += trained[name] - start[name]
    for name, total in sums.items():
        torch.testing.assert_close(total + memory.tensors[name], true[name], rtol=0, atol=1e-10)


def test_without_feedback_nothing_is_kept() -> None:
    sent, memory = TopK(0.1, error_feedback=False).upload(
        CLIENT, Payload(drawn(1)), Payload(drawn(0)), Payload()
    )
    assert sent
    assert not memory


def test_what_was_kept_before_is_forgotten_without_feedback() -> None:
    """As where a run goes on with other settings."""
    attachment, (trained, start) = TopK(0.1, error_feedback=False), map(Payload, map(drawn, (1, 0)))
    owed = Payload({name: 100 * tensor for name, tensor in drawn(2).items()})
    found, memory = attachment.upload(CLIENT, trained, start, owed)
    assert found == attachment.upload(CLIENT, trained, start, Payload())[0]
    assert not memory


def test_everything_is_the_upload_itself() -> None:
    start, trained = Payload(drawn(0)), Payload(drawn(1))
    sent, memory = TopK(1.0).upload(CLIENT, trained, start, Payload())
    seen = TopK(1.0).received(CLIENT, sent, start)
    for name, tensor in trained.tensors.items():
        torch.testing.assert_close(seen.tensors[name], tensor, rtol=0, atol=1e-12)
        assert not memory.tensors[name].any()


@pytest.mark.parametrize(
    ("size", "dtype", "index"),
    [
        (32768, torch.float32, torch.int16),
        (32769, torch.float32, torch.int32),
        (100, torch.bfloat16, torch.int16),
    ],
)
def test_bytes_are_k_values_and_k_positions(
    size: int, dtype: torch.dtype, index: torch.dtype
) -> None:
    trained = Payload({"w": torch.linspace(1, 2, size).to(dtype)})
    start = Payload({"w": torch.zeros(size, dtype=dtype)})
    sent, memory = TopK(0.1).upload(CLIENT, trained, start, Payload())
    assert sent.tensors["w/indices"].dtype == index
    assert sent.tensors["w/values"].dtype == dtype
    assert sent.nbytes == math.ceil(size / 10) * (index.itemsize + dtype.itemsize)
    assert memory.tensors["w"].dtype == torch.float32
    assert TopK(0.1).received(CLIENT, sent, start).tensors["w"].dtype == dtype


def test_what_is_no_floating_tensor_of_the_main_part_passes() -> None:
    part = Payload({"probs": torch.rand(3, 2)})
    upload = Payload({"n": torch.tensor([3]), "w": torch.ones(10)}, {"said": ["yes"]}, {"p": part})
    start = Payload({"w": torch.zeros(10)})
    sent, _ = TopK(0.1).upload(CLIENT, upload, start, Payload())
    assert sent.tensors.keys() == {"n", "w/indices", "w/values"}
    assert (sent.strings, sent.parts) == (upload.strings, upload.parts)
    seen = TopK(0.1).received(CLIENT, sent, start)
    assert seen.tensors["n"].item() == 3
    assert (seen.strings, seen.parts) == (upload.strings, upload.parts)


def test_the_memory_of_what_is_not_sent_in_a_round_waits() -> None:
    start = Payload({"a": torch.zeros(10), "b": torch.zeros(10)})
    _, first = TopK(0.1).upload(
        CLIENT, Payload({"a": torch.arange(10.0)}), start, Payload({"b": torch.ones(10)})
    )
    assert first.tensors["b"].sum() == 10
    assert first.tensors["a"].sum() == 45 - 9


def test_of_equal_changes_the_first_are_sent() -> None:
    """Also of those that rounding makes different, as the biases of two classes are."""
    start = Payload({"w": torch.zeros(5, dtype=torch.float64)})
    trained = Payload({"w": torch.tensor([0.1, -1.0, 1.0 + 1e-15, 3.0, -1.0]).double()})
    sent, _ = TopK(0.5).upload(CLIENT, trained, start, Payload())
    assert sent.tensors["w/indices"].tolist() == [1, 2, 3]
    sent, _ = TopK(0.4).upload(CLIENT, trained, start, Payload())
    assert sent.tensors["w/indices"].tolist() == [1, 3]


def test_an_empty_tensor_sends_nothing() -> None:
    start = Payload({"w": torch.zeros(0, 4)})
    sent, memory = TopK(0.5).upload(CLIENT, start, start, Payload())
    assert sent.nbytes == 0
    assert TopK(0.5).received(CLIENT, sent, start) == start
    assert memory.tensors["w"].shape == (0, 4)


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1, math.nan])
def test_the_share_is_a_share(fraction: float) -> None:
    with pytest.raises(ValueError, match=r"TopK.fraction is expected to be above 0 and at most 1"):
        TopK(fraction)


def test_what_has_no_change_is_refused() -> None:
    with pytest.raises(ValueError, match=r"of 'w' it has downloaded nothing of this shape"):
        TopK().upload(CLIENT, Payload({"w": torch.ones(2)}), Payload(), Payload())
    with pytest.raises(ValueError, match=r"of 'w' it has downloaded nothing of this shape"):
        TopK().upload(
            CLIENT, Payload({"w": torch.ones(2)}), Payload({"w": torch.ones(3)}), Payload()
        )
    with pytest.raises(ValueError, match=r"memory of TopK tensor 'w' .* shape \[2\]"):
        TopK().upload(
            CLIENT,
            Payload({"w": torch.ones(2)}),
            Payload({"w": torch.ones(2)}),
            Payload({"w": torch.ones(3)}),
        )


GOOD = {
    "w/indices": torch.tensor([1, 3], dtype=torch.int16),
    "w/values": torch.tensor([1.0, 2.0]),
}
MALFORMED = {
    "beyond the end": ({"w/indices": torch.tensor([1, 20], dtype=torch.int16)}, "from 1 to 20"),
    "negative": ({"w/indices": torch.tensor([-1, 3], dtype=torch.int16)}, "from -1 to 3"),
    "twice": ({"w/indices": torch.tensor([3, 3], dtype=torch.int16)}, "rising order"),
    "falling": ({"w/indices": torch.tensor([3, 1], dtype=torch.int16)}, "rising order"),
    "wide": ({"w/indices": torch.tensor([1, 3])}, "2 positions in torch.int16"),
    "floating": ({"w/indices": torch.tensor([1.0, 3.0])}, "2 positions in torch.int16"),
    "too many": (
        {
            "w/indices": torch.tensor([1, 3, 4], dtype=torch.int16),
            "w/values": torch.tensor([1.0, 2.0, 3.0]),
        },
        "2 positions",
    ),
    "few values": ({"w/values": torch.tensor([1.0])}, "2 values"),
    "integers": ({"w/values": torch.tensor([1, 2])}, "2 values in floating point"),
    "a matrix": ({"w/values": torch.tensor([[1.0, 2.0]])}, "2 values"),
    "both": ({"w": torch.zeros(20)}, "either whole or compressed"),
    "of nothing": ({"x/indices": torch.tensor([1]), "x/values": torch.ones(1)}, "of 'x'"),
    "alone": ({"x/indices": torch.tensor([1])}, "'x/values', but it is missing"),
}


@pytest.mark.parametrize("way", MALFORMED)
def test_what_was_sent_is_not_trusted(way: str) -> None:
    start = Payload({"w": torch.zeros(20)})
    assert TopK(0.1).received(CLIENT, Payload(GOOD), start).tensors["w"].sum() == 3
    change, said = MALFORMED[way]
    with pytest.raises(ValueError, match=said):
        TopK(0.1).received(CLIENT, Payload({**GOOD, **change}), start)
