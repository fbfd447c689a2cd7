"""Eight bits and half precision, compared with NumPy."""

import numpy as np
import pytest
import torch

from lit_fed import Payload
from lit_fed.client import Client
from lit_fed.compression import EightBit, HalfPrecision, Rounding, TopK
from lit_fed.compression.half_precision import HalfType

CLIENT = Client("a", 0, 8, round=0, rounds=0, steps=0)


def through(one: Rounding, upload: Payload, start: Payload) -> Payload:
    return one.received(CLIENT, one.upload(CLIENT, upload, start, Payload())[0], start)


@pytest.mark.parametrize("scale", ["row", "tensor"])
def test_levels_are_those_of_numpy(scale: str) -> None:
    draw = np.random.default_rng(0)
    values = draw.normal(size=(5, 6))
    one = EightBit(scale)
    torch.manual_seed(3)
    levels, scales = (t.numpy() for t in one.rounded(torch.tensor(values)))
    axis = 1 if scale == "row" else None
    of = np.abs(values).max(axis=axis)
    np.testing.assert_array_equal(scales, of)
    exact = values / (of[:, None] if scale == "row" else of) * 127
    assert ((levels == np.floor(exact)) | (levels == np.ceil(exact))).all()
    torch.manual_seed(3)
    u = torch.rand(5, 6, dtype=torch.float64).numpy()
    np.testing.assert_array_equal(levels, np.floor(exact + u))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_stochastic_rounding_is_unbiased(dtype: torch.dtype) -> None:
    """The mean of n draws is off by at most five of its standard deviations, s·√(f(1 − f)/n)/127."""
    torch.manual_seed(0)
    values, one, n = torch.randn(3, 8, dtype=dtype), EightBit(), 20000
    repeated = values.expand(n, 3, 8).reshape(n * 3, 8)
    seen = one.restored("x", *one.rounded(repeated)).view(n, 3, 8).double()
    scale = values.double().abs().amax(1, keepdim=True)
    exact = values.double() / scale * 127
    rest = exact - exact.floor()
    deviation = scale / 127 * (rest * (1 - rest) / n).sqrt()
    assert ((seen.mean(0) - values).abs() <= 5 * deviation + 1e-6 * scale).all()
    variance = seen.var(0, unbiased=False)
    assert (variance <= (scale / 127) ** 2 / 4 * 1.1).all()
    assert ((seen - values).abs() < scale / 127 * (1 + 1e-6)).all()
    nearest = (exact.round() / 127 * scale - values).abs()
    assert nearest.max() > 20 * deviation.max()  # as rounding to the nearest would be off


def test_of_what_was_downloaded_the_change_is_rounded() -> None:
    start = Payload({"w": torch.full((4, 100), 5.0)})
    trained = Payload({"w": start.tensors["w"] + 1e-3 * torch.randn(4, 100)})
    for one in (EightBit(), HalfPrecision("float16"), HalfPrecision("bfloat16")):
        seen = through(one, trained, start).tensors["w"]
        assert (seen - trained.tensors["w"]).abs().max() < 5e-5
        other = through(one, trained, Payload()).tensors["w"]  # rounded itself
        assert (other.float() - trained.tensors["w"]).abs().max() > 1e-4


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_numpys(dtype: str) -> None:
    draw = np.random.default_rng(0)
    before, after = draw.normal(size=(3, 50)), draw.normal(size=(3, 50))
    start, trained = Payload({"w": torch.tensor(before)}), Payload({"w": torch.tensor(after)})
    sent, _ = HalfPrecision(dtype).upload(CLIENT, trained, start, Payload())
    assert sent.nbytes == 300
    seen = HalfPrecision(dtype).received(CLIENT, sent, start).tensors["w"]
    change = after - before
    if dtype == "float16":
        half = change.astype(np.float16).astype(np.float64)
    else:  # to 8 significant bits
        mantissa, exponent = np.frexp(change)
        half = np.ldexp(np.round(mantissa * 256) / 256, exponent)
    np.testing.assert_allclose(seen.numpy(), before + half, atol=1e-10)
    assert (
        np.abs(half - change) <= 2.0 ** (-11 if dtype == "float16" else -8) * np.abs(change)
    ).all()


