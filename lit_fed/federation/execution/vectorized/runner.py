"""The modules that play clients together on one resident model."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch

from lit_fed.backbones import Backbone
from lit_fed.client import Client
from lit_fed.federation.client.local_training import LocalTraining
from lit_fed.federation.client.resident_module import ResidentModule
from lit_fed.federation.execution.execution import Failed, Finished
from lit_fed.federation.execution.vectorized.client_backbone import (
    BackwardRequest,
    ClientView,
    ForwardRequest,
    StepRequest,
    client_backbone,
)
from lit_fed.federation.execution.vectorized.client_thread import ClientThread
from lit_fed.federation.execution.vectorized.random_streams import SERVER, RandomStreams
from lit_fed.federation.execution.vectorized.stacked_steps import StackedSteps
from lit_fed.federation.execution.vectorized.vectorizable import CannotVectorize
from lit_fed.federation.execution.vectorized.vectorized_model import VectorizedModel
from lit_fed.perturbations import OutputPerturbation, Perturbation

if TYPE_CHECKING:
    from lit_fed.federation.trainer import FederatedTrainer
    from lit_fed.module import FederatedModule


class Slot(LocalTraining):
    """One of the places at which a client can train: a module of its own, on the resident backbones.

    Args:
        trainer: The trainer.
        client: The number of the slot.
        models: The resident backbones.
    """

    def __init__(
        self, trainer: FederatedTrainer, client: int, models: Sequence[VectorizedModel]
    ) -> None:
        resident = trainer.lightning_module
        shared = (trainer, trainer.fabric, trainer.datamodule, resident.client, resident._trainer)
        memo: dict[int, Any] = {id(one): one for one in shared}
        self.views: list[ClientView] = []
        for model in models:
            facade: Any = client_backbone(model.backbone, model.own_parameters(client), memo)
            facade.view = ClientView(client, model.backbone, facade, model.places)
            facade.ask = self.ask
            self.views.append(facade.view)
            memo[id(model.backbone)] = facade
        try:
            self.module: FederatedModule = copy.deepcopy(resident, memo)
        except TypeError as error:
            raise CannotVectorize(
                f"{type(resident).__name__}, of which there is no copy for each client ({error}),"
            ) from error
        super().__init__(trainer, ResidentModule(self.module, like=trainer.resident))
        self.thread: ClientThread | None = None
        self.default_dtype = torch.get_default_dtype()

    def ask(self, request: Any) -> Any:
        """Client: wait for an answer."""
        if self.thread is None:
            raise RuntimeError("a client's backbone is expected to be used by the client alone")
        with self.trainer.timers.excluded():
            return self.thread.ask(request)

    def begin(self, client: Client) -> None:
        """Make ready for a client, which does not move yet."""
        self.default_dtype = torch.get_default_dtype()
        device = self.trainer.fabric.device
        kind = device.type
        enabled, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)

        def work(thread: ClientThread) -> Finished:
            with torch.autocast(kind, dtype=dtype, enabled=enabled):
                return self.run(client)

        self.thread = ClientThread(work, device)

    def end(self) -> None:
        """Leave the slot, also in the middle of training."""
        if self.thread is not None and self.thread.alive:
            self.thread.abandon()
        self.thread = None
        self.module.metric_averager = None

    def backward(self, loss: torch.Tensor) -> None:
        """Client: wait for the backward pass."""
        if loss.requires_grad and loss.numel() == 1:
            self.ask(BackwardRequest(loss))
        else:  # which fails, as it does for a client that is alone
            super().backward(loss)

    def update(self, optimizer: Any) -> None:
        """Client: wait for the optimizer's step."""
        self.ask(StepRequest(optimizer))


