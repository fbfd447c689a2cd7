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
from lit_fed.federation.evaluation import act_as_server
from lit_fed.federation.execution import ClientExecution
from lit_fed.federation.run.run import Run
from lit_fed.federation.state import FederationState
from lit_fed.module import FederatedModule
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
    every = module.prepare_every
    again = every is not None and state.round > 0 and state.round % every == 0
    waiting = [c for c in clients if again or _state(state, c).prepared is None]
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
        ClientRound(client, _download(module, state, client), _state(state, client))
        for client in waiting
        if client.id not in results
    ]
    results |= execution.prepare(training, left, keep)
    # what the round's clients download is the server's to say
    act_as_server(training.resident, state)
    before_now = {c.id: _state(state, c).prepared for c in clients if c.id not in results}
    module.check_prepared(
        {**{name: one for name, one in before_now.items() if one is not None}, **results}
    )
    store = run.client_state_store(state.clients.values())
    states = dict(state.clients)
    for client in waiting:
        if client.id in results:
            before = _state(state, client)
            states[client.id] = store.kept(replace(before, prepared=results[client.id]))
    ledger = state.ledger.copy()
    for client in waiting:  # also those that had prepared when a fit was broken off
        ledger.download_before(client.id, _download(module, state, client).nbytes)
    size = sum(payload.nbytes for payload in results.values())
    rank_zero_info(
        f"{len(results)} of {len(waiting)} clients prepared in {time.perf_counter() - started:.1f} s; "
        f"{size:,} bytes stay with them"
    )
    return replace(state, clients=states, ledger=ledger)


def _download(module: FederatedModule, state: FederationState, client: Client) -> Payload:
    """What a client downloads to prepare: one that has nothing prepared is sent what a new one is."""
    # what it was sent once is gone with what it had prepared, where settings were changed
    new = _state(state, client).prepared is None
    return module.broadcast_to(replace(client, rounds=0) if new else client, state.broadcast)


def _state(state: FederationState, client: Client) -> ClientState:
    return state.clients.get(client.id, ClientState())