@pytest.mark.parametrize(("dtype", "bits"), [("bfloat16", 8), ("float16", 11)])
def test_the_bound_of_half_precision_is_nearly_reached(dtype: HalfType, bits: int) -> None:
    start, worst = Payload({"w": torch.zeros(1)}), 1 + 2.0**-bits
    sent, _ = HalfPrecision(dtype).upload(
        CLIENT, Payload({"w": torch.tensor([worst])}), start, Payload()
    )
    off = abs(float(HalfPrecision(dtype).received(CLIENT, sent, start).tensors["w"]) - worst)
    assert 0.99 * 2.0**-bits < off / worst <= 2.0**-bits


def test_bytes_are_a_quarter_and_scales() -> None:
    start = Payload({"w": torch.zeros(6, 10), "b": torch.zeros(6)})
    trained = Payload({"w": torch.randn(6, 10), "b": torch.randn(6)})
    assert EightBit("row").upload(CLIENT, trained, start, Payload())[0].nbytes == 66 + 4 * 7
    assert EightBit("tensor").upload(CLIENT, trained, start, Payload())[0].nbytes == 66 + 4 * 2
    assert HalfPrecision().upload(CLIENT, trained, start, Payload())[0].nbytes == 132
    # of the factors of a LoRA of rank 8 one has short rows
    factors = Payload({"A": torch.zeros(8, 128), "B": torch.zeros(128, 8)})
    trained = Payload({name: torch.randn(t.shape) for name, t in factors.tensors.items()})
    sent = EightBit("row").upload(CLIENT, trained, factors, Payload())[0]
    assert sent.nbytes == 2 * 1024 + 4 * (8 + 128)
    assert sent.nbytes / trained.nbytes == pytest.approx(0.316, abs=0.001)


@pytest.mark.parametrize("one", [EightBit("row"), EightBit("tensor"), HalfPrecision("float16")])
def test_no_change_empty_tensors_and_scalars_come_back(one: Rounding) -> None:
    torch.manual_seed(0)
    tensors = {
        "same": torch.randn(3, 4),
        "empty": torch.zeros(0, 4),
        "narrow": torch.zeros(4, 0),
        "scalar": torch.tensor(2.0),
        "n": torch.tensor([3]),
        "double": torch.randn(3, dtype=torch.float64),
    }
    start = Payload(tensors)
    seen = through(one, start, start)
    assert seen == start
    assert through(one, Payload(tensors), Payload()).tensors["scalar"].item() == 2.0


@pytest.mark.parametrize("one", [EightBit(), HalfPrecision()])
def test_parts_are_rounded_where_they_are_chosen(one: Rounding) -> None:
    part = Payload({"probs": torch.rand(5, 3)}, {"said": ["yes"]})
    upload = Payload({"w": torch.randn(4)}).with_parts({"consensus": part, "other": part})
    start = Payload({"w": torch.zeros(4)}).with_parts({"consensus": part})
    sent, _ = one.upload(CLIENT, upload, start, Payload())
    assert sent.parts == upload.parts
    chosen = type(one)(parts=["consensus"])
    sent, _ = chosen.upload(CLIENT, upload, start, Payload())
    assert sent.parts["other"] == part
    assert sent.parts["consensus"].nbytes < part.nbytes
    seen = chosen.received(CLIENT, sent, start).parts["consensus"]
    assert seen.strings == part.strings
    probs = seen.tensors["probs"]
    assert probs.dtype == torch.float32  # what the server makes of it is not kept in 16 bits
    assert 0 < (probs - part.tensors["probs"]).abs().max() < 0.01
    assert 0 <= probs.min() <= probs.max() <= 1
    with pytest.raises(ValueError, match=r"parts is expected to name parts .*'other'.* 'nobody'"):
        type(one)(parts=["nobody"]).upload(CLIENT, upload, start, Payload())


