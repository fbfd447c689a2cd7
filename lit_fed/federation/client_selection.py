"""Client selection: which clients take part in a round, and what is known of them."""

from __future__ import annotations

from lit_fed.client import Client
from lit_fed.data import ClientData, FederatedDataModule
from lit_fed.federation.client.client_state import ClientState
from lit_fed.federation.sampling import ClientSampler, clients_per_round
from lit_fed.federation.state import FederationState


class ClientSelection:
    """Selects a round's clients.

    Args:
        data: The clients' data.
        sampler: Chooses among them.
        clients_per_round: An integer is a count, a float a fraction.
        seed: The run's seed.
        rounds_per_task: Rounds of each task in ``data.tasks``; None where there is no sequence of them.
    """

    def __init__(
        self,
        data: FederatedDataModule,
        sampler: ClientSampler,
        clients_per_round: int | float,
        seed: int,
        rounds_per_task: int | None,
    ) -> None:
        self.data = data
        self.sampler = sampler
        self.clients_per_round = clients_per_round
        self.seed = seed
        self.rounds_per_task = rounds_per_task

    def select(self, state: FederationState) -> list[Client]:
        """The clients of the round that comes next, in the order in which they train.

        Clients without rows of the task under way sit it out.
        """
        sizes = [len(c.rows) for c in self._clients(state)]
        setting, available = self.clients_per_round, sum(size > 0 for size in sizes)
        if isinstance(setting, int):
            setting = min(setting, available)
        count = clients_per_round(setting, available)
        chosen = self.sampler(sizes, count, self.seed, state.round)
        return [self.client_at(state, index) for index in chosen]

    def client_at(self, state: FederationState, index: int) -> Client:
        """The client at a position, as it is before the next round."""
        data = self._clients(state)[index]
        past = state.clients.get(data.id, ClientState())
        return Client(
            id=data.id,
            index=index,
            num_samples=len(data.rows),
            round=state.round,
            rounds=past.rounds,
            steps=past.steps,
            stage_steps=dict(past.stage_steps),
            task=self.task(state),
            group=data.group,
        )

    def everyone(self, state: FederationState) -> list[Client]:
        """All clients, as they are before the next round."""
        return [self.client_at(state, index) for index in range(len(self.data.clients))]

    def task_index(self, state: FederationState) -> int | None:
        """The position in ``data.tasks`` of the task under way (after the last round: the last one)."""
        if self.rounds_per_task is None or self.data.tasks is None:
            return None
        return min(state.round // self.rounds_per_task, len(self.data.tasks) - 1)

    def task(self, state: FederationState) -> str | None:
        """The task under way; None where there is no sequence of them."""
        index = self.task_index(state)
        return None if index is None else (self.data.tasks or [])[index]

    def _clients(self, state: FederationState) -> list[ClientData]:
        task = self.task(state)
        return self.data.clients if task is None else self.data.clients_in(task)
