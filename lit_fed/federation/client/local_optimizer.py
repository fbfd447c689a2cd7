"""A stage's optimizer and learning-rate schedule, as Lightning lets a module configure and step them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lit_fed.module import FederatedModule


class LocalOptimizer:
    """An optimizer as a module's ``optimizer_step`` sees it: its step runs the closure, then updates.

    Everything else is the optimizer's own.

    Args:
        optimizer: Fabric's optimizer.
        update: Lets it change the parameters.
    """

    def __init__(self, optimizer: Any, update: Callable[[Any], None]) -> None:
        self.optimizer = optimizer
        self._update = update

    def step(self, closure: Callable[[], Any] | None = None, **kwargs: Any) -> Any:
        """Run the closure, which computes the gradient, and take a step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._update(self.optimizer)
        return loss

    def __getattr__(self, name: str) -> Any:
        return getattr(self.optimizer, name)


class LocalSchedule:
    """A learning-rate schedule, stepped after every n-th optimizer step or pass over the rows.

    Args:
        scheduler: The schedule.
        interval: ``step`` or ``epoch``, a client's pass over its rows.
        frequency: n.
    """

    def __init__(self, scheduler: Any, interval: str = "epoch", frequency: int = 1) -> None:
        self.scheduler = scheduler
        self.interval = interval
        self.frequency = frequency
        self._count = 0

    def stepped(self, module: FederatedModule) -> None:
        """An optimizer step has been taken."""
        self._happened(module, "step")

    def epoch_ended(self, module: FederatedModule) -> None:
        """A pass over the rows has ended."""
        self._happened(module, "epoch")

    def _happened(self, module: FederatedModule, interval: str) -> None:
        if interval != self.interval:
            return
        self._count += 1
        if self._count % self.frequency == 0:
            module.lr_scheduler_step(self.scheduler, None)


def configured(returned: Any) -> tuple[Optimizer, LocalSchedule | None]:
    """The optimizer and its schedule, of what Lightning lets ``configure_optimizers`` return.

    Raises:
        TypeError: If there is not exactly one optimizer with at most one schedule.
        ValueError: If the schedule follows a metric, of which a client has none while it trains.
    """
    if isinstance(returned, Optimizer):
        return returned, None
    if isinstance(returned, dict) and isinstance(returned.get("optimizer"), Optimizer):
        return returned["optimizer"], _schedule(returned.get("lr_scheduler"))
    if isinstance(returned, list | tuple) and returned:
        optimizers, schedules = returned, []
        if len(returned) == 2 and isinstance(returned[0], list | tuple):
            optimizers, schedules = returned
        one = len(optimizers) == 1 and len(schedules) <= 1
        if one and isinstance(optimizers[0], Optimizer):
            return optimizers[0], _schedule(next(iter(schedules), None))
    raise TypeError(
        "configure_optimizers is expected to return one optimizer, or a dictionary with `optimizer` and "
        f"`lr_scheduler`, but returned {returned!r:.120}; a method with several optimizers has several stages"
    )


def _schedule(given: Any) -> LocalSchedule | None:
    if given is None:
        return None
    settings = given if isinstance(given, dict) else {"scheduler": given}
    scheduler = settings["scheduler"]
    if isinstance(scheduler, ReduceLROnPlateau):
        raise ValueError(
            "configure_optimizers is expected to return a schedule that follows steps or epochs, since a client "
            "has no validation while it trains, but returned ReduceLROnPlateau"
        )
    return LocalSchedule(scheduler, settings.get("interval", "epoch"), settings.get("frequency", 1))
