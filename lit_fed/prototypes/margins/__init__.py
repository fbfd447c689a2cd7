"""Margin schedules: how the margin changes with the rounds. They know numbers alone."""

from typing import TYPE_CHECKING

from lit_fed.lazy_names import lazy_names

if TYPE_CHECKING:
    from lit_fed.prototypes.margins.early_margin import EarlyMargin
    from lit_fed.prototypes.margins.margin_schedule import MarginSchedule
    from lit_fed.prototypes.margins.rising_margin import RisingMargin
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = ["EarlyMargin", "MarginSchedule", "RisingMargin"]
