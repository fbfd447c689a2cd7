"""The part of a broadcast that says what is folded into the frozen base: the sum of all rounds' changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor

from lit_fed.backbones.folding import WeightChange
from lit_fed.payload import Payload

_P: Final = ".P"
_Q: Final = ".Q"
_DENSE: Final = ".dense"


def changes_in(part: Payload) -> dict[str, WeightChange]:
    """The changes of weights that a part holds, by the layer.

    Args:
        part: What :func:`part_of` gave, or an empty payload.

    Raises:
        ValueError: If it is something else.
    """
    changes = {}
    for name, tensor in part.tensors.items():
        layer, dot, kind = name.rpartition(".")
        match dot + kind:
            case ".dense":
                changes[layer] = WeightChange(tensor)
            case ".P" if layer + _Q in part.tensors:
                changes[layer] = WeightChange(tensor, part.tensors[layer + _Q])
            case ".Q" if layer + _P in part.tensors:
                pass
            case _:
                raise ValueError(
                    f"a change of the base is expected to be `<layer>.P` and `<layer>.Q`, or `<layer>.dense`, but "
                    f"holds {name!r}"
                )
    return changes


def part_of(changes: Mapping[str, WeightChange]) -> Payload:
    """The part of a broadcast that holds these changes.

    Args:
        changes: By the layer.

    Example:
        >>> part_of({"query": WeightChange(torch.ones(2, 1), torch.ones(1, 2))})
        Payload(16 bytes in 2 entries: query.P, query.Q)
    """
    tensors: dict[str, Tensor] = {}
    for layer, change in changes.items():
        if change.q is None:
            tensors[layer + _DENSE] = change.p
        else:
            tensors |= {layer + _P: change.p, layer + _Q: change.q}
    return Payload(tensors)


def grown(
    before: WeightChange | None, terms: Sequence[tuple[Tensor, Tensor]], dtype: torch.dtype
) -> WeightChange | None:
    """A change plus Σ L·R, as factors beside each other while these are smaller than the matrix, else as the matrix.

    It is exact in both forms but for one rounding. Beside the result there is one matrix in float64 at most.

    Args:
        before: The change so far; None: 0.
        terms: L [out, r] and R [r, in] of each, in float64.
        dtype: Of the result, at least float32.

    Returns:
        None where there is neither.

    Example:
        >>> term = torch.ones(3, 1).double(), torch.ones(1, 3).double()
        >>> once = grown(None, [term], torch.float32)
        >>> once.p.shape, grown(once, [term], torch.float32).q
        (torch.Size([3, 1]), None)
    """
    if not terms:
        return before
    out, width = terms[0][0].shape[0], terms[0][1].shape[1]
    lefts, rights = [left for left, _ in terms], [right for _, right in terms]
    factored = before is None or before.q is not None
    if before is not None and before.q is not None:
        lefts, rights = [before.p.double(), *lefts], [before.q.double(), *rights]
    if factored and sum(left.shape[1] for left in lefts) * (out + width) < out * width:
        return WeightChange(torch.cat(lefts, 1).to(dtype), torch.cat(rights).to(dtype))
    total = torch.zeros(out, width, dtype=torch.float64)
    if before is not None and before.q is None:
        total += before.p
    for left, right in zip(lefts, rights, strict=True):
        total.addmm_(left, right)
    return WeightChange(total.to(dtype))
