"""Payload: the tensors and strings that a client and the server send each other."""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from lit_fed.shards import whole

DTYPES: Final = frozenset(
    {
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
        torch.bool,
    }
)

_ALIGNMENT: Final = 64  # bytes, a cache line
_MAIN: Final = ""  # in a file, the name of the main part among those of the others
_SEPARATOR: Final = "::"  # in a file, between a part's name and those of its tensors
_NO_TEXT: Final = torch.empty(0, dtype=torch.uint8)


class Payload:
    """Named tensors, lists of strings and named parts: the only thing that clients and server exchange.

    What is exchanged beside the weights, such as predictions, is a part of its own, so that it needs no
    names that say what it is not. A part is a payload without parts.

    A payload is immutable: it copies its tensors to the CPU when it is made, so neither side sees
    what the other does with its weights afterwards. It is checked when it is made, on both sides. One
    of sharded tensors is made by all processes together, and each has all of it.

    Args:
        tensors: Named tensors of any shape, of a floating, integer or boolean dtype.
        strings: Named lists of texts, each encodable as UTF-8.
        parts: Named payloads without parts. Those that are empty are left out.

    Raises:
        TypeError: If an entry is no tensor or no list of texts, a part is no payload, a tensor has another
            dtype, or a name is no text.
        ValueError: If a floating tensor holds NaN or infinity, a text or a name is no valid UTF-8, a name
            stands for a tensor and for strings, a tensor's name has ``::`` or is ``__metadata__``, a part's
            has a colon, or a part has parts.

    Example:
        >>> payload = Payload({"weight": torch.ones(2, 3)}, {"answers": ["yes", "是"]})
        >>> payload.nbytes  # 6 float32 and 3 + 3 bytes of UTF-8
        30
        >>> Payload.from_bytes(payload.to_bytes()) == payload
        True
        >>> both = payload.with_parts({"consensus": Payload({"probs": torch.ones(2)})})
        >>> both.nbytes, list(both.parts), both.main == payload
        (38, ['consensus'], True)
    """

    __slots__ = ("_parts", "_strings", "_tensors")

    def __init__(
        self,
        tensors: Mapping[str, Tensor] | None = None,
        strings: Mapping[str, Sequence[str]] | None = None,
        parts: Mapping[str, Payload] | None = None,
    ) -> None:
        for kind, given in (("tensors", tensors), ("strings", strings), ("parts", parts)):
            _check_names(kind, given)
        self._tensors = MappingProxyType(_copied(tensors or {}))
        self._strings = MappingProxyType(
            {k: _checked_strings(k, v) for k, v in (strings or {}).items()}
        )
        if both := self._tensors.keys() & self._strings.keys():
            raise ValueError(
                f"payload names are expected once, but {sorted(both)} name tensors and strings"
            )
        self._parts = _checked_parts(parts or {})

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """The tensors by name, on the CPU; those of the parts are not among them."""
        return self._tensors

    @property
    def strings(self) -> Mapping[str, tuple[str, ...]]:
        """The lists of texts by name; those of the parts are not among them."""
        return self._strings

    @property
    def parts(self) -> Mapping[str, Payload]:
        """The parts by name."""
        return self._parts

    @property
    def main(self) -> Payload:
        """The payload without its parts, in memory shared with it; the same object if it has none."""
        return self._sharing(self.tensors, self.strings, {}) if self.parts else self

    @property
    def nbytes(self) -> int:
        """Bytes of the content, parts included: tensors as stored, texts as UTF-8, without names and framing."""
        tensors = sum(t.numel() * t.element_size() for t in self.tensors.values())
        texts = sum(len(s.encode()) for texts in self.strings.values() for s in texts)
        return tensors + texts + sum(part.nbytes for part in self.parts.values())

    def __bool__(self) -> bool:
        return bool(self.tensors or self.strings or self.parts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Payload):
            return NotImplemented
        ours, theirs = self.tensors, other.tensors
        return (
            self.strings == other.strings
            and self.parts == other.parts
            and ours.keys() == theirs.keys()
            and all(
                t.dtype == theirs[k].dtype and torch.equal(t, theirs[k]) for k, t in ours.items()
            )
        )

    __hash__ = None  # type: ignore[assignment]  # equality by content, and tensors have no content hash

    def __deepcopy__(self, memo: object) -> Payload:
        return self  # it is immutable

    def __repr__(self) -> str:
        inside = [
            f"{p}::{n}" for p, one in self.parts.items() for n in (*one.tensors, *one.strings)
        ]
        names = [*self.tensors, *self.strings, *inside]
        shown = ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
        return f"Payload({self.nbytes:,} bytes in {len(names)} entries: {shown})"

    def matching(self, reference: Mapping[str, Tensor], what: str = "payload") -> dict[str, Tensor]:
        """The tensors named in ``reference``, checked against its shapes; those of parts do not count.

        Args:
            reference: Tensors with the expected names and shapes. The payload may hold more.
            what: How an error calls this payload.

        Returns:
            The payload's tensors under the names of ``reference``, in its order.

        Raises:
            ValueError: If a name is missing or a shape differs.

        Example:
            >>> Payload({"w": torch.ones(2)}).matching({"w": torch.zeros(3)})
            Traceback (most recent call last):
            ...
            ValueError: payload tensor 'w' is expected to have shape [3], but got [2]
        """
        held = self.tensors
        if missing := [name for name in reference if name not in held]:
            raise ValueError(
                f"{what} is expected to hold {len(reference)} tensors, but {_names(missing)} are missing; it holds "
                f"{_names(list(held))}"
            )
        for name, expected in reference.items():
            if held[name].shape != expected.shape:
                raise ValueError(
                    f"{what} tensor {name!r} is expected to have shape {list(expected.shape)}, "
                    f"but got {list(held[name].shape)}"
                )
        return {name: held[name] for name in reference}

    def select(self, names: Iterable[str]) -> Payload:
        """Those tensors and strings that are named, without parts, in memory shared with this payload.

        Args:
            names: Names; those that the payload does not hold are left out.

        Example:
            >>> Payload({"a": torch.ones(2), "b": torch.ones(3)}).select(["a"])
            Payload(8 bytes in 1 entries: a)
        """
        wanted = set(names)
        tensors = {n: t for n, t in self.tensors.items() if n in wanted}
        return self._sharing(tensors, {n: s for n, s in self.strings.items() if n in wanted}, {})

    def with_parts(self, parts: Mapping[str, Payload]) -> Payload:
        """The payload with these parts beside its own, in memory shared with it.

        Args:
            parts: Named payloads without parts. One of a name that is there takes its place.

        Raises:
            TypeError: If a part is no payload.
            ValueError: If a part's name has a colon, or a part has parts.

        Example:
            >>> Payload({"w": torch.ones(2)}).with_parts({"extra": Payload({"w": torch.ones(3)})})
            Payload(20 bytes in 2 entries: w, extra::w)
        """
        return self._sharing(self.tensors, self.strings, {**self.parts, **parts})

    @staticmethod
    def _sharing(
        tensors: Mapping[str, Tensor],
        strings: Mapping[str, tuple[str, ...]],
        parts: Mapping[str, Payload],
    ) -> Payload:
        """A payload of content that another one has checked and copied."""
        one = Payload(parts=parts)
        one._tensors, one._strings = MappingProxyType(tensors), MappingProxyType(strings)
        return one

    def to_bytes(self) -> bytes:
        """The payload in the safetensors format.

        The names of the strings and of the parts travel in its header, which may have no more than 100 MB. Each list of
        texts is two tensors: the texts in UTF-8, one after the other, and how many bytes each of them has. A part's
        tensor is ``<part>::<name>``. Equal payloads are equal bytes.
        """
        tensors = dict(self.tensors)
        for name, part in self.parts.items():
            tensors |= {f"{name}{_SEPARATOR}{key}": tensor for key, tensor in part.tensors.items()}
        numbers: dict[str, dict[str, int]] = {}
        count = 0
        for name, one in {_MAIN: self, **self.parts}.items():
            numbers[name] = {}
            for key, texts in one.strings.items():
                tensors |= zip(_text_tensors(count), _written(texts), strict=True)
                numbers[name][key] = count
                count += 1
        # one text alone, since safetensors writes several in an order that differs each time
        metadata = {"strings": json.dumps(numbers[_MAIN])}
        if self.parts:
            metadata = {"parts": json.dumps(numbers)}
        return safetensors.torch.save(tensors, metadata=metadata)

    @classmethod
    def from_bytes(cls, data: bytes) -> Payload:
        """Read what :meth:`to_bytes` wrote.

        Whatever the bytes hold is in the payload, or they are refused. Those of earlier versions, which have the texts
        themselves in the header, are read as well.

        Raises:
            ValueError: If ``data`` is not a safetensors file of ours, or holds what a payload may not.
        """
        stored, metadata = _safetensors(data)
        inside = _json_object(metadata.pop("parts", "{}"), "parts")
        if none := [name for name, texts in inside.items() if texts is None]:
            raise ValueError(
                f"payload strings are expected by their names, but part {none[0]!r} has null"
            )
        # bytes of before have the main part's strings as a text of their own
        told = _json_object(metadata.pop("strings", "{}"), "strings")
        strings = inside.pop(_MAIN, told)
        if told and strings is not told:
            raise ValueError("payload bytes are expected to name the main part's strings once")
        if metadata:
            raise ValueError(
                f"payload bytes are expected to name strings and parts alone in the header, but it has "
                f"{_names(sorted(metadata))} as well"
            )
        strings = _with_texts(strings, stored)
        inside = {name: _with_texts(texts, stored) for name, texts in inside.items()}
        tensors: dict[str, Tensor] = {}
        held: dict[str, dict[str, Tensor]] = {name: {} for name in inside}
        for key, tensor in stored.items():
            part, separator, name = key.partition(_SEPARATOR)
            if not separator:
                tensors[key] = tensor
            elif part in held:
                held[part][name] = tensor
            else:
                raise ValueError(
                    f"payload bytes are expected to name their parts in the header, but tensor {key!r} "
                    f"is of a part that is not among {sorted(held)}"
                )
        try:
            parts = {name: cls(held[name], inside[name]) for name in inside}
            if empty := [name for name, part in parts.items() if not part]:
                raise ValueError(f"part {empty[0]!r} is empty, which none is that is written")
            return cls(tensors, strings, parts)
        except TypeError as error:
            raise ValueError(f"payload bytes hold what no payload may: {error}") from error

    def in_file(self, path: Path) -> Payload:
        """The same content, with tensors that are read from a file whenever they are used.

        The system may give the memory of what has been read to others at any time, and has it back from the file. The
        file has no name any more when this returns, and its space is free when no tensor is left.

        Args:
            path: Where it is made, on a disk.

        Example:
            >>> import tempfile
            >>> payload = Payload({"w": torch.ones(2)})
            >>> payload.in_file(Path(tempfile.mkdtemp()) / "upload") == payload
            True
        """
        self.save(path)
        try:
            stored = safetensors.torch.load_file(path)
        finally:
            path.unlink()
        parts = {
            part: self._sharing(
                {name: stored[f"{part}{_SEPARATOR}{name}"] for name in one.tensors}, one.strings, {}
            )
            for part, one in self.parts.items()
        }
        return self._sharing({name: stored[name] for name in self.tensors}, self.strings, parts)

    def save(self, path: Path) -> None:
        """Write :meth:`to_bytes` to ``path``."""
        path.write_bytes(self.to_bytes())

    @classmethod
    def load(cls, path: Path) -> Payload:
        """Read a payload from ``path``."""
        return cls.from_bytes(path.read_bytes())


