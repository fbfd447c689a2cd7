"""The loop of a federation: from its initial or a saved state, round by round."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from lightning.pytorch import Callback
from lightning.pytorch.utilities import rank_zero_info

from lit_fed.client import Client
from lit_fed.federation.client.client_state import ClientState
from lit_fed.federation.client.local_training import LocalTraining
from lit_fed.federation.client.results import ClientRound
from lit_fed.federation.client_selection import ClientSelection
from lit_fed.federation.compilation import compile_where_faster
from lit_fed.federation.evaluation import act_as_client, act_as_server, evaluate_federation
from lit_fed.federation.execution import ClientExecution
from lit_fed.federation.generation import (
    GenerationSettings,
    check_generation,
    generated_texts,
)
from lit_fed.federation.predictions import class_probabilities, predicted_rows
from lit_fed.federation.preparation import prepare_clients
from lit_fed.federation.round import FederationRound, RoundSettings
from lit_fed.federation.run.run import Run
from lit_fed.federation.state import FederationState
from lit_fed.module import FederatedModule

if TYPE_CHECKING:
    from datasets import Dataset


class FederationLoop:
    """A federation under way: its module, clients and run, and the state after the last finished round.

    Args:
        training: Runs a client's round on the resident module.
        execution: How a round's clients are run.
        selection: Which clients take part.
        settings: What the server's side of a round goes by.
        run: The run's files.
        callbacks: Their states are part of checkpoints.

    Attributes:
        state: The state after the last finished round.
    """

    state: FederationState

    def __init__(
        self,
        training: LocalTraining,
        execution: ClientExecution,
        selection: ClientSelection,
        settings: RoundSettings,
        run: Run,
        callbacks: Sequence[Callback],
    ) -> None:
        self.training = training
        self.execution = execution
        self.selection = selection
        self.run = run
        self.callbacks = callbacks
        self._round = FederationRound(training, execution, selection, settings)
        self._prepared_for: int | None = None

    @property
    def module(self) -> FederatedModule:
        """The resident module."""
        return self.training.module

    # ---------------------------------------------------------------- where it starts

    def begin(self) -> None:
        """Start before round 0, all processes from what the first one has made."""
        self.module.eval()
        broadcast = self.module.initial_broadcast()
        self.module.train()
        own = FederationState(0, broadcast, self.module.server_state())
        self.state = self.execution.settle(own)
        if self.state is not own:
            self.module.load_server_state(self.state.server)
        self._prepared_for = None

    def load(
        self,
        path: Path,
        matters: Callable[[str], bool] = lambda name: True,
        with_changes: bool = False,
    ) -> None:
        """Go on from a checkpoint.

        Args:
            path: Its folder.
            matters: Whether a part of the run's identity has to be the same. Default: each has.
            with_changes: Whether differences are meant.

        Raises:
            FileNotFoundError: If there is no checkpoint.
            ValueError: If it is damaged, of a run that differs, or does not fit the module.
        """
        self.state = self._unprepared(self.run.load(path, matters, with_changes))
        self._prepared_for = None
        try:
            self.act_as_server()
        except (ValueError, KeyError, RuntimeError) as error:
            raise ValueError(f"checkpoint {path} does not fit the model: {error}") from error
        self.selection.sampler.load_state_dict(copy.deepcopy(self.state.sampler))
        for callback in self.callbacks:
            if callback.state_key in self.state.callbacks:
                callback.load_state_dict(self.state.callbacks[callback.state_key])
        rank_zero_info(f"from {path}, after {self.state.round} finished rounds")

    def _unprepared(self, state: FederationState) -> FederationState:
        """The state without what clients have prepared by settings that have just been changed."""
        now = [str(one["setting"]) for one in state.changes if one["round"] == state.round]
        by = self.module.prepared_by
        if not self.module.prepares or not any(name.startswith(by) for name in now):
            return state
        clients = {id: replace(one, prepared=None) for id, one in state.clients.items()}
        return replace(state, clients=clients)

    def compile(self) -> None:
        """Compile the model's layers if that is faster for the first client that trains on rows."""
        # not one that the sampler chooses, since it may learn from every call
        client = next(
            (one for one in self.selection.everyone(self.state) if self._trains(one)), None
        )
        if client is None:
            return
        broadcast = self.module.broadcast_to(client, self.state.broadcast)
        before = self.state.clients.get(client.id, ClientState())
        compile_where_faster(self.training, ClientRound(client, broadcast, before))
        self.act_as_server()

    def _trains(self, client: Client) -> bool:
        """Whether a client trains on rows: a black box has no stages."""
        self.module.act_as(client)
        return bool(client.num_samples and self.module.stages)

    def prepare(self) -> None:
        """Before a round, let every client prepare that has not yet, or is to prepare again; once a round."""
        if self._prepared_for != self.state.round:
            self._prepared_for = self.state.round
            everyone = self.selection.everyone(self.state)
            self.state = prepare_clients(
                self.training, self.execution, everyone, self.run, self.state
            )

    # ---------------------------------------------------------------- rounds

    def run_round(self) -> dict[str, float]:
        """One round and what callbacks evaluate after it: together, or neither of them.

        Returns:
            The round's row of the history.
        """
        before, timers = self.state, self.module.timers
        store = self.run.client_state_store(before.clients.values())
        self.state = self._round.run(before, store)
        *earlier, metrics = self.state.history
        try:
            with timers("evaluation"):
                self.training.events.report(self.module, "on_round_evaluation", metrics)
            metrics |= {f"time/{phase}": spent for phase, spent in timers.take().items()}
            metrics = dict(self.execution.of_first_process(metrics))
        except BaseException:
            self.state = before
            raise
        self.state = replace(self.state, history=[*earlier, metrics])
        return metrics

    def reported(self) -> None:
        """The last finished round has been published: whoever goes on from here need not do it."""
        self.state = replace(self.state, reported=self.state.round)

    def checkpoint_writer(self, path: Path) -> Callable[[], None]:
        """What writes the present state to a folder when it is called, in whatever thread and however late."""
        # as they are now: callbacks go on counting
        states = {
            c.state_key: copy.deepcopy(own) for c in self.callbacks if (own := c.state_dict())
        }
        history = [dict(row) for row in self.state.history]
        state = replace(self.state, callbacks=states, history=history)
        return self.run.checkpoint_writer(path, state, self.module.timers)

    # ---------------------------------------------------------------- evaluation

    def act_as_server(self) -> FederatedModule:
        """Make the module the server with the last broadcast, which is the global model, and return it."""
        act_as_server(self.training.resident, self.state)
        return self.module

    def act_as_client(self, index: int) -> FederatedModule:
        """Make the module a client at the start of its next round, and return it."""
        client = self.selection.client_at(self.state, index)
        act_as_client(self.training.resident, self.state, client)
        return self.module

    def evaluate(
        self,
        sets: Mapping[str, Dataset],
        split: Literal["validation", "test"],
        limit: int | float,
    ) -> dict[str, float]:
        """Evaluate the global model and, where clients have models of their own, each of these.

        Args:
            sets: Rows by name. Metrics of all but the first end in ``/<name>``.
            split: Which of the module's steps is run.
            limit: Batches of each set, as a count or a fraction.
        """
        everyone = self.selection.everyone(self.state)
        loop = self.training.evaluation
        return evaluate_federation(loop, self.state, everyone, sets, split, limit)

    def predict(self, sets: Sequence[Dataset], limit: int | float) -> list[Any]:
        """What the global model's ``predict_step`` returns for every batch of the sets, in order."""
        self.act_as_server()
        return [o for rows in sets for o in self.training.evaluation.predict(rows, limit)]

    def predicted_rows(
        self,
        sets: Mapping[str, Dataset],
        limit: int | float,
        client: int | None,
        settings: GenerationSettings,
    ) -> Iterator[dict[str, Any]]:
        """What the global model says of each row, see :func:`~lit_fed.federation.predictions.predicted_rows`.

        Args:
            sets: Rows by name.
            limit: Batches of each set, as a count or a fraction.
            client: The position of the client whose own model it is. None: the global model.
            settings: How texts are generated, where the model does.
        """
        self._act_as(client)
        yield from predicted_rows(self.training.evaluation, sets, limit, settings)
        self.act_as_server()

    def generate(
        self, rows: Dataset | Sequence[str], settings: GenerationSettings, client: int | None
    ) -> list[str]:
        """What the global model, or a client's own, answers to rows or prompts.

        Args:
            rows: Rows of the data module's kind, or prompts.
            settings: How texts are generated.
            client: The position of the client whose own model answers. None: the global model.
        """
        self._act_as(client)
        try:
            return generated_texts(self.training.evaluation, rows, settings)
        finally:
            self.act_as_server()

    def classify(self, rows: Dataset, client: int | None) -> npt.NDArray[np.float64]:
        """The probabilities that the global model, or a client's own, gives the classes of rows, [N, C].

        Args:
            rows: N rows.
            client: The position of the client whose own model it is. None: the global model.
        """
        self._act_as(client)
        found = class_probabilities(self.training.evaluation, rows)
        self.act_as_server()
        return found

    def check_generation(self, rows: Dataset | Sequence[str], settings: GenerationSettings) -> None:
        """Raise where :meth:`generate` would, before anything takes time."""
        check_generation(self.training.evaluation, rows, settings)

    def _act_as(self, client: int | None) -> None:
        if client is None:
            self.act_as_server()
        else:
            self.act_as_client(client)
