"""Clients one after the other on the one resident model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor

from lit_fed.client import Client
from lit_fed.federation.evaluation import evaluate
from lit_fed.federation.execution.execution import ClientExecution, Failed, Finished
from lit_fed.federation.execution.local_batches import local_batches
from lit_fed.federation.execution.optimizer_state import load_optimizer_tensors, optimizer_tensors
from lit_fed.federation.randomness import reseed
from lit_fed.federation.state import ClientState
from lit_fed.metric_log import MetricLog
from lit_fed.payload import Payload
from lit_fed.update import Update

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from lit_fed.federation.trainer import FederatedTrainer


class SequentialClients(ClientExecution):
    """One client at a time; K clients cost K adapters and one model."""

    def check(self, trainer: FederatedTrainer) -> None:
        """There is nothing it cannot do; see :class:`ClientExecution`."""

    def run(
        self, trainer: FederatedTrainer, clients: Sequence[Client]
    ) -> Iterator[Finished | Failed]:
        """Train the clients in order; see :class:`ClientExecution`.

        A client whose training raises, or whose loss or upload is not finite, is yielded as failed.
        """
        for client in clients:
            try:
                yield self._run_client(trainer, client)
            except (
                Exception
            ) as error:  # a client must not bring the federation down, whatever it does
                yield Failed(client, error)
            finally:
                trainer.lightning_module.metric_log = None

    def _run_client(self, trainer: FederatedTrainer, client: Client) -> Finished:
        module, federation = trainer.lightning_module, trainer.federation
        before = federation.clients.get(client.id, ClientState())
        reseed(trainer.seed, client.round, client.index)
        trainer.roles.become_client(client, before, federation.broadcast)
        trainer.call("on_client_start", client)

        module.train()
        module.metric_log = log = MetricLog()
        moments: dict[str, torch.Tensor] = {}
        for number, stage in enumerate(module.stages):
            optimizer = self._run_stage(trainer, client, number, stage, before.optimizer)
            if trainer.keep_optimizer_state:
                moments |= optimizer_tensors(optimizer, stage)
        module.eval()
        metrics = self._means(trainer, log)
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
            metrics |= evaluate(trainer, rows, "validation", trainer.limit_val_batches)

        with trainer.fabric.autocast():
            upload = module.upload()
        update = Update(client.id, upload, client.num_samples, before.rounds + 1, metrics)
        return Finished(
            update,
            ClientState(client.steps, before.rounds + 1, module.private_state(), Payload(moments)),
        )

    def _own_rows(self, trainer: FederatedTrainer, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The rows of a batch that this process takes: all."""
        return batch

    def _loss(self, trainer: FederatedTrainer, batch: dict[str, Tensor], index: int) -> Tensor:
        loss: Tensor = trainer.wrapped_module.training_step(batch, index)
        return loss

    def _means(self, trainer: FederatedTrainer, log: MetricLog) -> dict[str, float]:
        """What was logged, over all processes that trained the client: one."""
        return log.compute()

    def _run_stage(
        self, trainer: FederatedTrainer, client: Client, number: int, stage: str, moments: Payload
    ) -> Optimizer:
        module, fabric = trainer.lightning_module, trainer.fabric
        module.start_stage(stage)
        rows = module.local_data(client.rows, stage)
        plain, schedule = _configured(module.configure_optimizers())
        load_optimizer_tensors(plain, stage, moments)
        optimizer: Any = fabric.setup_optimizers(plain)
        for index, local in enumerate(local_batches(trainer, client, rows, number)):
            batch = move_data_to_device(self._own_rows(trainer, local.batch), fabric.device)
            trainer.call("on_train_batch_start", batch, index)
            loss = self._loss(trainer, batch, index)
            fabric.backward(loss / local.accumulated)
            if local.ends_step:
                trainer.clip_gradients(optimizer)
                trainer.call("on_before_optimizer_step", optimizer)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                if schedule is not None:
                    schedule.step()
                client.steps += 1
            trainer.call("on_train_batch_end", loss.detach(), batch, index)
        return plain


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
