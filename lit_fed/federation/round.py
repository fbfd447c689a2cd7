"""One round of the federation: select, run, record, aggregate, validate."""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from lightning.pytorch.utilities import rank_zero_warn

from lit_fed.client import Client
from lit_fed.configuration_error import ConfigurationError
from lit_fed.federation.client.client_state import ClientState
from lit_fed.federation.client.local_training import LocalTraining
from lit_fed.federation.client.private_training import epsilon_of
from lit_fed.federation.client.received import received
from lit_fed.federation.client.results import ClientRound, Failed, Finished
from lit_fed.federation.client_selection import ClientSelection
from lit_fed.federation.error_place import with_place
from lit_fed.federation.evaluation import act_as_server, spread_of_clients
from lit_fed.federation.execution import ClientExecution
from lit_fed.federation.heap import HeapTrimmer
from lit_fed.federation.ledger import Ledger
from lit_fed.federation.plausibility import ImplausibleUpdate, implausible
from lit_fed.federation.randomness import reseed
from lit_fed.federation.run.client_state_store import ClientStateStore
from lit_fed.federation.run.round_uploads import RoundUploads
from lit_fed.federation.state import FederationState
from lit_fed.payload import Payload
from lit_fed.update import Update

EPSILON: Final = "privacy/epsilon/max"
"""The most that any client has spent of its privacy so far."""
USUAL_NORM: Final = "clients/update_norm/median"
"""The metric that later rounds of few clients compare with."""


@dataclass(frozen=True)
class RoundSettings:
    """What the server's side of a round goes by; see :class:`~lit_fed.FederatedTrainer`.

    Attributes:
        seed: The run's seed.
        min_clients: Clients that must finish.
        max_update_norm_ratio: How many times the round's usual norm an update may have; None: any.
        check_val_every_n_rounds: Rounds between two validations of the global model.
        limit_val_batches: Batches of a validation.
    """

    seed: int
    min_clients: int
    max_update_norm_ratio: float | None
    check_val_every_n_rounds: int
    limit_val_batches: int | float


