from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lit_fed import Payload
from lit_fed.aggregation import WeightedAverage
from lit_fed.payload import DTYPES
from lit_fed.specification import Specification, TensorSpecification
from lit_fed.update import Update

HONEST = {"w": torch.ones(2, 3), "b": torch.zeros(3).half(), "s": torch.tensor(1.0)}
EXPECTED = Specification.of(HONEST)


def refused(expected: Specification, payload: Payload, said: str, **given: bool) -> None:
    with pytest.raises(ValueError, match=said):
        expected.check(payload, "the upload", **given)


def test_what_was_expected_passes() -> None:
    EXPECTED.check(Payload(HONEST), "the upload")
    Specification().check(Payload(), "the upload")


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"x": torch.ones(1)}, "hold 3 tensors, but holds 4: 'x' too many"),
        ({"w": torch.ones(3, 2)}, r"'w' of shape \[2, 3\], but holds \[3, 2\]"),
        ({"w": torch.ones(2, 3, 1)}, r"'w' of shape \[2, 3\], but holds \[2, 3, 1\]"),
        ({"w": torch.tensor(1.0)}, r"'w' of shape \[2, 3\], but holds \[\]"),
        ({"s": torch.ones(1)}, r"'s' of shape \[\], but holds \[1\]"),
        ({"w": torch.ones(2, 3).double()}, "'w' in float32, but holds float64"),
        ({"w": torch.ones(2, 3).int()}, "'w' in float32, but holds int32"),
    ],
)
def test_what_differs_is_named(tensors: dict[str, Tensor], said: str) -> None:
    refused(EXPECTED, Payload(HONEST | tensors), f"the upload is expected to .*{said}")


def test_what_is_missing_is_named() -> None:
    refused(
        EXPECTED,
        Payload({"w": HONEST["w"], "y": torch.ones(1)}),
        "'b', 's' missing and 'y' too many",
    )


def test_a_floating_tensor_may_be_converted_on_the_way_but_no_other() -> None:
    smaller = Payload(HONEST | {"w": HONEST["w"].bfloat16()})
    EXPECTED.check(smaller, "the upload", converted=True)
    refused(EXPECTED, smaller, "in float32, but holds bfloat16")
    refused(
        EXPECTED, Payload(HONEST | {"w": torch.ones(2, 3).int()}), "holds int32", converted=True
    )


def test_texts_and_parts_are_expected_as_well() -> None:
    inside = Specification({"probs": TensorSpecification((2,), torch.float16, least=0, most=1)})
    expected = Specification(strings={"said": 2, "more": None}).with_parts(
        {"p": inside, "any": None}
    )
    probs = Payload({"probs": torch.tensor([0.5, 1.0]).half()})
    texts = {"said": ["a", "b"], "more": []}
    expected.check(Payload(strings=texts, parts={"p": probs}), "it")
    expected.check(Payload(strings=texts, parts={"p": probs, "any": probs}), "it")
    refused(expected, Payload(strings=texts), "hold 1 parts, but holds 0: 'p' missing")
    refused(expected, Payload(strings=texts, parts={"p": probs, "q": probs}), "'q' too many")
    few = Payload(strings={**texts, "said": ["a"]}, parts={"p": probs})
    refused(expected, few, "2 texts in 'said', but holds 1")
    for value, said in ((1.5, "at most 1, but holds 1.5"), (-0.5, "at least 0, but holds -0.5")):
        wrong = Payload({"probs": torch.tensor([0.5, value]).half()})
        refused(expected, Payload(strings=texts, parts={"p": wrong}), f"the part 'p' of .* {said}")
    # a part that is to be empty is none
    assert Specification().with_parts({"p": Specification()}) == Specification()


def test_a_named_size_is_the_same_everywhere() -> None:
    places = ("places", 2)
    expected = Specification(
        {n: TensorSpecification(places, torch.float32) for n in ("ids", "probs")}
    )
    expected.check(Payload({"ids": torch.ones(7, 2), "probs": torch.ones(7, 2)}), "it")
    expected.check(Payload({"ids": torch.ones(0, 2), "probs": torch.ones(0, 2)}), "it")
    refused(
        expected,
        Payload({"ids": torch.ones(7, 2), "probs": torch.ones(6, 2)}),
        r"of shape \[7, 2\]",
    )


DTYPE = st.sampled_from(sorted(DTYPES, key=str))
SHAPE = st.lists(st.integers(0, 3), max_size=3)
ODD = st.builds(lambda shape, dtype: torch.ones(shape).to(dtype), SHAPE, DTYPE)


@st.composite
def uploads(draw: st.DrawFn) -> Payload:
    """What is expected, after some changes."""
    tensors: dict[str, Any] = dict(HONEST)
    for name in draw(st.lists(st.sampled_from(["w", "b", "s", "x"]), max_size=3)):
        if draw(st.booleans()):
            tensors[name] = draw(ODD)
        else:
            tensors.pop(name, None)
    strings = draw(st.dictionaries(st.sampled_from(["said"]), st.lists(st.text(max_size=2))))
    part = {"p": Payload({"x": torch.ones(1)})} if draw(st.integers(0, 5)) == 0 else {}
    try:
        return Payload(tensors, strings, part)
    except ValueError:  # lone surrogates
        return Payload(tensors)


@settings(max_examples=300, deadline=None)
@given(uploads())
def test_what_passes_is_averaged_and_nothing_else_passes(upload: Payload) -> None:
    same = (
        not upload.strings
        and not upload.parts
        and upload.tensors.keys() == HONEST.keys()
        and all(
            t.dtype == HONEST[n].dtype and t.shape == HONEST[n].shape
            for n, t in upload.tensors.items()
        )
    )
    if not same:
        refused(EXPECTED, upload, "is expected to")
        return
    EXPECTED.check(upload, "the upload")
    sent = [Update("a", Payload(HONEST), 3), Update("b", upload, 1)]
    EXPECTED.check(WeightedAverage()(sent, Payload(HONEST)), "the broadcast")
