"""A metric that is a ratio of two sums over all that it has seen."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lit_fed.metrics.running_sums import RunningSums


class RunningRatio(RunningSums):
    """A ratio of two sums, each a scalar or a vector of them; NaN where the lower one is 0.

    Args:
        settings: All that ``update`` depends on, of plain values. A :class:`torchmetrics.MetricCollection` lets
            metrics share their states whose states have the same names and are equal after the first update, as
            those of two shares are that are both 0 of 8. So the names are made of the class and these settings.
        scale: What the ratio is multiplied by.
        size: Length of the vectors; None: scalars.
        kwargs: Arguments of :class:`torchmetrics.Metric`.
    """

    is_differentiable = False
    full_state_update = False
    plot = Metric._plot

    def __init__(
        self,
        settings: Sequence[object] = (),
        scale: float = 100.0,
        size: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        text = repr((type(self).__qualname__, *settings))
        mark = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        self._scale, self._part, self._whole = scale, f"part_{mark}", f"whole_{mark}"
        for state in (self._part, self._whole):
            self.add_sum(state, *(() if size is None else (size,)))

    def add(
        self, part: Tensor | Sequence[float] | float, whole: Tensor | Sequence[float] | float
    ) -> None:
        """Adds to the two sums.

        Args:
            part: To the upper one.
            whole: To the lower one.
        """
        for state, value in ((self._part, part), (self._whole, whole)):
            held: Tensor = getattr(self, state)
            given = torch.as_tensor(value, dtype=held.dtype, device=held.device)
            setattr(self, state, held + given)

    def ratio(self) -> Tensor:
        """The ratio as it stands, in the default dtype."""
        part, whole = getattr(self, self._part), getattr(self, self._whole)
        value = torch.where(whole > 0, self._scale * part / whole, torch.nan)
        return value.to(torch.get_default_dtype())

    def compute(self) -> Any:
        """The ratio, a scalar."""
        return self.ratio()


def import_path(function: object) -> str:
    """Where a function or an object's class is found, to tell it from others.

    Example:
        >>> import_path(import_path)
        'lit_fed.metrics.running_ratio.import_path'
    """
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{getattr(named, '__qualname__', '')}"
