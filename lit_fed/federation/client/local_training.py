"""A client's local training, whatever module plays the client."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from lightning.fabric.utilities import move_data_to_device

from lit_fed.client import Client
from lit_fed.federation.client.local_batches import local_batches
from lit_fed.federation.client.optimizer_state import load_optimizer_tensors, optimizer_tensors
from lit_fed.federation.client.resident_module import ResidentModule
from lit_fed.federation.evaluation import evaluate
from lit_fed.federation.execution.execution import Finished
from lit_fed.federation.randomness import reseed
from lit_fed.federation.state import ClientState
from lit_fed.metric_averager import MetricAverager
from lit_fed.payload import Payload
from lit_fed.update import Update

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from lit_fed.federation.trainer import FederatedTrainer


class LocalTraining:
    """Runs a client's round on the module that the trainer has at the moment.

    Args:
        trainer: The trainer, whose ``lightning_module`` plays the client.
        resident: Makes that module a client.
    """

    def __init__(self, trainer: FederatedTrainer, resident: ResidentModule) -> None:
        self.trainer = trainer
        self.resident = resident

    def run(self, client: Client) -> Finished:
        """Train a client from the trainer's state.

        Raises:
            ValueError: If its training metrics or its upload are not finite. Whatever else its
                training raises goes through.
        """
        trainer = self.trainer
        module, federation = trainer.lightning_module, trainer.federation
        before = federation.clients.get(client.id, ClientState())
        reseed(trainer.seed, client.round, client.index)
        with trainer.timers("download"):
            self.resident.act_as_client(client, before, trainer.downloads[client.id])
        trainer.call("on_client_start", client)

        module.train()
        module.metric_averager = log = MetricAverager()
        moments: dict[str, torch.Tensor] = {}
        for number, stage in enumerate(module.stages):
            optimizer = self._run_stage(client, number, stage, before.optimizer)
            if trainer.keep_optimizer_state:
                moments |= optimizer_tensors(optimizer, stage)
        module.eval()
        metrics = self.means(log)
        if not_finite := {
            name: value for name, value in metrics.items() if not math.isfinite(value)
        }:
            raise ValueError(f"training metrics are expected to be finite, but got {not_finite}")
        if trainer.validate_clients:
            rows = (
                client.validation
                if client.validation is not None
                else trainer.datamodule.validation
            )
            with trainer.timers("evaluation"):
                metrics |= evaluate(trainer, rows, "validation", trainer.limit_val_batches)

        with trainer.timers("upload"), trainer.fabric.autocast():
            upload = module.upload()
        update = Update(client.id, upload, client.num_samples, before.rounds + 1, metrics)
        return Finished(
            update,
            ClientState(client.steps, before.rounds + 1, module.private_state(), Payload(moments)),
        )

    def own_rows(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The rows of a batch that this process takes: all."""
        return batch

    def loss(self, batch: dict[str, torch.Tensor], index: int) -> torch.Tensor:
        """The method's loss of a batch, a scalar."""
        # Fabric does this for `forward` alone
        with self.trainer.fabric.autocast():
            loss: torch.Tensor = self.trainer.wrapped_module.training_step(batch, index)
        return loss

    def means(self, log: MetricAverager) -> dict[str, float]:
        """What was logged, over all processes that trained the client: one."""
        return log.compute()

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradient of a loss, a scalar, to that of the client's parameters."""
        self.trainer.fabric.backward(loss)

    def step(self, optimizer: Any) -> None:
        """Bound the gradient and take an optimizer's step."""
        self.trainer.clip_gradients(optimizer)
        self.trainer.call("on_before_optimizer_step", optimizer)
        self.update(optimizer)

    def update(self, optimizer: Any) -> None:
        """Let an optimizer change the client's parameters."""
        optimizer.step()

    def _run_stage(self, client: Client, number: int, stage: str, moments: Payload) -> Optimizer:
        trainer = self.trainer
        module, fabric = trainer.lightning_module, trainer.fabric
        module.start_stage(stage)
        rows = module.local_data(client.rows, stage)
        plain, schedule = _configured(module.configure_optimizers())
        load_optimizer_tensors(plain, stage, moments)
        optimizer: Any = fabric.setup_optimizers(plain)
        timers = trainer.timers
        batches = local_batches(trainer, client, rows, number)
        index = 0
        while True:
            with timers("data"):
                local = next(batches, None)
                if local is None:
                    return plain
                batch = move_data_to_device(self.own_rows(local.batch), fabric.device)
            trainer.call("on_train_batch_start", batch, index)
            with timers("forward"):
                loss = self.loss(batch, index)
            with timers("backward"):
                self.backward(loss / local.accumulated)
            if local.ends_step:
                with timers("optimizer"):
                    self.step(optimizer)
                    optimizer.zero_grad(set_to_none=True)
                    if schedule is not None:
                        schedule.step()
                client.steps += 1
            trainer.call("on_train_batch_end", loss.detach(), batch, index)
            index += 1


def _configured(configured: Any) -> tuple[Optimizer, LRScheduler | None]:
    """The optimizer and the schedule stepped with it, of what Lightning lets ``configure_optimizers`` return."""
    if isinstance(configured, dict):
        schedule = configured.get("lr_scheduler")
        return configured["optimizer"], schedule["scheduler"] if isinstance(
            schedule, dict
        ) else schedule
    if isinstance(configured, torch.optim.Optimizer):
        return configured, None
    if (
        isinstance(configured, tuple | list)
        and len(configured) == 2
        and isinstance(configured[0], list)
    ):
        (optimizer,), (schedule,) = configured
        return optimizer, schedule["scheduler"] if isinstance(schedule, dict) else schedule
    raise TypeError(
        "configure_optimizers is expected to return one optimizer, or a dictionary with `optimizer` and "
        f"`lr_scheduler`, but returned {configured!r:.120}; a method with several optimizers has several stages"
    )