class VectorizedRunner:
    """Several clients' modules on one resident one, which is there once.

    Everything of a method that is not a backbone's frozen part is each client's own.

    Args:
        trainer: The trainer with its module.
        size: n, how many clients train together.

    Raises:
        CannotVectorize: If the method or its backbone cannot be vectorised.
    """

    def __init__(self, trainer: FederatedTrainer, size: int) -> None:
        self.trainer = trainer
        self.module = trainer.lightning_module
        self.resident = trainer.resident
        self.streams = RandomStreams(trainer.fabric.device)
        _require_known(trainer)
        backbones = [part for part in self.module.modules() if isinstance(part, Backbone)]
        self.models = [VectorizedModel(backbone, size, self.streams) for backbone in backbones]
        self.slots = [Slot(trainer, client, self.models) for client in range(size)]
        own = [[view.parameters for view in slot.views] for slot in self.slots]
        self.steps = StackedSteps([model.stacks for model in self.models], own)

    def train(self, clients: Sequence[Client]) -> list[Finished | Failed]:
        """Train at most n clients together.

        Returns:
            One result for each, in their order.
        """
        slots = self.slots[: len(clients)]
        with ExitStack() as stack:
            stack.callback(self._give_back)
            for model in self.models:
                stack.enter_context(model.undisturbed())
            for slot, client in zip(slots, clients, strict=True):
                stack.callback(slot.end)
                slot.begin(client)
            self._serve(slots)
            return [_result(slot, client) for slot, client in zip(slots, clients, strict=True)]

    def _serve(self, slots: Sequence[Slot]) -> None:
        """Answer requests until all clients are done.

        Steps come first, so that clients stay together, and backward passes last, all as one.
        """
        ready: deque[tuple[int, Any]] = deque((number, None) for number in range(len(slots)))
        forwards: dict[int, ForwardRequest] = {}
        backwards: dict[int, BackwardRequest] = {}
        steps: dict[int, StepRequest] = {}
        while ready or forwards or backwards or steps:
            while ready:
                number, answer = ready.popleft()
                request = self._resume(number, answer)
                if isinstance(request, ForwardRequest):
                    forwards[number] = request
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
            else:
                ready.extend(self._backward(backwards))
                backwards = {}

    def _resume(self, number: int, answer: Any) -> Any:
        """Let a client go on; what it asks for next, None if it has ended."""
        slot = self.slots[number]
        thread: Any = slot.thread
        self.streams.enter(number)
        with self._playing(slot):
            thread.resume(answer)
        if isinstance(thread.error, CannotVectorize) or (
            thread.error is not None and not isinstance(thread.error, Exception)
        ):
            raise thread.error
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
            with self.trainer.timers("forward"):
                predictions = model.forward(numbers, [requests[n] for n in numbers])
            return list(zip(numbers, predictions, strict=True))
        except (CannotVectorize, torch.OutOfMemoryError):
            raise
        except Exception as error:
            if len(numbers) == 1:
                return [(numbers[0], error)]
            # One of them did it, and is to fail alone.
            self.streams.restore(states)
            alone = [self._together(model, [number], requests) for number in numbers]
            return [answer for answers in alone for answer in answers]

    def _backward(self, requests: dict[int, BackwardRequest]) -> list[tuple[int, Any]]:
        if not requests:
            return []
        answer: Any = None
        try:
            losses = [request.loss.reshape(()) for request in requests.values()]
            with self.trainer.timers("backward"):
                self.trainer.fabric.backward(torch.stack(losses).sum())
        except Exception as error:
            answer = error
        for place, model in enumerate(self.models):
            model.hand_out_gradients([slot.views[place] for slot in self.slots])
        return [(number, answer) for number in requests]

    def _step(self, requests: dict[int, StepRequest]) -> list[tuple[int, Any]]:
        answer: Any = None
        try:
            with self.trainer.timers("optimizer"):
                self.steps.step({number: request.optimizer for number, request in requests.items()})
        except Exception as error:
            answer = error
        return [(number, answer) for number in requests]

    @contextmanager
    def _playing(self, slot: Slot) -> Iterator[None]:
        """Let a client's module be the trainer's, so that hooks and evaluations get that one.

        Its default dtype, which precision plugins change for a while, is its own as well.
        """
        trainer, wrapped = self.trainer, self.trainer.wrapped_module
        trainer.lightning_module = trainer.wrapped_module = slot.module
        default = torch.get_default_dtype()
        torch.set_default_dtype(slot.default_dtype)
        try:
            yield
        finally:
            slot.default_dtype = torch.get_default_dtype()
            torch.set_default_dtype(default)
            trainer.lightning_module, trainer.wrapped_module = self.module, wrapped

    def _give_back(self) -> None:
        self.steps.release()
        self.streams.enter(SERVER)


def _result(slot: Slot, client: Client) -> Finished | Failed:
    thread: Any = slot.thread
    result: Finished | None = thread.result
    return Failed(client, thread.error) if result is None else result


def _require_known(trainer: FederatedTrainer) -> None:
    module = trainer.lightning_module
    if getattr(trainer.wrapped_module, "_forward_module", module) is not module:
        raise CannotVectorize(
            f"a model that `trainer.strategy` {type(trainer.fabric.strategy).__name__} wraps"
        )
    for part in module.modules():
        if isinstance(part, Perturbation) and not isinstance(part, OutputPerturbation):
            raise CannotVectorize(f"{type(part).__name__}, which changes the model's weights,")
