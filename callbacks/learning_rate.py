"""The learning rates that clients train with."""

from __future__ import annotations

from typing import Any

from lit_fed.callbacks.federated_callback import FederatedCallback


class ClientLearningRate(FederatedCallback):
    """Gives a round's row the clients' learning rates, as ``clients/lr/mean``, ``/std``, ``/min`` and ``/max``.

    A client's rate is the mean over its steps of the round. Where a method has several stages, or an
    optimizer several groups of parameters, each has a metric of its own: ``lr/<stage>/<group>``.

    It takes the place of Lightning's ``LearningRateMonitor``, since every client makes an optimizer of its
    own in every round; the rates are those of a client's own warm-up and schedule.
    """

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        """Log the rates of the step."""
        stage = f"/{module.stage.name}" if len(module.stages) > 1 else ""
        groups = optimizer.param_groups
        for number, group in enumerate(groups):
            suffix = f"/{group.get('name', number)}" if len(groups) > 1 else ""
            module.log(f"lr{stage}{suffix}", group["lr"])
