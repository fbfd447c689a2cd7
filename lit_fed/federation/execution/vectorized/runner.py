"""The modules that play clients together on one resident model."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn

from lit_fed.backbones import Backbone
from lit_fed.client import Client
from lit_fed.federation.client.local_training import Gradient, LocalTraining
from lit_fed.federation.client.process_state import ProcessState
from lit_fed.federation.client.resident_module import ResidentModule
from lit_fed.federation.client.results import ClientRound, Failed, Finished
from lit_fed.federation.client.trial import trial
from lit_fed.federation.execution.vectorized.batch_layout import NoCommonLength
from lit_fed.federation.execution.vectorized.client_backbone import (
    BackwardRequest,
    ClientView,
    ForwardRequest,
    GradientRequest,
    StepRequest,
    client_backbone,
)
from lit_fed.federation.execution.vectorized.client_thread import ClientThread
from lit_fed.federation.execution.vectorized.random_streams import SERVER, RandomStreams
from lit_fed.federation.execution.vectorized.stacked_steps import StackedSteps
from lit_fed.federation.execution.vectorized.vectorizable import CannotVectorize
from lit_fed.federation.execution.vectorized.vectorized_model import VectorizedModel
from lit_fed.module import FederatedModule
from lit_fed.perturbations import OutputPerturbation, Perturbation

Work = Callable[["Slot", ClientRound], Any]


def _round(slot: Slot, start: ClientRound) -> Finished:
    return slot.run(start.client, start.broadcast, start.before)


def _trial(slot: Slot, start: ClientRound, batches: int) -> None:
    with trial(slot, start, batches) as steps:
        steps()


class Slot(LocalTraining):
    """One of the places at which a client can train: a module of its own, on the resident backbones.

    Args:
        training: A client's training on the resident module.
        number: The number of the slot.
        models: The resident backbones.
    """

    def __init__(
        self, training: LocalTraining, number: int, models: Sequence[VectorizedModel]
    ) -> None:
        resident = training.module
        shared = (training.fabric, training.data, resident.client, resident._trainer)
        memo: dict[int, Any] = {id(one): one for one in shared}
        self.views: list[ClientView] = []
        for model in models:
            facade: Any = client_backbone(model.backbone, model.own_parameters(number), memo)
            facade.view = ClientView(number, model.backbone, facade, model.places)
            facade.ask = self.ask
            self.views.append(facade.view)
            memo[id(model.backbone)] = facade
        try:
            module: FederatedModule = copy.deepcopy(resident, memo)
        except TypeError as error:
            raise CannotVectorize(
                f"{type(resident).__name__}, of which there is no copy for each client ({error}),"
            ) from error
        super().__init__(
            ResidentModule(module, like=training.resident),
            training.data,
            training.fabric,
            training.settings,
            training.events,
            training.attachments,
        )
        self.thread: ClientThread | None = None
        self.process_state = ProcessState.taken(self.fabric.device.type)

    def ask(self, request: Any) -> Any:
        """Client: wait for an answer."""
        if self.thread is None:
            raise RuntimeError("a client's backbone is expected to be used by the client alone")
        with self.module.timers.excluded():
            return self.thread.ask(request)

    def begin(self, start: ClientRound, work: Work) -> None:
        """Make ready for a client, which does not move yet.

        Args:
            start: What it starts from.
            work: What it does.
        """
        device = self.fabric.device
        kind = device.type
        self.process_state = ProcessState.taken(kind)
        enabled, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)

        def working(thread: ClientThread) -> Any:
            with torch.autocast(kind, dtype=dtype, enabled=enabled):
                return work(self, start)

        self.thread = ClientThread(working, device)

    def end(self) -> None:
        """Leave the slot, also in the middle of training."""
        if self.thread is not None and self.thread.alive:
            self.thread.abandon()
        self.thread = None
        self.leave()

    def backward(self, losses: Sequence[torch.Tensor], gradient: Gradient | None = None) -> None:
        """Client: wait for the backward passes."""
        if type(self.module).backward is not FederatedModule.backward:
            raise CannotVectorize(f"{type(self.module).__name__}.backward, its own,")
        if all(loss.requires_grad and loss.numel() == 1 for loss in losses):
            self.ask(BackwardRequest(tuple(losses), gradient))
        else:  # which fails, as it does for a client that is alone
            super().backward(losses)

    def gradients(
        self, loss: torch.Tensor, by: Sequence[torch.Tensor] | None = None
    ) -> list[torch.Tensor]:
        """Client: wait for the gradients."""
        if by is not None:
            asked: list[torch.Tensor] = self.ask(GradientRequest(loss, [], list(by)))
            return asked
        own = [p for view in self.views for p in view.parameters]
        stacked = {id(p) for p in own}
        trained = [p for p in self.module.parameters() if p.requires_grad]
        found: list[torch.Tensor] = self.ask(
            GradientRequest(loss, own, [p for p in trained if id(p) not in stacked])
        )
        return found

    def update(self, optimizer: Any) -> None:
        """Client: wait for the optimizer's step."""
        self.ask(StepRequest(optimizer))


