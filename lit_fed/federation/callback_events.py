"""Reports what happens to a trainer's callbacks, and then to the module."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback

from lit_fed.federation.client.events import Events
from lit_fed.module import FederatedModule


class CallbackEvents(Events):
    """Calls a hook of the callbacks as ``hook(trainer, module, *args)`` and of the module as ``hook(*args)``.

    Args:
        trainer: What callbacks get as the trainer.
        callbacks: The callbacks.
        metrics: Takes the metrics of the global model's evaluations, for callbacks that monitor them.
    """

    def __init__(
        self, trainer: Any, callbacks: Sequence[Callback], metrics: dict[str, torch.Tensor]
    ) -> None:
        self.raised = None
        self._trainer = trainer
        self._callbacks = callbacks
        self._metrics = metrics
        # Clients that train together run in threads of their own.
        self._under_way = threading.local()

    @property
    def module(self) -> FederatedModule | None:
        """The module that the hook under way is about; None between hooks."""
        module: FederatedModule | None = getattr(self._under_way, "module", None)
        return module

    def report(self, module: FederatedModule, hook: str, *args: Any) -> Any:
        """Call the hook; what a callback raises is the run's error."""
        self.report_to_callbacks(module, hook, *args)
        return super().report(module, hook, *args)

    def report_to_callbacks(self, module: FederatedModule, hook: str, *args: Any) -> None:
        """Call the hook of the callbacks alone, where the module's of that name means something else.

        Args:
            module: The module that it is about.
            hook: Name of the hook.
            *args: Its arguments.
        """
        before = self.module
        self._under_way.module = module
        try:
            for callback in self._callbacks:
                method: Callable[..., Any] | None = getattr(callback, hook, None)
                if method is not None:
                    method(self._trainer, module, *args)
        except Exception as error:
            self.raised = error
            raise
        finally:
            self._under_way.module = before

    def report_metrics(self, module: FederatedModule, metrics: Mapping[str, float]) -> None:
        """Keep the metrics of the global model; a client's are not the federation's."""
        if module.client is None:
            self._metrics.update({k: torch.tensor(v) for k, v in metrics.items()})
