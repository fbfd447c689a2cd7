"""One round of the federation."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from lightning.pytorch.utilities import rank_zero_warn

from lit_fed.federation.client_selection import sample_clients
from lit_fed.federation.evaluation import evaluate, spread
from lit_fed.federation.execution import Failed
from lit_fed.federation.heap import HeapTrimmer
from lit_fed.federation.ledger import Ledger
from lit_fed.federation.randomness import reseed
from lit_fed.federation.state import FederationState
from lit_fed.update import Update

if TYPE_CHECKING:
    from lit_fed.federation.trainer import FederatedTrainer


def run_round(trainer: FederatedTrainer) -> FederationState:
    """Sample clients, train them, aggregate what they upload, and evaluate the new global model.

    Args:
        trainer: The trainer, whose state is read and stays as it is.

    Returns:
        The state after the round.

    Raises:
        RuntimeError: If fewer than ``trainer.min_clients`` clients finish.
    """
    started, state = time.perf_counter(), trainer.federation
    ledger, states, failures = state.ledger.copy(), dict(state.clients), dict(state.failures)
    clients = sample_clients(trainer)
    trainer.call("on_round_start", clients)
    module = trainer.lightning_module
    trainer.downloads = {c.id: module.broadcast_to(c, state.broadcast) for c in clients}
    memory, heap = trainer.client_state_store(state.clients.values()), HeapTrimmer()

    ledger.open_round()
    updates: list[Update] = []
    errors: list[Exception] = []
    for client, result in zip(clients, trainer.execution.run(trainer, clients), strict=True):
        ledger.record(client.id, down=trainer.downloads[client.id].nbytes)
        if isinstance(result, Failed):
            rank_zero_warn(f"round {state.round}: client {client.id!r} is left out: {result.error}")
            failures[client.id] = failures.get(client.id, 0) + 1
            errors.append(result.error)
            trainer.call("on_client_failed", client, result.error)
        else:
            ledger.record(client.id, up=result.update.payload.nbytes)
            states[client.id] = memory.kept(result.state)
            updates.append(result.update)
            heap.keep(result.update.payload.nbytes)
            trainer.call("on_client_end", result.update)
    if len(updates) < trainer.min_clients:
        reason = f"; the last one failed with: {errors[-1]}" if errors else ""
        raise RuntimeError(
            f"round {state.round}: {len(updates)} of {len(clients)} clients finished, fewer than "
            f"`trainer.min_clients` {trainer.min_clients}{reason}"
        ) from (errors[-1] if errors else None)

    with trainer.timers("aggregation"):
        state = _aggregated(trainer, state, updates)
    state = replace(
        state,
        clients=states,
        sampler=trainer.sampler.state_dict(),
        ledger=ledger,
        failures=failures,
    )
    with trainer.timers("evaluation"):
        metrics = {"round": float(state.round), **_validated(trainer, state)}
    metrics |= spread([u.metrics for u in updates]) | _traffic(ledger)
    metrics |= {"clients/sampled": len(clients), "clients/failed": len(errors)}
    metrics["time/round"] = time.perf_counter() - started
    state = replace(state, round=state.round + 1, history=[*state.history, metrics])
    return trainer.execution.settle(trainer, state)


def _aggregated(
    trainer: FederatedTrainer, state: FederationState, updates: Sequence[Update]
) -> FederationState:
    """The state with its next broadcast; as it was if there is no update."""
    if not updates:
        rank_zero_warn(f"round {state.round}: no client finished; the global state stays as it was")
        return state
    reseed(trainer.seed, state.round)
    trainer.resident.act_as_server(state)
    broadcast = trainer.lightning_module.aggregate(updates)
    state = replace(state, broadcast=broadcast, server=trainer.lightning_module.server_state())
    trainer.call("on_aggregate_end", updates)
    return state


def _validated(trainer: FederatedTrainer, state: FederationState) -> dict[str, float]:
    """Metrics of the new global model, in the rounds in which it is due."""
    rows = trainer.datamodule.validation
    due = (state.round + 1) % trainer.check_val_every_n_rounds == 0
    if rows is None or not due or not trainer.lightning_module.has_global_model:
        return {}
    trainer.resident.act_as_server(replace(state, round=state.round + 1))
    return evaluate(trainer, rows, "validation", trainer.limit_val_batches)


def _traffic(ledger: Ledger) -> dict[str, float]:
    up, down = ledger.rounds[-1]
    return {"bytes/up": up, "bytes/down": down, "bytes/total": ledger.up + ledger.down}
