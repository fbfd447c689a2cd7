"""Half precision: uploads in 16 bits per value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final, Literal

import torch
from torch import Tensor

from lit_fed.compression.rounding import Rounding

HalfType = Literal["bfloat16", "float16"]
_DTYPES: Final[dict[str, torch.dtype]] = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class HalfPrecision(Rounding):
    """Sends changes in 16 bits, rounded to the nearest: half the bytes of float32.

    A change that is rounded is off by at most 2⁻⁸ of itself in bfloat16. In float16 it is at most 2⁻¹¹, but changes
    below 6e-5, as small learning rates make them, lose digits, and below 3e-8 they are sent as 0; above 65504 the
    client is left out.

    Args:
        dtype: ``bfloat16`` or ``float16``.
        parts: Parts of the upload whose values are rounded as well; see :class:`~lit_fed.compression.Rounding`.
        clients: Ids of the clients that it acts on. None: all.

    Raises:
        ValueError: If ``dtype`` is another.

    Example:
        >>> from lit_fed import Payload
        >>> start, trained = Payload({"w": torch.ones(2)}), Payload({"w": torch.tensor([1.5, 1.001])})
        >>> sent, _ = HalfPrecision().upload(None, trained, start, Payload())
        >>> sent.tensors["w/half"].dtype, sent.nbytes, trained.nbytes
        (torch.bfloat16, 4, 8)
    """

    endings: ClassVar[tuple[str, ...]] = ("half",)

    def __init__(
        self,
        dtype: HalfType = "bfloat16",
        parts: Sequence[str] = (),
        clients: Sequence[str] | None = None,
    ) -> None:
        super().__init__(parts, clients)
        if dtype not in _DTYPES:
            raise ValueError(
                f"`trainer.attachments` HalfPrecision.dtype is expected to be bfloat16 or float16, but got {dtype!r}"
            )
        self.dtype: HalfType = dtype

    def rounded(self, values: Tensor) -> tuple[Tensor, ...]:
        """The nearest values of 16 bits."""
        return (values.to(_DTYPES[self.dtype]),)

    def restored(self, what: str, *entries: Tensor) -> Tensor:
        """The values that were sent, in float32, so that nothing that is made of them is of 16 bits.

        Raises:
            ValueError: If they are no floating-point numbers.
        """
        (values,) = entries
        if not values.is_floating_point():
            raise ValueError(f"{what} is expected in {self.dtype}, but came in {values.dtype}")
        return values.to(torch.promote_types(values.dtype, torch.float32))
