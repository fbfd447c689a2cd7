"""Eight bits per value, rounded at random to one of the two nearest levels, so that the mean is right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final, Literal

import torch
from torch import Tensor

from lit_fed.compression.rounding import Rounding

LEVELS: Final = 127
"""Levels above 0, and as many below."""

ScaleOf = Literal["row", "tensor"]


class EightBit(Rounding):
    r"""Sends changes as integers of 8 bits and scales: a quarter of the bytes of float32, and 4 bytes a scale.

    .. math::
        s = \max_i |x_i|, \qquad q_i = \lfloor 127\, x_i / s + u_i \rfloor, \quad u_i \sim U[0, 1), \qquad
        \hat x_i = s\, q_i / 127

    Stochastic rounding after Alistarh et al., "QSGD: Communication-Efficient SGD via Gradient Quantization and
    Encoding", 2017, §3.1, https://arxiv.org/abs/1610.02132, with the largest absolute value as the scale (§4) and no
    coding of the levels. It is unbiased, E[x̂] = x, and each value is off by less than s / 127, with a variance of
    at most (s / 127)² / 4. The numbers are drawn from a stream of the client's own round.

    Args:
        scale: Whether each ``row`` (the first dimension) of a matrix has a scale of its own, with 4 bytes more per row,
            or the ``tensor`` has one. Vectors have one. A factor of a LoRA with rows of 8 values takes 12 bytes a row.
        parts: Parts of the upload whose values are rounded as well; see :class:`~lit_fed.compression.Rounding`.
        clients: Ids of the clients that it acts on. None: all.

    Raises:
        ValueError: If ``scale`` is neither.

    Example:
        >>> from lit_fed import Payload
        >>> start, trained = Payload({"w": torch.zeros(3)}), Payload({"w": torch.tensor([127.0, -64.0, 0.5])})
        >>> sent, _ = EightBit().upload(None, trained, start, Payload())
        >>> sent.tensors["w/levels"][:2], sent.nbytes  # 0.5 is sent as 0 or 1
        (tensor([127, -64], dtype=torch.int8), 7)
    """

    endings: ClassVar[tuple[str, ...]] = ("levels", "scale")

    def __init__(
        self,
        scale: ScaleOf = "row",
        parts: Sequence[str] = (),
        clients: Sequence[str] | None = None,
    ) -> None:
        super().__init__(parts, clients)
        if scale not in ("row", "tensor"):
            raise ValueError(
                f"`trainer.attachments` EightBit.scale is expected to be row or tensor, but got {scale!r}"
            )
        self.scale: ScaleOf = scale

    def rounded(self, values: Tensor) -> tuple[Tensor, ...]:
        """The levels q in int8 and s, by torch's global generator."""
        rows = self._rows(values)
        scale = rows.abs().amax(1) if values.numel() else rows.new_zeros(len(rows))
        # of a row of zeros the levels are zeros
        wide, of = rows.double(), torch.where(scale > 0, scale, 1).double()
        exact = wide / of[:, None] * LEVELS
        # with probability 0 beyond the last level, but for the rounding of a division
        levels = torch.floor(exact + torch.rand_like(exact)).clamp_(-LEVELS, LEVELS)
        return levels.to(torch.int8).view(values.shape), scale.reshape(self._scale_shape(values))

    def restored(self, what: str, *entries: Tensor) -> Tensor:
        """s·q / 127, in the dtype of s.

        Raises:
            ValueError: If q is no int8 between −127 and 127, or s is negative or not one per row.
        """
        levels, scale = entries
        if levels.dtype != torch.int8 or (levels < -LEVELS).any():
            raise ValueError(
                f"{what} is expected to have levels from −{LEVELS} to {LEVELS} in int8, but came in {levels.dtype}"
                + f" with {int(levels.min())}" * (levels.dtype == torch.int8)
            )
        expected = self._scale_shape(levels)
        if scale.shape != expected or not scale.is_floating_point() or (scale < 0).any():
            raise ValueError(
                f"{what} is expected to have scales of at least 0 and of shape {list(expected)}, but came with some "
                f"of shape {list(scale.shape)} in {scale.dtype}"
                + f" and at least {float(scale.min()):g}"
                * (scale.numel() > 0)
            )
        rows = self._rows(levels).double()
        values = rows / LEVELS * scale.double().reshape(-1, 1)
        return values.to(scale.dtype).view(levels.shape)

    def _rows(self, tensor: Tensor) -> Tensor:
        """The values in one row per scale."""
        rows = self._scale_shape(tensor).numel()
        return tensor.reshape(rows, tensor.numel() // max(rows, 1))

    def _scale_shape(self, tensor: Tensor) -> torch.Size:
        return tensor.shape[:1] if self.scale == "row" and tensor.ndim > 1 else torch.Size()
