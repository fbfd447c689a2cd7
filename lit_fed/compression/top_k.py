"""Top-k with error feedback: the largest changes are sent now, and the rest is added to those of the next round."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Final

import torch
from torch import Tensor

from lit_fed.attachment import Attachment
from lit_fed.client import Client
from lit_fed.compression.entries import collected, entry_names, require_free
from lit_fed.payload import Payload

_ENDINGS: Final = ("indices", "values")


class TopK(Attachment):
    r"""Sends the k changes of each tensor that are the largest by absolute value.

    .. math::
        p = e + (\theta_k - \theta_g), \qquad \hat p = \mathrm{top}_k(p), \qquad e \leftarrow p - \hat p

    Stich et al., "Sparsified SGD with Memory", 2018, Algorithm 1, https://arxiv.org/abs/1809.07599; Karimireddy et
    al., "Error Feedback Fixes SignSGD and other Gradient Compression Schemes", 2019, Algorithm 2,
    https://arxiv.org/abs/1901.09847. The server takes θ_g + p̂ for the client's weights. The memory e stays with
    the client and waits for its next round: what was sent in all rounds and e together are all that it has changed.

    Sent are k values in the tensor's dtype and k positions in the smallest integers that hold them, of 16 bits for
    up to 32768 values: of float32 6 k or 8 k bytes. Integers, strings and other parts are sent as they are. What
    another attachment after this one rounds is not in the memory, so that it has to be unbiased, as
    :class:`~lit_fed.compression.EightBit` is.

    The memory is of the tensors that are sent. Where an aggregation rule broadcasts LoRA's factors in another basis in
    each round, as :class:`~lit_fed.aggregation.FlexLoRA` does, it would be added to factors that it is not of: there
    ``error_feedback`` has to be off. Robust rules on :class:`~lit_fed.aggregation.robust.Products` turn the new basis
    back as far as they can, and a warning says so.

    Args:
        fraction: k as a share of a tensor's values, rounded up, in (0, 1].
        error_feedback: Whether e is kept; else it is 0, and small changes may never be sent.
        clients: Ids of the clients that it acts on. None: all.

    Raises:
        ValueError: If ``fraction`` is out of range.

    Example:
        >>> start, trained = Payload({"w": torch.zeros(4)}), Payload({"w": torch.tensor([0.1, -3.0, 0.2, 2.0])})
        >>> sent, memory = TopK(fraction=0.5).upload(None, trained, start, Payload())
        >>> sent.tensors["w/indices"], sent.tensors["w/values"], sent.nbytes
        (tensor([1, 3], dtype=torch.int16), tensor([-3.,  2.]), 12)
        >>> memory.tensors["w"]
        tensor([0.1000, 0.0000, 0.2000, 0.0000])
    """

    acts_on_changes: ClassVar[bool] = True

    def __init__(
        self,
        fraction: float = 0.1,
        error_feedback: bool = True,
        clients: Sequence[str] | None = None,
    ) -> None:
        super().__init__(clients)
        if not 0 < fraction <= 1:
            raise ValueError(
                f"`trainer.attachments` TopK.fraction is expected to be above 0 and at most 1, but got {fraction!r}"
            )
        self.fraction = fraction
        self.error_feedback = error_feedback

    @property
    def remembers_changes(self) -> bool:
        """Whether e is kept."""
        return self.error_feedback

    def upload(
        self, client: Client, upload: Payload, broadcast: Payload, memory: Payload
    ) -> tuple[Payload, Payload]:
        """Client: p̂, and e.

        Raises:
            ValueError: If a tensor is sent of which the client has downloaded none of that shape, so that there is no
                change, or has another shape than in its last round.
        """
        require_free(upload.tensors, _ENDINGS, type(self).__name__)
        sent: dict[str, Tensor] = {}
        # of what other rounds send as well; without feedback none, also where a run has had it before
        kept = dict(memory.tensors) if self.error_feedback else {}
        for name, tensor in upload.tensors.items():
            if not tensor.is_floating_point():
                sent[name] = tensor
                continue
            change = tensor.double() - _before(name, broadcast, tensor.shape).double()
            if name in kept:
                change += memory.matching({name: tensor}, "the memory of TopK")[name].double()
            flat = change.flatten()
            indices = self._largest(flat)
            values = flat[indices].to(tensor.dtype)
            sent |= zip(
                entry_names(name, _ENDINGS), (indices.to(_index_dtype(flat)), values), strict=True
            )
            if self.error_feedback:
                rest = flat.index_add(0, indices, values.double(), alpha=-1)
                wide = torch.promote_types(tensor.dtype, torch.float32)
                kept[name] = rest.view(tensor.shape).to(wide)
        return Payload(sent, upload.strings, upload.parts), Payload(kept)

    def received(self, client: Client, upload: Payload, broadcast: Payload) -> Payload:
        """Server: θ_g + p̂.

        Raises:
            ValueError: If the positions are no k different ones of the tensor in rising order, or the values are not
                one floating-point number each.
        """
        what = f"the upload of client {client.id!r}"
        whole, entries = collected(upload.tensors, _ENDINGS, what)
        for name, (indices, values) in entries.items():
            before = _before(name, broadcast)
            flat = before.double().flatten()
            self._check(f"{name!r} of {what}", flat, indices, values)
            added = flat.index_add(0, indices.long(), values.double())
            whole[name] = added.view(before.shape).to(before.dtype)
        return Payload(whole, upload.strings, upload.parts)

    def _count(self, values: Tensor) -> int:
        """How many values of a tensor are sent, k."""
        exact = self.fraction * values.numel()
        return math.ceil(exact * (1 - 1e-12))  # 0.1 · 30 is a little more than 3

    def _largest(self, flat: Tensor) -> Tensor:
        """Positions of the k largest, in rising order; of equal ones the first."""
        count = self._count(flat)
        if not count:
            return torch.empty(0, dtype=torch.int64)
        # in single precision, so that those are equal that rounding alone makes different
        sizes = flat.abs().float()
        least = torch.topk(sizes, count, sorted=False).values.min()
        larger = (sizes > least).nonzero().flatten()
        equal = (sizes == least).nonzero().flatten()[: count - len(larger)]
        return torch.cat([larger, equal]).sort().values

    def _check(self, what: str, flat: Tensor, indices: Tensor, values: Tensor) -> None:
        count = self._count(flat)
        for entry, dtype in ((indices, _index_dtype(flat)), (values, None)):
            fits = entry.is_floating_point() if dtype is None else entry.dtype == dtype
            if entry.shape != (count,) or not fits:
                raise ValueError(
                    f"{what} is expected to have {count} {'values' if dtype is None else 'positions'} in "
                    f"{dtype or 'floating point'}, but came with {list(entry.shape)} in {entry.dtype}"
                )
        positions = indices.long()
        if count and (
            int(positions[0]) < 0
            or int(positions[-1]) >= flat.numel()
            or (positions.diff() <= 0).any()
        ):
            raise ValueError(
                f"{what} is expected to have different positions from 0 to {flat.numel() - 1} in rising order, but "
                f"came with others, from {int(positions.min())} to {int(positions.max())}"
            )


def _before(name: str, broadcast: Payload, shape: torch.Size | None = None) -> Tensor:
    """θ_g of a tensor, which has to be known to the client and to the server.

    Raises:
        ValueError: If it is not.
    """
    before = broadcast.tensors.get(name)
    if before is None or not before.is_floating_point() or shape not in (None, before.shape):
        raise ValueError(
            f"TopK sends changes of what a client has downloaded, but of {name!r} it has downloaded nothing of this "
            "shape; in `trainer.attachments` it is expected before other compressions"
        )
    return before


def _index_dtype(flat: Tensor) -> torch.dtype:
    """The smallest signed integers that hold all positions."""
    return next(
        dtype
        for dtype in (torch.int16, torch.int32, torch.int64)
        if flat.numel() - 1 <= torch.iinfo(dtype).max
    )
