import copy
import math

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_fed import Payload
from lit_fed.payload import DTYPES


@pytest.mark.parametrize("dtype", sorted(DTYPES, key=str), ids=str)
def test_every_dtype_survives_the_wire(dtype: torch.dtype) -> None:
    tensor = torch.tensor([[0, 1], [1, 0]]).to(dtype)
    back = Payload.from_bytes(Payload({"x": tensor, "scalar": tensor[0, 1]}).to_bytes())
    assert back.tensors["x"].dtype == dtype
    assert torch.equal(back.tensors["x"], tensor)
    assert back.tensors["scalar"].shape == ()


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=8), st.lists(st.text(max_size=20)), max_size=4))
def test_any_text_survives_and_counts_as_utf8(strings: dict[str, list[str]]) -> None:
    surrogates = any(
        "\ud800" <= c <= "\udfff" for texts in strings.values() for t in texts for c in t
    )
    if surrogates:
        with pytest.raises(ValueError, match="valid UTF-8"):
            Payload(strings=strings)
        return
    payload = Payload(strings=strings)
    assert Payload.from_bytes(payload.to_bytes()) == payload
    assert payload.nbytes == sum(
        len(t.encode("utf-8")) for texts in strings.values() for t in texts
    )


def test_bytes_are_those_of_the_content() -> None:
    payload = Payload(
        {"a": torch.zeros(3, 5, dtype=torch.float16), "b": torch.zeros(7, dtype=torch.int64)},
        {"s": ["是", "no"]},
    )
    assert payload.nbytes == 3 * 5 * 2 + 7 * 8 + 3 + 2
    framing = len(payload.to_bytes()) - (3 * 5 * 2 + 7 * 8)
    assert 0 < framing < 400


def test_the_bytes_are_plain_safetensors() -> None:
    tensor = torch.arange(6.0).view(2, 3).t()  # not contiguous
    read = safetensors.torch.load(Payload({"w": tensor}).to_bytes())
    assert torch.equal(read["w"], tensor)


def test_a_payload_is_a_copy() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    payload = Payload({"w": weight})
    with torch.no_grad():
        weight.fill_(5)
    assert payload.tensors["w"].tolist() == [1, 1]
    assert not payload.tensors["w"].requires_grad
    with pytest.raises(TypeError):
        payload.tensors["w"] = weight  # type: ignore[index]


def test_tied_tensors_are_sent_one_by_one() -> None:
    shared = torch.ones(4)
    assert Payload.from_bytes(Payload({"a": shared, "b": shared}).to_bytes()).tensors.keys() == {
        "a",
        "b",
    }


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_non_finite_values_are_refused_by_name(bad: float) -> None:
    with pytest.raises(
        ValueError, match=r"'lora_A' is expected to be finite, but 1 of its 3 values are not"
    ):
        Payload({"fine": torch.ones(1), "lora_A": torch.tensor([0.0, bad, 1.0])})


def test_a_peer_cannot_smuggle_in_what_is_refused_here() -> None:
    data = safetensors.torch.save({"w": torch.tensor([math.nan])})
    with pytest.raises(ValueError, match="'w' is expected to be finite"):
        Payload.from_bytes(data)
    with pytest.raises(
        ValueError, match=r"'w' is expected to have a dtype of .*, but got torch.float8_e4m3fn"
    ):
        Payload.from_bytes(safetensors.torch.save({"w": torch.zeros(1).to(torch.float8_e4m3fn)}))


def test_wrong_kinds_are_refused_by_name() -> None:
    with pytest.raises(
        TypeError, match=r"'w' is expected to have a dtype of .*, but got torch.complex64"
    ):
        Payload({"w": torch.zeros(1, dtype=torch.complex64)})
    with pytest.raises(TypeError, match="'w' is expected to be a tensor, but got list"):
        Payload({"w": [1.0]})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="'answers' is expected to be a list of texts"):
        Payload(strings={"answers": "yes"})
    with pytest.raises(TypeError, match="'answers' is expected to be a list of texts, but got 3"):
        Payload(strings={"answers": 3})  # type: ignore[dict-item]
    with pytest.raises(
        TypeError, match="payload tensors are expected by their names, but got list"
    ):
        Payload([torch.ones(1)])  # type: ignore[arg-type]
    with pytest.raises(
        TypeError, match="names of payload tensors are expected to be texts, but got 1"
    ):
        Payload({"a": torch.ones(1), 1: torch.ones(1)})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="names of payload strings are expected to be valid UTF-8"):
        Payload(strings={"\ud800": []})
    with pytest.raises(ValueError, match="other than '__metadata__'"):
        Payload({"__metadata__": torch.ones(1)})
    with pytest.raises(ValueError, match=r"\['x'\] name tensors and strings"):
        Payload({"x": torch.ones(1)}, {"x": ["a"]})


