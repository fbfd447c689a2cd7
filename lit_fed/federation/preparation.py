"""Preparation: what clients make of their rows before their first round, and again where a method asks for it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from lightning.pytorch.utilities import rank_zero_info

from lit_fed.client import Client
from lit_fed.federation.client.client_state import ClientState
from lit_fed.federation.client.local_training import LocalTraining
from lit_fed.federation.client.results import ClientRound
from lit_fed.federation.execution import ClientExecution
from lit_fed.federation.run.run import Run
from lit_fed.federation.state import FederationState
from lit_fed.payload import Payload


def prepare_clients(
    training: LocalTraining,
    execution: ClientExecution,
    clients: Sequence[Client],
    run: Run,
    state: FederationState,
) -> FederationState:
    """Let every client prepare that has not yet, in whatever run it was, or is to prepare again in this round.

    Each starts from what it would start its round from. Each result is on disk as soon as it is there: where this
    is broken off, the next fit goes on with the clients that are left.

    Args:
        training: Runs a client's preparation on the resident module.
        execution: How clients are run.
        clients: All clients.
        run: Keeps what clients have prepared until a checkpoint does.
        state: The state before the next round.

    Returns:
        The state in which what they prepared is part of the clients' states.

    Raises:
        ConfigurationError: If the method finds that a client cannot prepare by the run's settings, or that nobody
            can train on what they prepared.
    """
    module = training.module
    if not module.prepares:
        return state
    again = module.prepare_every is not None and state.round % module.prepare_every == 0
    waiting = [
        client
        for client in clients
        if (again and state.round) or _state(state, client).prepared is None
    ]
    if not waiting:
        return state
    started = time.perf_counter()
    found = {c.id: payload for c in waiting if (payload := run.prepared(c)) is not None}
    # Processes have to agree on who is left, and one of them may be writing already.
    known = execution.of_first_process([c.id for c in waiting if c.id in found])
    results = {c.id: run.prepared(c) or Payload() for c in waiting if c.id in known}

    def keep(client: Client, prepared: Payload) -> None:
        run.keep_prepared(client, prepared)
        training.events.report(training.module, "on_client_prepared", client, prepared)

    left = [
        ClientRound(client, module.broadcast_to(client, state.broadcast), _state(state, client))
        for client in waiting
        if client.id not in results
    ]
    results |= execution.prepare(training, left, keep)
    module.check_prepared(results)
    store = run.client_state_store(state.clients.values())
    states = dict(state.clients)
    for client in waiting:
        if client.id in results:
            before = _state(state, client)
            states[client.id] = store.kept(replace(before, prepared=results[client.id]))
    size = sum(payload.nbytes for payload in results.values())
    rank_zero_info(
        f"{len(results)} of {len(waiting)} clients prepared in {time.perf_counter() - started:.1f} s; "
        f"{size:,} bytes stay with them"
    )
    return replace(state, clients=states)


def _state(state: FederationState, client: Client) -> ClientState:
    return state.clients.get(client.id, ClientState())
