"""What a payload is expected to hold: names, shapes, dtypes and bounds of its tensors, its texts and its parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from lit_fed.payload import Payload


@dataclass(frozen=True)
class TensorSpecification:
    """What is expected of a tensor.

    Attributes:
        shape: Sizes of its dimensions. A name stands for a size that is not known before, and that is the same
            wherever the name stands in a payload.
        dtype: Its dtype.
        least: The smallest value that it may have; None: any.
        most: The largest value that it may have; None: any.
    """

    shape: tuple[int | str, ...]
    dtype: torch.dtype
    least: float | None = None
    most: float | None = None


@dataclass(frozen=True)
class Specification:
    """What a payload is expected to hold, no more and no less, as a method's server knows it before it comes.

    Attributes:
        tensors: Its tensors.
        strings: Its lists of texts, each with the number of texts; None: any number.
        parts: Its parts. None: there may be such a part, and nothing is said about it.

    Example:
        >>> expected = Specification.of({"w": torch.zeros(2, 3)})
        >>> expected.check(Payload({"w": torch.ones(2, 3)}), "the upload")
        >>> expected.check(Payload({"w": torch.ones(2, 3).half()}), "the upload")
        Traceback (most recent call last):
        ...
        ValueError: the upload is expected to hold 'w' in float32, but holds float16
    """

    tensors: Mapping[str, TensorSpecification] = field(default_factory=dict)
    strings: Mapping[str, int | None] = field(default_factory=dict)
    parts: Mapping[str, Specification | None] = field(default_factory=dict)

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Specification:
        """Tensors of the names, shapes and dtypes of ``tensors``."""
        return cls({n: TensorSpecification(tuple(t.shape), t.dtype) for n, t in tensors.items()})

    def with_parts(self, parts: Mapping[str, Specification | None]) -> Specification:
        """The same with these parts; one that is to hold nothing is none."""
        added = {n: one for n, one in parts.items() if one is None or one != Specification()}
        return replace(self, parts={**self.parts, **added})

    def check(self, payload: Payload, what: str, converted: bool = False) -> None:
        """Compare a payload with what is expected.

        Args:
            payload: The payload.
            what: How an error calls it.
            converted: Whether floating tensors may have another floating dtype, as where something on the way
                has made them smaller.

        Raises:
            ValueError: If it holds more, less, or something else, by name.
        """
        _check_names(what, "tensors", payload.tensors, self.tensors)
        sizes: dict[str, int] = {}
        for name, expected in self.tensors.items():
            _check_tensor(what, name, payload.tensors[name], expected, sizes, converted)
        _check_names(what, "lists of texts", payload.strings, self.strings)
        for name, count in self.strings.items():
            if count is not None and len(payload.strings[name]) != count:
                raise ValueError(
                    f"{what} is expected to hold {count} texts in {name!r}, but holds {len(payload.strings[name])}"
                )
        known = {name: one for name, one in self.parts.items() if one is not None}
        parts = {n: p for n, p in payload.parts.items() if n in known or n not in self.parts}
        _check_names(what, "parts", parts, known)
        for name, inside in known.items():
            inside.check(payload.parts[name], f"the part {name!r} of {what}", converted)


def _check_names(
    what: str, kind: str, held: Mapping[str, object], expected: Mapping[str, object]
) -> None:
    if held.keys() == expected.keys():
        return
    missing = [name for name in expected if name not in held]
    extra = [name for name in held if name not in expected]
    said = [
        f"{_some(names)} {word}"
        for names, word in ((missing, "missing"), (extra, "too many"))
        if names
    ]
    raise ValueError(
        f"{what} is expected to hold {len(expected)} {kind}, but holds {len(held)}: {' and '.join(said)}"
    )


def _check_tensor(
    what: str,
    name: str,
    tensor: Tensor,
    expected: TensorSpecification,
    sizes: dict[str, int],
    converted: bool,
) -> None:
    shape = [sizes.get(size, size) if isinstance(size, str) else size for size in expected.shape]
    fits = len(shape) == tensor.dim() and all(
        isinstance(size, str) or size == own for size, own in zip(shape, tensor.shape, strict=True)
    )
    if not fits:
        raise ValueError(
            f"{what} is expected to hold {name!r} of shape [{', '.join(map(str, shape))}], but holds "
            f"{list(tensor.shape)}"
        )
    sizes |= {s: own for s, own in zip(shape, tensor.shape, strict=True) if isinstance(s, str)}
    floating = tensor.is_floating_point() and expected.dtype.is_floating_point
    if tensor.dtype != expected.dtype and not (converted and floating):
        raise ValueError(
            f"{what} is expected to hold {name!r} in {_dtype(expected.dtype)}, but holds {_dtype(tensor.dtype)}"
        )
    if not tensor.numel():
        return
    for bound, extreme, word in (
        (expected.least, float(tensor.min()), "at least"),
        (expected.most, float(tensor.max()), "at most"),
    ):
        if bound is not None and (extreme < bound if word == "at least" else extreme > bound):
            raise ValueError(
                f"{what} is expected to hold {name!r} with values {word} {bound:g}, but holds {extreme:g}"
            )


def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _some(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