def test_matching_names_what_differs() -> None:
    payload = Payload({"a": torch.ones(2, 3), "extra": torch.ones(1)})
    assert payload.matching({"a": torch.zeros(2, 3)}).keys() == {"a"}
    with pytest.raises(
        ValueError, match=r"'a' is expected to have shape \[3, 2\], but got \[2, 3\]"
    ):
        payload.matching({"a": torch.zeros(3, 2)})
    with pytest.raises(
        ValueError, match="the upload is expected to hold 2 tensors, but 'b' are missing"
    ):
        payload.matching({"a": torch.zeros(2, 3), "b": torch.zeros(1)}, "the upload")


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"strings": "[1]"}, "strings of payload bytes are expected to be a JSON object"),
        ({"strings": "[" * 100_000}, "strings of payload bytes are expected in JSON"),
        ({"strings": '{"s": 3.5}'}, "'s' is expected to be a list of texts, but got 3.5"),
        ({"strings": '{"s": true}'}, "'s' is expected to be a list of texts, but got True"),
        ({"strings": '{"s": 3}'}, "to hold the texts of 's' once, as number 3, but do not"),
        ({"strings": '{"s": ["a", 1]}'}, "'s' is expected to be a list of texts"),
        ({"strings": "{}", "parts": '{"p": 1}'}, "payload strings are expected by their names"),
        (
            {"strings": "{}", "parts": "[]"},
            "parts of payload bytes are expected to be a JSON object",
        ),
        ({"strings": "{}", "parts": '{"p": {}}'}, "part 'p' is empty"),
        (
            {"parts": '{"": null}'},
            "payload strings are expected by their names, but part '' has null",
        ),
        (
            {"strimgs": '{"s": ["lost"]}'},
            "to name their strings in the header, but it has 'strimgs'",
        ),
        (
            {"strings": "{}", "more": "1"},
            "strings and parts alone in the header, but it has 'more'",
        ),
    ],
)
def test_forged_headers_are_refused(metadata: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Payload.from_bytes(safetensors.torch.save({"w": torch.ones(1)}, metadata))


def test_a_boolean_is_0_or_1() -> None:
    data = Payload({"yes": torch.tensor([True])}).to_bytes()
    with pytest.raises(ValueError, match="'yes' is expected to be of 0 and 1"):
        Payload.from_bytes(data[:-1] + b"\x03")


@pytest.mark.parametrize("data", [b"", b"not safetensors", b"\x80\x04\x95pickle"])
def test_bytes_of_something_else_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="expected in the safetensors format"):
        Payload.from_bytes(data)


def test_the_empty_payload() -> None:
    empty = Payload()
    assert not empty
    assert empty.nbytes == 0
    assert Payload.from_bytes(empty.to_bytes()) == empty


NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters=":"), min_size=1, max_size=6
)
TENSORS = st.dictionaries(
    NAMES,
    st.lists(st.floats(-9, 9, width=32), max_size=4).map(torch.tensor),
    max_size=3,
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


@st.composite
def contents(draw: st.DrawFn) -> tuple[dict[str, torch.Tensor], dict[str, list[str]]]:
    tensors = draw(TENSORS)
    strings = draw(st.dictionaries(NAMES, st.lists(TEXTS, max_size=3), max_size=2))
    return tensors, {name: texts for name, texts in strings.items() if name not in tensors}


@settings(max_examples=50, deadline=None)
@given(contents(), st.dictionaries(NAMES, contents(), max_size=3))
def test_any_parts_survive_the_wire(
    main: tuple[dict[str, torch.Tensor], dict[str, list[str]]],
    inside: dict[str, tuple[dict[str, torch.Tensor], dict[str, list[str]]]],
) -> None:
    parts = {name: Payload(*content) for name, content in inside.items()}
    payload = Payload(*main, parts)
    back = Payload.from_bytes(payload.to_bytes())
    assert back == payload
    assert back.parts == {name: part for name, part in parts.items() if part}
    assert back.main == Payload(*main) == payload.main
    assert payload.nbytes == payload.main.nbytes + sum(part.nbytes for part in parts.values())
    assert bool(payload) == any([bool(payload.main), *map(bool, parts.values())])
    assert payload.main.with_parts(parts) == payload


def with_consensus() -> Payload:
    part = Payload({"probs": torch.ones(2), "w": torch.zeros(1)}, {"ids": ["a"]})
    return Payload({"w": torch.ones(3)}, {"s": ["é"]}, {"consensus": part})


def test_a_part_is_a_payload_of_its_own() -> None:
    payload = with_consensus()
    assert payload.tensors.keys() == {"w"}
    assert payload.parts["consensus"].tensors.keys() == {"probs", "w"}
    assert payload.nbytes == 12 + 2 + (8 + 4 + 1)
    assert payload.matching({"w": torch.zeros(3)}).keys() == {"w"}
    assert payload.main.tensors["w"].data_ptr() == payload.tensors["w"].data_ptr()
    main = payload.main
    assert main.main is main
    assert not payload.select(["w"]).parts
    assert payload != payload.main
    assert "27 bytes in 5 entries: w, s, consensus::probs, consensus::w, …" in repr(payload)
    other = payload.with_parts({"more": Payload({"x": torch.ones(1)})})
    assert list(other.parts) == ["consensus", "more"]
    assert list(payload.parts) == ["consensus"]
    with pytest.raises(TypeError):
        payload.parts["more"] = Payload()  # type: ignore[index]


def test_parts_are_named_in_the_file() -> None:
    read = safetensors.torch.load(with_consensus().to_bytes())
    texts = {"::0", "::0::lengths", "::1", "::1::lengths"}
    assert read.keys() == {"w", "consensus::probs", "consensus::w"} | texts
    alone = safetensors.torch.save({"w": torch.ones(1), "odd::w": torch.ones(1)})
    with pytest.raises(ValueError, match=r"tensor 'odd::w' is of a part that is not among \[\]"):
        Payload.from_bytes(alone)


def test_a_file_without_texts_is_as_it_was() -> None:
    payload = Payload({"w": torch.ones(2)})
    metadata = {"strings": "{}"}
    assert payload.to_bytes() == safetensors.torch.save(dict(payload.tensors), metadata)
    both = payload.with_parts({"p": Payload({"w": torch.ones(2)})})
    tensors = {"w": torch.ones(2), "p::w": torch.ones(2)}
    metadata = {"parts": '{"": {}, "p": {}}'}
    assert both.to_bytes() == safetensors.torch.save(tensors, metadata)


@pytest.mark.parametrize(
    "texts",
    [pytest.param(["x" * 200] * 600_000, marks=pytest.mark.slow), ["ж" * 100] * 200_000],
    ids=["120 MB of ASCII", "40 MB of Cyrillic"],
)
def test_more_texts_than_a_header_holds(texts: list[str]) -> None:
    """A header of safetensors has at most 100 MB, and JSON writes each letter beyond ASCII as six."""
    payload = Payload(strings={"texts": texts})
    data = payload.to_bytes()
    assert int.from_bytes(data[:8], "little") < 1000
    assert len(data) < payload.nbytes + 8 * len(texts) + 1000
    assert Payload.from_bytes(data) == payload


def of_texts(joined: torch.Tensor, lengths: torch.Tensor, names: str = '{"s": 0}') -> bytes:
    """A file with texts in two tensors."""
    metadata = {"strings": names}
    return safetensors.torch.save({"::0": joined, "::0::lengths": lengths}, metadata)


def test_texts_in_tensors_are_read_whole_or_refused() -> None:
    joined, lengths = torch.tensor([0xC3, 0xA9, 0x61], dtype=torch.uint8), torch.tensor([2, 0, 1])
    said = Payload(strings={"s": ["é", "", "a"]})
    assert Payload.from_bytes(of_texts(joined, lengths)) == said
    assert said.to_bytes() == of_texts(joined, lengths)
    for wrong in ([2, 2], [2, -1, 2], [2**62, 1], [[2, 1]]):
        with pytest.raises(ValueError, match="texts of 's' in uint8 and the length of each"):
            Payload.from_bytes(of_texts(joined, torch.tensor(wrong)))
    for wrong_kind in ((joined.int(), lengths), (joined, lengths.int()), (joined[None], lengths)):
        with pytest.raises(ValueError, match="that do not fit"):
            Payload.from_bytes(of_texts(*wrong_kind))
    with pytest.raises(ValueError, match="texts of 's' in UTF-8, but: unexpected end of data"):
        Payload.from_bytes(of_texts(joined, torch.tensor([1, 2])))
    # each list is there once, so that a short file is no long payload
    with pytest.raises(ValueError, match="texts of 't' once, as number 0, but do not"):
        Payload.from_bytes(of_texts(joined, lengths, '{"s": 0, "t": 0}'))
    with pytest.raises(ValueError, match="of a part that is not among"):
        Payload.from_bytes(of_texts(joined, lengths, "{}"))


def test_an_empty_part_is_none() -> None:
    assert Payload(parts={"consensus": Payload()}) == Payload()
    assert not Payload(parts={"consensus": Payload()})


def test_parts_that_cannot_be_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"expected without '::'.* but got 'a::b'"):
        Payload({"a::b": torch.ones(1)})
    with pytest.raises(ValueError, match="part's name is expected without colons, but got 'a:'"):
        Payload(parts={"a:": Payload()})
    with pytest.raises(ValueError, match="part 'p' is expected to have no parts of its own"):
        Payload(parts={"p": with_consensus()})
    with pytest.raises(TypeError, match="part 'p' is expected to be a Payload, but got dict"):
        Payload(parts={"p": {}})  # type: ignore[dict-item]