def _safetensors(data: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file and the texts in its header.

    Raises:
        ValueError: If it is none, or is none of ours: those have ``strings`` in the header, if anything.
    """
    try:
        stored = safetensors.torch.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    # torch and safetensors have no error of their own for a dtype, shape or nesting that they do not know
    except (
        SafetensorError,
        ValueError,
        KeyError,
        TypeError,
        RuntimeError,
        OverflowError,
    ) as error:
        raise ValueError(
            f"payload bytes are expected in the safetensors format, but: {error}"
        ) from error
    metadata: dict[str, str] = dict(header.get("__metadata__") or {})
    if "__metadata__" in header and not metadata.keys() & {"strings", "parts"}:
        raise ValueError(
            "payload bytes are expected to name their strings in the header, but it has "
            f"{_names(sorted(metadata))}"
        )
    for name, tensor in stored.items():
        if tensor.dtype == torch.bool and bool((tensor.view(torch.uint8) > 1).any()):
            raise ValueError(
                f"payload tensor {name!r} is expected to be of 0 and 1, since it is boolean, but is not"
            )
    return stored, metadata


def _json_object(text: str, what: str) -> dict[str, Any]:
    try:
        read = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"the {what} of payload bytes are expected in JSON, but: {error}"
        ) from error
    if not isinstance(read, dict):
        raise ValueError(
            f"the {what} of payload bytes are expected to be a JSON object, but got {text!r:.80}"
        )
    return read


def _text_tensors(number: int) -> tuple[str, str]:
    """What the two tensors of a list of texts are called; no tensor of a payload or of its parts has such a name."""
    return f"{_SEPARATOR}{number}", f"{_SEPARATOR}{number}{_SEPARATOR}lengths"


def _written(texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Texts in UTF-8, one after the other, in uint8, and the bytes of each, in int64."""
    encoded = [text.encode() for text in texts]
    lengths = torch.tensor([len(text) for text in encoded], dtype=torch.int64)
    joined = bytearray().join(encoded)
    return torch.frombuffer(joined, dtype=torch.uint8) if joined else _NO_TEXT, lengths


def _with_texts(strings: Any, stored: dict[str, Tensor]) -> Any:
    """What a header says of strings, with the texts that it gives the numbers of; their tensors are taken out.

    Args:
        strings: Lists of texts, or the numbers of such, by name; in a forged header anything.
        stored: The tensors of the file.

    Raises:
        ValueError: If texts are not there, or are no texts.
    """
    if not isinstance(strings, dict):
        return strings
    return {
        name: _read(name, stored, given) if type(given) is int else given
        for name, given in strings.items()
    }


def _read(name: str, stored: dict[str, Tensor], number: int) -> list[str]:
    joined, lengths = (stored.pop(key, None) for key in _text_tensors(number))
    if joined is None or lengths is None:
        raise ValueError(
            f"payload bytes are expected to hold the texts of {name!r} once, as number {number}, but do not"
        )
    sizes = lengths.tolist() if lengths.dtype == torch.int64 and lengths.dim() == 1 else [-1]
    fits = joined.dtype == torch.uint8 and joined.dim() == 1 and sum(sizes) == len(joined)
    if not fits or min(sizes, default=0) < 0:
        raise ValueError(
            f"payload bytes are expected to hold the texts of {name!r} in uint8 and the length of each in int64, but "
            f"have {joined.dtype} {list(joined.shape)} and {lengths.dtype} {list(lengths.shape)} that do not fit"
        )
    data = joined.numpy().tobytes()
    try:
        return [
            data[end - size : end].decode()
            for size, end in zip(sizes, accumulate(sizes), strict=True)
        ]
    except UnicodeDecodeError as error:
        raise ValueError(
            f"payload bytes are expected to hold the texts of {name!r} in UTF-8, but: {error.reason}"
        ) from error


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Checked copies in memory of their own.

    A federation holds a payload for every client. Were their tensors taken from the heap, in turn
    with the optimizers' that come and go, the gaps would cost half as much again; a mapping per
    payload goes back whole.

    In the order of their names: processes that gather shards have to do so in the same order, and that
    of a file is left to chance.
    """
    tensors = dict(sorted(tensors.items()))
    for name, tensor in tensors.items():
        _check_kind(name, tensor)
    sizes = [-(-t.numel() * t.element_size() // _ALIGNMENT) * _ALIGNMENT for t in tensors.values()]
    memory = mmap.mmap(-1, max(sum(sizes), 1))
    offsets = accumulate(sizes, initial=0)
    copies = {}
    for (name, tensor), offset in zip(tensors.items(), offsets, strict=False):
        count = tensor.numel()
        copy = torch.empty(0, dtype=tensor.dtype)
        if count:
            copy = torch.frombuffer(memory, dtype=tensor.dtype, count=count, offset=offset)
        copies[name] = copy.view(tensor.shape).copy_(whole(tensor.detach()))
        _check_finite(name, copies[name])
    return copies


def _checked_parts(parts: Mapping[str, Payload]) -> Mapping[str, Payload]:
    for name, part in parts.items():
        if not isinstance(part, Payload):
            raise TypeError(
                f"payload part {name!r} is expected to be a Payload, but got {type(part).__name__}"
            )
        # One colon at its end would make `<part>::<name>` read in two ways.
        if not name or ":" in name:
            raise ValueError(f"a payload part's name is expected without colons, but got {name!r}")
        if part.parts:
            raise ValueError(
                f"payload part {name!r} is expected to have no parts of its own, but has {sorted(part.parts)}"
            )
    return MappingProxyType({name: part for name, part in parts.items() if part})


def _check_names(kind: str, given: Any) -> None:
    if given is None:
        return
    if not isinstance(given, Mapping):
        raise TypeError(
            f"payload {kind} are expected by their names, but got {type(given).__name__}"
        )
    for name in given:
        if not isinstance(name, str):
            raise TypeError(
                f"names of payload {kind} are expected to be texts, but got {name!r:.80}"
            )
        _require_utf8(name, f"names of payload {kind}")


def _require_utf8(text: str, what: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{what} are expected to be valid UTF-8, but {error}") from error


def _check_kind(name: str, tensor: Tensor) -> None:
    if _SEPARATOR in name or name == "__metadata__":
        raise ValueError(
            f"a payload tensor's name is expected without {_SEPARATOR!r}, which marks those of parts, and other "
            f"than '__metadata__', but got {name!r}"
        )
    if not isinstance(tensor, Tensor):
        raise TypeError(
            f"payload entry {name!r} is expected to be a tensor, but got {type(tensor).__name__}"
        )
    if tensor.dtype not in DTYPES:
        allowed = ", ".join(sorted(str(d).removeprefix("torch.") for d in DTYPES))
        raise TypeError(
            f"payload tensor {name!r} is expected to have a dtype of {allowed}, but got {tensor.dtype}"
        )


def _check_finite(name: str, tensor: Tensor) -> None:
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        count = int((~torch.isfinite(tensor)).sum())
        raise ValueError(
            f"payload tensor {name!r} is expected to be finite, but {count} of its {tensor.numel()} values are not"
        )


def _checked_strings(name: str, strings: Sequence[str]) -> tuple[str, ...]:
    if (
        isinstance(strings, str)
        or not isinstance(strings, Sequence)
        or not all(isinstance(s, str) for s in strings)
    ):
        raise TypeError(
            f"payload entry {name!r} is expected to be a list of texts, but got {strings!r:.80}"
        )
    for text in strings:
        _require_utf8(text, f"payload strings {name!r}")
    return tuple(strings)


def _names(names: list[str]) -> str:
    shown = ", ".join(repr(n) for n in names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown or "nothing"
