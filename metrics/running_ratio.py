"""A metric that is a ratio of two sums over all that it has seen."""

from __future__ import annotations

import hashlib
import pickle  # only to tell objects apart: nothing is loaded
import sys
import uuid
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lit_fed.metrics.running_sums import RunningSums
from lit_fed.metrics.state_marks import MARK_BYTES, settings_mark


class RunningRatio(RunningSums):
    """A ratio of two sums, each a scalar or a vector of them; NaN where the lower one is 0.

    Args:
        settings: All that ``update`` depends on, of plain values. A :class:`torchmetrics.MetricCollection` lets
            metrics share their states whose states have the same names and are equal after the first update, as
            those of two shares are that are both 0 of 8. So the names are made of the class and these settings. A
            function among them is given by its :func:`identity`.
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
        mark = settings_mark(self, *settings)
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


def identity(function: object) -> str:
    """What tells a function, or an object that can be called, from any other.

    Of what a module has under its name it is the import path. Of all else, such as an object with settings, it has what
    pickle makes of it as well, which is the same in other processes but for the order of sets; and of what cannot be
    pickled, such as a lambda, a random number, so that no other is taken for it.

    Args:
        function: The function or object.

    Example:
        >>> identity(identity)
        'lit_fed.metrics.running_ratio.identity'
        >>> identity("ab".count) == identity("ab".count), identity("ab".count) == identity("cd".count)
        (True, False)
    """
    named = function if hasattr(function, "__qualname__") else type(function)
    path = f"{named.__module__}.{getattr(named, '__qualname__', '')}"
    if _at(named.__module__, getattr(named, "__qualname__", "")) is function:
        return path
    try:
        content = hashlib.blake2b(pickle.dumps(function), digest_size=MARK_BYTES).hexdigest()
    except Exception:  # whatever an object of a user's own raises
        content = uuid.uuid4().hex
    return f"{path}#{content}"


def _at(module: str | None, name: str) -> object:
    """What a module that is loaded has under a name; None if nothing."""
    found: object = sys.modules.get(module or "")
    for part in name.split("."):
        found = getattr(found, part, None)
    return found