def test_one_after_the_other() -> None:
    torch.manual_seed(0)
    start, trained = Payload({"w": torch.randn(50)}), Payload({"w": torch.randn(50)})
    first, second = TopK(0.2), EightBit()
    one, memory = first.upload(CLIENT, trained, start, Payload())
    sent, _ = second.upload(CLIENT, one, start, Payload())
    assert sent.tensors.keys() == {"w/indices", "w/values/levels", "w/values/scale"}
    assert sent.nbytes == 10 * 2 + 10 + 4
    seen = first.received(CLIENT, second.received(CLIENT, sent, start), start).tensors["w"]
    exact = first.received(CLIENT, one, start).tensors["w"]
    assert (
        0
        < (seen - exact).abs().max()
        < (trained.tensors["w"] - start.tensors["w"]).abs().max() / 127
    )
    assert (memory.tensors["w"].abs() > 1e-6).sum() == 40
    with pytest.raises(ValueError, match=r"'w/scale'.*expected before other compressions"):
        first.upload(CLIENT, second.upload(CLIENT, trained, start, Payload())[0], start, Payload())
    with pytest.raises(ValueError, match=r"EightBit expects .* 'w/levels'.* twice"):
        second.upload(CLIENT, second.upload(CLIENT, trained, start, Payload())[0], start, Payload())


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match=r"EightBit.scale is expected to be row or tensor"):
        EightBit("column")
    with pytest.raises(ValueError, match=r"HalfPrecision.dtype is expected .* but got 'float8'"):
        HalfPrecision("float8")
    with pytest.raises(ValueError, match=r"w/half' is expected to be finite"):
        HalfPrecision("float16").upload(
            CLIENT, Payload({"w": torch.tensor([1e6])}), Payload(), Payload()
        )


LEVELS = torch.tensor([[1, 2], [3, 4]], dtype=torch.int8)
MALFORMED = {
    "unsigned": ((LEVELS.byte(), torch.ones(2)), "in int8, but came in torch.uint8"),
    "floating": ((LEVELS.float(), torch.ones(2)), "in int8, but came in torch.float32"),
    "the last one": ((-128 * torch.ones_like(LEVELS), torch.ones(2)), "with -128"),
    "negative": ((LEVELS, torch.tensor([1.0, -1.0])), "at least -1"),
    "integers": ((LEVELS, torch.ones(2, dtype=torch.int64)), "in torch.int64"),
    "one": ((LEVELS, torch.ones(())), r"of shape \[2\], but came with some of shape \[\]"),
    "many": ((LEVELS, torch.ones(3)), r"of shape \[2\], but came with some of shape \[3\]"),
}


@pytest.mark.parametrize("way", MALFORMED)
def test_what_was_sent_is_not_trusted(way: str) -> None:
    (levels, scale), said = MALFORMED[way]
    with pytest.raises(ValueError, match=said):
        EightBit().received(CLIENT, Payload({"w/levels": levels, "w/scale": scale}), Payload())


def test_too_large_a_scale_and_integers_are_refused() -> None:
    sent = Payload({"w/levels": LEVELS, "w/scale": torch.full((2,), 3e38)})
    start = Payload({"w": torch.full((2, 2), 3.4e38)})
    with pytest.raises(ValueError, match="'w' is expected to be finite"):
        EightBit("row").received(
            CLIENT, Payload({**sent.tensors, "w/levels": 127 * torch.ones_like(LEVELS)}), start
        )
    with pytest.raises(ValueError, match=r"in bfloat16, but came in torch\.int8"):
        HalfPrecision().received(CLIENT, Payload({"w/half": LEVELS}), Payload())
