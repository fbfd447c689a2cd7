"""The clients of a round, as the trainer's state and data describe them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lit_fed.client import Client
from lit_fed.federation.sampling import clients_per_round
from lit_fed.federation.state import ClientState

if TYPE_CHECKING:
    from lit_fed.data import ClientData
    from lit_fed.federation.trainer import FederatedTrainer


def sample_clients(trainer: FederatedTrainer) -> list[Client]:
    """The clients of the round that comes next, in the order in which they train.

    Clients without rows of the task under way sit it out.
    """
    sizes = [len(c.rows) for c in _clients(trainer)]
    setting, available = trainer.clients_per_round, sum(size > 0 for size in sizes)
    if isinstance(setting, int):
        setting = min(setting, available)
    count = clients_per_round(setting, available)
    chosen = trainer.sampler(sizes, count, trainer.seed, trainer.federation.round)
    return [client_at(trainer, index) for index in chosen]


def client_at(trainer: FederatedTrainer, index: int) -> Client:
    """The client at a position, as it is before the next round."""
    data, state = _clients(trainer)[index], trainer.federation
    past = state.clients.get(data.id, ClientState())
    return Client(
        id=data.id,
        index=index,
        num_samples=len(data.rows),
        round=state.round,
        rounds=past.rounds,
        steps=past.steps,
        rows=data.rows,
        validation=data.validation,
        task=trainer.task,
    )


def _clients(trainer: FederatedTrainer) -> list[ClientData]:
    task = trainer.task
    return trainer.datamodule.clients if task is None else trainer.datamodule.clients_in(task)
