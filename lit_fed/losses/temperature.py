"""The temperature that a method's distillation losses share."""

from __future__ import annotations

from typing import Any

from lit_fed.limits import require_positive


class TemperatureMixin:
    """Gives a method the one temperature of all its distillation losses.

    Args:
        temperature: T > 0 of the teacher's and the student's softmax.
        **kwargs: For the next class.
    """

    def __init__(self, *, temperature: float = 3.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.temperature = require_positive("model.temperature", temperature)