class VectorizedRunner:
    """Several clients' modules on one resident one, which is there once.

    Everything of a method that is not a backbone's frozen part is each client's own.

    Args:
        training: A client's training on the resident module.
        size: n, how many clients train together.

    Raises:
        CannotVectorize: If the method or its backbone cannot be vectorised.
    """

    def __init__(self, training: LocalTraining, size: int) -> None:
        self.training = training
        self.streams = RandomStreams(training.fabric.device)
        _require_known(training)
        backbones = [part for part in training.module.modules() if isinstance(part, Backbone)]
        self.models = [
            VectorizedModel(backbone, size, self.streams, training.resident.can_change(backbone))
            for backbone in backbones
        ]
        self.slots = [Slot(training, number, self.models) for number in range(size)]
        own = [[view.parameters for view in slot.views] for slot in self.slots]
        self.steps = StackedSteps([model.stacks for model in self.models], own)

    def train(self, starts: Sequence[ClientRound]) -> list[Finished | Failed]:
        """Train at most n clients together.

        Returns:
            One result for each, in their order.
        """
        try:
            return self._train(starts)
        except _OneOfThemFailed as failed:
            # Half of what they share is computed by now. A round follows from where it starts, so that each can
            # begin again, and the one that did it fails alone.
            names = ", ".join(repr(start.client.id) for start in starts)
            rank_zero_warn(
                f"clients {names} train one after the other in this round, since {failed} failed for all of them "
                f"together: {Failed(starts[0].client, failed.error).error}"
            )
            return [result for start in starts for result in self._train([start])]

    def try_steps(self, starts: Sequence[ClientRound], batches: int) -> None:
        """Take a few training steps of at most n clients together, of which nothing is left.

        Where one of them fails for all, they end there: the round will tell which it is.

        Args:
            starts: What each client starts from.
            batches: How many of its batches, at most.
        """
        with suppress(_OneOfThemFailed), self._done(starts, partial(_trial, batches=batches)):
            return

    def _train(self, starts: Sequence[ClientRound]) -> list[Finished | Failed]:
        with self._done(starts, _round) as slots:
            return [_result(slot, s.client) for slot, s in zip(slots, starts, strict=True)]

    @contextmanager
    def _done(self, starts: Sequence[ClientRound], work: Work) -> Iterator[list[Slot]]:
        """The slots whose clients have done their work, before they leave."""
        slots = self.slots[: len(starts)]
        with ExitStack() as stack:
            stack.callback(self._give_back)
            for model in self.models:
                stack.enter_context(model.undisturbed())
            for slot, start in zip(slots, starts, strict=True):
                stack.callback(slot.end)
                slot.settings = self.training.settings  # which a callback may have changed
                slot.begin(start, work)
            self._serve(slots)
            yield slots

    def _serve(self, slots: Sequence[Slot]) -> None:
        """Answer requests until all clients are done.

        Steps come first, so that clients stay together, and backward passes last, all as one; gradients, which
        need the graphs that a backward pass frees, right before.
        """
        ready: deque[tuple[int, Any]] = deque((number, None) for number in range(len(slots)))
        forwards: dict[int, ForwardRequest] = {}
        gradients: dict[int, GradientRequest] = {}
        backwards: dict[int, BackwardRequest] = {}
        steps: dict[int, StepRequest] = {}
        while ready or forwards or gradients or backwards or steps:
            while ready:
                number, answer = ready.popleft()
                request = self._resume(number, answer)
                if isinstance(request, ForwardRequest):
                    forwards[number] = request
                elif isinstance(request, GradientRequest):
                    gradients[number] = request
                elif isinstance(request, BackwardRequest):
                    backwards[number] = request
                elif request is not None:
                    steps[number] = request
            if steps:
                ready.extend(self._step(steps))
                steps = {}
            elif forwards:
                ready.extend(self._forward(forwards))
                forwards = {}
            elif gradients:
                ready.extend(self._gradients(gradients))
                gradients = {}
            else:
                ready.extend(self._backward(backwards))
                backwards = {}

    def _resume(self, number: int, answer: Any) -> Any:
        """Let a client go on; what it asks for next, None if it has ended."""
        slot = self.slots[number]
        thread: Any = slot.thread
        self.streams.enter(number)
        with _own_process_state(slot):
            thread.resume(answer)
        error = thread.error
        if error is not None and (
            isinstance(error, CannotVectorize)
            or not isinstance(error, Exception)
            or error is self.training.events.raised
        ):
            raise error
        return thread.request

    def _forward(self, requests: dict[int, ForwardRequest]) -> Iterator[tuple[int, Any]]:
        kinds: dict[Any, list[int]] = {}
        for number, request in requests.items():
            kinds.setdefault(request.kind, []).append(number)
        for numbers in kinds.values():
            resident = requests[numbers[0]].view.resident
            model = next(m for m in self.models if m.backbone is resident)
            yield from self._together(model, numbers, requests)

    def _together(
        self, model: VectorizedModel, numbers: Sequence[int], requests: dict[int, ForwardRequest]
    ) -> list[tuple[int, Any]]:
        states = self.streams.snapshot()
        try:
            with self.training.module.timers("forward"):
                predictions = model.forward(numbers, [requests[n] for n in numbers])
            return list(zip(numbers, predictions, strict=True))
        except CannotVectorize:
            raise
        except NoCommonLength:
            self.streams.restore(states)
            alike: dict[int, list[int]] = {}
            for number in numbers:
                tokens = requests[number].batch["input_ids"].shape[1]
                alike.setdefault(tokens, []).append(number)
            parts = [self._together(model, own, requests) for own in alike.values()]
            return [answer for answers in parts for answer in answers]
        except torch.OutOfMemoryError as error:  # one alone may fit
            return _alone({n: requests[n] for n in numbers}, error, "a forward pass")
        except Exception as error:
            if len(numbers) == 1:
                return [(numbers[0], error)]
            # One of them did it, and is to fail alone.
            self.streams.restore(states)
            alone = [self._together(model, [number], requests) for number in numbers]
            return [answer for answers in alone for answer in answers]

    def _gradients(self, requests: dict[int, GradientRequest]) -> list[tuple[int, Any]]:
        """The gradients of all that is asked for in one pass, since no client's loss depends on another's leaves."""
        stacks = [stack for model in self.models for stack in model.stacks]
        if not any(request.own for request in requests.values()):
            stacks = []  # of leaves of the clients' own alone, as of perturbations
        # the client's own are in the graphs of terms that take weights past the model, as of their norm
        others = [p for r in requests.values() for p in (*r.own, *r.others) if p.requires_grad]
        total = torch.stack([request.loss.reshape(()) for request in requests.values()]).sum()
        try:
            found = torch.autograd.grad(
                total, [*stacks, *others], retain_graph=True, allow_unused=True
            )
        except Exception as error:
            return _alone(requests, error, "a backward pass")
        direct = {id(p): g for p, g in zip(others, found[len(stacks) :], strict=True)}
        answers: list[tuple[int, Any]] = []
        for number, request in requests.items():
            taken: list[torch.Tensor] = []
            # a request of none of them has none
            for stack, parameter in zip(
                found[: len(stacks)], request.own, strict=bool(request.own)
            ):
                through = None if stack is None else stack[number]
                parts = [g for g in (through, direct.get(id(parameter))) if g is not None]
                if parts:
                    taken.append(torch.stack(parts).sum(0))
            taken += [g for p in request.others if (g := direct[id(p)]) is not None]
            answers.append((number, taken))
        return answers

    def _backward(self, requests: dict[int, BackwardRequest]) -> list[tuple[int, Any]]:
        if not requests:
            return []
        passes = max(len(request.losses) for request in requests.values())
        try:
            for turn in range(passes):
                self._backward_pass(requests, turn, turn == passes - 1)
        except Exception as error:
            return _alone(requests, error, "a backward pass")
        finally:
            for model in self.models:
                model.forget_use()
        return [(number, None) for number in requests]

    def _backward_pass(self, requests: dict[int, BackwardRequest], turn: int, last: bool) -> None:
        """The clients' losses of one number, all as one."""
        asking = {n: request for n, request in requests.items() if turn < len(request.losses)}
        losses = [request.losses[turn].reshape(()) for request in asking.values()]
        with ExitStack() as gradients:
            for request in asking.values():
                if request.gradient is not None:
                    gradients.enter_context(request.gradient(turn))
            try:
                with self.training.module.timers("backward"):
                    again: dict[str, Any] = {} if last else {"retain_graph": True}
                    self.training.fabric.backward(torch.stack(losses).sum(), **again)
            finally:
                for place, model in enumerate(self.models):
                    views = [slot.views[place] for slot in self.slots]
                    model.hand_out_gradients(views, asking.keys())

    def _step(self, requests: dict[int, StepRequest]) -> list[tuple[int, Any]]:
        try:
            with self.training.module.timers("optimizer"):
                self.steps.step({number: request.optimizer for number, request in requests.items()})
        except Exception as error:
            return _alone(requests, error, "an optimizer's step")
        return [(number, None) for number in requests]

    def _give_back(self) -> None:
        self.steps.release()
        self.streams.enter(SERVER)