class FederationRound:
    """Runs rounds of a federation, each from a state, which stays as it is, to the next one.

    Args:
        training: Runs a client's round on the resident module, which is the server as well.
        execution: How a round's clients are run.
        selection: Which they are.
        settings: What the server's side goes by.
    """

    def __init__(
        self,
        training: LocalTraining,
        execution: ClientExecution,
        selection: ClientSelection,
        settings: RoundSettings,
    ) -> None:
        self.training = training
        self.execution = execution
        self.selection = selection
        self.settings = settings

    def run(self, state: FederationState, store: ClientStateStore) -> FederationState:
        """Select clients, train them, aggregate what they upload, and evaluate the new global model.

        Args:
            state: The state before the round.
            store: Keeps what lasts of the clients.

        Returns:
            The state after the round.

        Raises:
            ConfigurationError: If a client finds an error of the run's, or all fail alike in the first round.
            RuntimeError: If fewer than ``min_clients`` clients finish, or the new global model is not finite.
        """
        started, timers = time.perf_counter(), self.training.module.timers
        ledger, states, failures = state.ledger.copy(), dict(state.clients), dict(state.failures)
        clients = self.selection.select(state)
        self._report("on_round_start", clients)
        starts, heap, uploads = self._starts(state, clients), HeapTrimmer(), store.uploads()

        ledger.open_round()
        finished: list[tuple[ClientRound, Update]] = []
        errors: list[Exception] = []
        spent: dict[str, Payload] = {}
        results = self.execution.run(self.training, starts)
        for start, result in zip(starts, results, strict=True):
            client = start.client
            ledger.record(client.id, down=start.broadcast.nbytes)
            if not isinstance(result, Failed):
                ledger.record(client.id, up=result.update.nbytes)
                if result.state.privacy:
                    spent[client.id] = result.state.privacy
                result = self._received(start, result, uploads)
            if isinstance(result, Failed):
                if isinstance(result.error, ConfigurationError):
                    raise result.error
                self._leave_out(state, client, result.error, failures)
                errors.append(result.error)
            else:
                states[client.id] = store.kept(result.state)
                finished.append((start, result.update))
                heap.keep(result.update.payload.nbytes)
                self._report("on_client_end", result.update)
        norms = self._norms(finished)
        for start, why in self._implausible(state, finished, norms):
            name = start.client.id
            self._leave_out(state, start.client, why, failures)
            errors.append(why)
            del states[name], norms[name]
            if name in state.clients:
                states[name] = state.clients[name]
            finished = [one for one in finished if one[0] is not start]
        updates = [update for _, update in finished]
        for name in spent.keys() - {update.client_id for update in updates}:
            # the server has seen what the client sent, although it makes nothing of it
            before = state.clients.get(name, ClientState())
            states[name] = store.kept(replace(before, privacy=spent[name]))
        self._require_not_all_alike(state, clients, errors)
        self._require_enough(state, clients, updates, errors)

        with timers("aggregation"):
            state, said = self._aggregated(state, updates)
        state = replace(
            state,
            clients=states,
            sampler=copy.deepcopy(self.selection.sampler.state_dict()),  # it may go on counting
            ledger=ledger,
            failures=failures,
        )
        with timers("evaluation"):
            metrics = {"round": float(state.round + 1), **self._validated(state)}
        reported = spread_of_clients([(start.client, update.metrics) for start, update in finished])
        metrics |= said | reported | _traffic(ledger)
        ledger.close_round()
        metrics |= {"clients/sampled": len(clients), "clients/failed": len(errors)}
        if norms:
            median = statistics.median_low(norms.values())
            metrics |= {USUAL_NORM: median, "clients/update_norm/max": max(norms.values())}
        if accounts := [one.privacy for one in states.values() if one.privacy]:
            metrics[EPSILON] = max(map(epsilon_of, accounts))
        metrics["time/round"] = time.perf_counter() - started
        state = replace(state, round=state.round + 1, history=[*state.history, metrics])
        return self.execution.settle(state)

    def _starts(self, state: FederationState, clients: Sequence[Client]) -> list[ClientRound]:
        """What each of the round's clients starts from."""
        module = self.training.module
        return [
            ClientRound(
                client,
                module.broadcast_to(client, state.broadcast),
                state.clients.get(client.id, ClientState()),
            )
            for client in clients
        ]

    def _received(
        self, start: ClientRound, result: Finished, uploads: RoundUploads
    ) -> Finished | Failed:
        """What a client has sent, in the form in which the method takes it, as it is kept for the aggregation.

        Raises:
            OSError: If the files of uploads cannot be written, as on a full disk, which is no client's failure.
        """
        try:
            update = received(
                self.training.attachments, start.client, result.update, start.broadcast
            )
        except Exception as error:  # what a client sends must not bring the federation down
            return Failed(start.client, error)
        try:
            return replace(result, update=replace(update, payload=uploads.kept(update.payload)))
        except OSError:
            raise
        except Exception as error:  # nor must what no file can hold
            return Failed(start.client, error)

    def _leave_out(
        self, state: FederationState, client: Client, error: Exception, failures: dict[str, int]
    ) -> None:
        rank_zero_warn(
            f"round {state.round + 1}: client {client.id!r} is left out: {with_place(error)}"
        )
        failures[client.id] = failures.get(client.id, 0) + 1
        self._report("on_client_failed", client, error)

    def _norms(self, finished: Sequence[tuple[ClientRound, Update]]) -> dict[str, float]:
        """How much each client has changed, where that can be said."""
        module = self.training.module
        norms = {
            start.client.id: module.update_norm(update.payload, start.broadcast)
            for start, update in finished
        }
        return {name: norm for name, norm in norms.items() if norm is not None}

    def _implausible(
        self,
        state: FederationState,
        finished: Sequence[tuple[ClientRound, Update]],
        norms: Mapping[str, float],
    ) -> Iterator[tuple[ClientRound, ImplausibleUpdate]]:
        """Those whose updates are too large to be believed, and why."""
        earlier = [row[USUAL_NORM] for row in state.history if USUAL_NORM in row]
        why = implausible(norms, self.settings.max_update_norm_ratio, earlier)
        for start, _ in finished:
            if start.client.id in why:
                yield start, ImplausibleUpdate(why[start.client.id])

    def _require_not_all_alike(
        self, state: FederationState, clients: Sequence[Client], errors: Sequence[Exception]
    ) -> None:
        """What all clients fail with, before any has ever finished a round, is no client's failure."""
        if len(errors) < max(len(clients), 2) or any(c.rounds for c in state.clients.values()):
            return
        said = {
            str(error).replace(repr(client.id), "a client")
            for client, error in zip(clients, errors, strict=True)
        }
        if len(said) == 1:
            raise ConfigurationError(
                f"all {len(clients)} clients of round {state.round + 1} failed alike, which is an error of the "
                f"settings, the data or the method, and no client's: {with_place(errors[0])}"
            ) from errors[0]

    def _require_enough(
        self,
        state: FederationState,
        clients: Sequence[Client],
        updates: Sequence[Update],
        errors: Sequence[Exception],
    ) -> None:
        least = self.settings.min_clients
        if len(updates) < least:
            reason = f"; the last one failed with: {errors[-1]}" if errors else ""
            raise RuntimeError(
                f"round {state.round + 1}: {len(updates)} of {len(clients)} clients finished, fewer than "
                f"`trainer.min_clients` {least}{reason}"
            ) from (errors[-1] if errors else None)

    def _aggregated(
        self, state: FederationState, updates: Sequence[Update]
    ) -> tuple[FederationState, dict[str, float]]:
        """The state with its next broadcast, and what is said of it; as it was if there are too few updates.

        A rule that bears wrong clients asks for many others, of whom wrong ones that were left out must not end a run.
        """
        module = self.training.module
        if len(updates) < (least := module.fewest_updates):
            few = f"{len(updates)} clients are left, of {least} at least that are combined"
            rank_zero_warn(
                f"round {state.round + 1}: {few if updates else 'no client finished'}; the global state stays as it was"
            )
            return state, {}
        reseed(self.settings.seed, state.round)
        act_as_server(self.training.resident, state)
        try:
            broadcast, server = module.aggregate(updates), module.server_state()
        except ValueError as error:  # payloads are finite, so what is not cannot be sent
            raise self._given_up(state, str(error)) from error
        state = replace(state, broadcast=broadcast, server=server)
        self._report("on_aggregate_end", updates)
        return state, module.server_metrics()

    def _given_up(self, state: FederationState, why: str) -> RuntimeError:
        return RuntimeError(
            f"round {state.round + 1} is given up, and the global model stays as it was before: {why}"
        )

    def _validated(self, state: FederationState) -> dict[str, float]:
        """Metrics of the new global model, in the rounds in which it is due.

        Raises:
            RuntimeError: If the model or its validation loss is not finite.
        """
        act_as_server(self.training.resident, replace(state, round=state.round + 1))
        if name := self.training.resident.not_finite():
            raise self._given_up(state, f"{name!r} of the new one has values that are not finite")
        rows, settings = self.selection.data.validation, self.settings
        due = (state.round + 1) % settings.check_val_every_n_rounds == 0
        if rows is None or not due or not self.training.module.has_global_model:
            return {}
        metrics = self.training.evaluation.evaluate(rows, "validation", settings.limit_val_batches)
        if not math.isfinite(loss := metrics.get("val/loss", 0.0)):
            raise self._given_up(state, f"the validation loss of the new one is {loss}")
        return metrics

    def _report(self, hook: str, *args: object) -> None:
        self.training.events.report(self.training.module, hook, *args)


def _traffic(ledger: Ledger) -> dict[str, float]:
    up, down = ledger.rounds[-1]
    return {"bytes/up": up, "bytes/down": down, "bytes/total": ledger.up + ledger.down}