def test_a_deep_copy_is_the_same_immutable_payload() -> None:
    payload = with_consensus()
    assert copy.deepcopy({"p": payload})["p"] is payload


def test_equal_payloads_are_equal_bytes() -> None:
    """A run that is resumed leaves the same files; safetensors writes several texts in any order."""
    payload = Payload({"w": torch.ones(2)}, {"s": ["x"]}, {"part": Payload(strings={"t": ["y"]})})
    assert len({payload.to_bytes() for _ in range(32)}) == 1


def test_bytes_of_before_are_read() -> None:
    """Strings and parts were two texts of the header, then one; in both the texts themselves were there."""
    payload = Payload({"w": torch.ones(2)}, {"s": ["x"]}, {"part": Payload(strings={"t": ["y"]})})
    for metadata in (
        {"strings": '{"s": ["x", "\\u0436"]}'},
        {"parts": '{"": {"s": ["x", "\\u0436"]}}'},
    ):
        before = safetensors.torch.save({"w": torch.ones(2)}, metadata)
        assert Payload.from_bytes(before) == Payload({"w": torch.ones(2)}, {"s": ["x", "ж"]})
    metadata = {"parts": '{"": {"s": ["x"]}, "part": {"t": ["y"]}}'}
    assert Payload.from_bytes(safetensors.torch.save({"w": torch.ones(2)}, metadata)) == payload
    metadata = {"strings": '{"s": ["x"]}', "parts": '{"part": {"t": ["y"]}}'}
    before = safetensors.torch.save({"w": torch.ones(2)}, metadata)
    assert Payload.from_bytes(before) == payload == Payload.from_bytes(payload.to_bytes())
    twice = {"strings": '{"s": ["x"]}', "parts": '{"": {"s": ["z"]}, "part": {"t": ["y"]}}'}
    with pytest.raises(ValueError, match="name the main part's strings once"):
        Payload.from_bytes(safetensors.torch.save({"w": torch.ones(2)}, twice))