class _OneOfThemFailed(Exception):
    """What clients do together has failed, and which of them did it cannot be told."""

    def __init__(self, error: Exception, what: str) -> None:
        super().__init__(what)
        self.error = error


def _alone(requests: Mapping[int, Any], error: Exception, what: str) -> list[tuple[int, Any]]:
    """The error as the answer to the only client that can have made it.

    Raises:
        _OneOfThemFailed: If there are several.
    """
    if len(requests) > 1:
        raise _OneOfThemFailed(error, what) from error
    return [(number, error) for number in requests]


@contextmanager
def _own_process_state(slot: Slot) -> Iterator[None]:
    """Let a client have settings of the process of its own, such as the default dtype of a precision plugin."""
    kind = slot.process_state.device_type
    others = ProcessState.taken(kind)
    slot.process_state.restore()
    try:
        yield
    finally:
        slot.process_state = ProcessState.taken(kind)
        others.restore()


def _result(slot: Slot, client: Client) -> Finished | Failed:
    thread: Any = slot.thread
    result: Finished | None = thread.result
    return Failed(client, thread.error) if result is None else result


def _require_known(training: LocalTraining) -> None:
    module = training.module
    if getattr(training.resident.wrapped, "_forward_module", module) is not module:
        raise CannotVectorize(
            f"a model that `trainer.strategy` {type(training.fabric.strategy).__name__} wraps"
        )
    for part in module.modules():
        if isinstance(part, Perturbation) and not isinstance(part, OutputPerturbation):
            raise CannotVectorize(f"{type(part).__name__}, which changes the model's weights,")
