"""A client's round: from a broadcast, what has lasted of the client, and its rows to an update."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from lightning.fabric import Fabric
from torch import Tensor

from lit_fed.attachment import Attachment, attachment_names, overrides
from lit_fed.backbones import BlackBox, Prediction
from lit_fed.batch_in_step import BatchInStep
from lit_fed.client import Client
from lit_fed.data import FederatedDataModule
from lit_fed.federation.client.accumulation import Accumulation
from lit_fed.federation.client.client_state import ClientState
from lit_fed.federation.client.evaluation_loop import EvaluationLoop
from lit_fed.federation.client.events import Events
from lit_fed.federation.client.given import (
    check_upload,
    checked_metrics,
    require_counts,
    require_finite_metrics,
    require_payload,
    require_payloads,
)
from lit_fed.federation.client.local_batches import LocalBatch, local_batches
from lit_fed.federation.client.local_optimizer import LocalOptimizer, LocalSchedule, configured
from lit_fed.federation.client.local_settings import LocalSettings
from lit_fed.federation.client.optimizer_state import load_optimizer_tensors, optimizer_tensors
from lit_fed.federation.client.process_state import undisturbed
from lit_fed.federation.client.received import received
from lit_fed.federation.client.resident_module import ResidentModule
from lit_fed.federation.client.results import ClientRound, Failed, Finished
from lit_fed.federation.client.unprotected_steps import with_unprotected_steps
from lit_fed.federation.randomness import reseed
from lit_fed.losses import counted_means
from lit_fed.methods.teachers import teachers_of
from lit_fed.metric_averager import MetricAverager, of_this_process, reset_metrics
from lit_fed.module import FederatedModule, gradients
from lit_fed.payload import Payload
from lit_fed.stage import Stage
from lit_fed.update import Update

if TYPE_CHECKING:
    from datasets import Dataset
    from torch.optim import Optimizer


Gradient = Callable[[int], AbstractContextManager[None]]


def _the_only_one(number: int) -> AbstractContextManager[None]:
    return nullcontext()


class LocalTraining:
    """Runs a client's round on the resident module. It needs no trainer, no server and no other client.

    The module's Lightning hooks are called where a stock Trainer calls them; a stage of a round is to them
    what a fit is there.

    Args:
        resident: The module, which acts as the client.
        data: Has the client's rows and makes batches of them.
        fabric: The device, the precision and the processes.
        settings: How much and how it trains.
        events: What happens is reported to it. None: to the module alone.
        attachments: What is done from outside to rows, teachers' predictions and uploads, in order.
    """

    processes_share_clients: ClassVar[bool] = False
    """Whether all processes train each client together, on rows of their own."""

    def __init__(
        self,
        resident: ResidentModule,
        data: FederatedDataModule,
        fabric: Fabric,
        settings: LocalSettings,
        events: Events | None = None,
        attachments: Sequence[Attachment] = (),
    ) -> None:
        self.resident = resident
        self.data = data
        self.fabric = fabric
        self.settings = settings
        self.events = events or Events()
        self.attachments = attachments
        self._first_scale: dict[str, Any] | None = None
        self.evaluation = EvaluationLoop(resident, data, fabric, self.events)
        self._accumulation = Accumulation(())

    @property
    def module(self) -> FederatedModule:
        """The module that acts as the client."""
        return self.resident.module

    # ---------------------------------------------------------------- a round

    def attempt(self, start: ClientRound) -> Finished | Failed:
        """Run a client's round; whatever the client raises leaves it out.

        Raises:
            Exception: What a listener, such as a callback, raises: it is the run's, not the client's.
        """
        try:
            with undisturbed(self.fabric.device.type):
                return self.run(start.client, start.broadcast, start.before)
        except Exception as error:  # a client must not bring the federation down, whatever it does
            if error is self.events.raised:
                raise
            return Failed(start.client, error)
        finally:
            self.leave()

    def leave(self) -> None:
        """Let the module log and clip nowhere any more, and count nothing, also where its training was broken off."""
        self.module.metric_averager = None
        reset_metrics(self.module)
        self.module.gradient_clipper = None
        self.module.gradient_taker = None
        self.module.term_listener = None
        for teacher in teachers_of(self.module):
            teacher.transform = None

    def run(self, client: Client, broadcast: Payload, before: ClientState) -> Finished:
        """Train a client.

        Args:
            client: The client.
            broadcast: What it downloads.
            before: What has lasted of it.

        Raises:
            RuntimeError: If its method prepares and it has not.
            TypeError: If its method gives something else than payloads, or a metric's name is no text.
            ValueError: If its training metrics or its upload are not finite, its upload is not what the server
                expects, or a metric's name cannot be printed. Whatever else its training raises goes through.
        """
        own = () if self.processes_share_clients else self.module.modules()
        with of_this_process(own):
            return self._run(client, broadcast, before)

    def _run(self, client: Client, broadcast: Payload, before: ClientState) -> Finished:
        # what the method makes of its own copy is checked, and reaches nobody
        start, client = client, copy.deepcopy(client)
        id, num_samples, done = client.id, client.num_samples, client.steps
        module, settings, timers = self.module, self.settings, self.module.timers
        if module.prepares and before.prepared is None:
            raise RuntimeError(f"client {client.id!r} is expected to have prepared, but it has not")
        reseed(settings.seed, client.round, client.index)
        self._start_scaler()
        names = attachment_names(self.attachments)
        attached = [
            (number, name, attachment)
            for number, (name, attachment) in enumerate(zip(names, self.attachments, strict=True))
            if attachment.acts_on(client)
        ]
        with timers("download"):
            self.resident.act_as_client(client, before, broadcast)
        expected = module.expected_upload()
        self.events.report(module, "on_client_start", client)

        module.train()
        module.metric_averager = averager = MetricAverager()
        module.gradient_clipper = self._clip
        module.gradient_taker = self.gradients
        self._attach_to_teachers(client, [attachment for *_, attachment in attached])
        own = self.data.client_data(client.id, client.task)
        rows = self.trained_rows(client, client.task)
        for *_, attachment in attached:
            rows = attachment.rows(client, rows)
        for *_, attachment in attached:
            attachment.trained_on(client, rows)
        # of parameters that another round trains as well
        moments = dict(before.optimizer.tensors) if settings.keep_optimizer_state else {}
        for number, stage in enumerate(module.stages):
            optimizer = self._run_stage(client, number, stage, rows, before.optimizer, averager)
            if settings.keep_optimizer_state:
                moments |= optimizer_tensors(optimizer, stage.name, module)
        module.eval()
        metrics = self.means(averager)
        require_finite_metrics(metrics)
        if self._validates(client):
            held_out = self.data.validation if own.validation is None else own.validation
            with timers("evaluation"):
                metrics |= self.evaluation.evaluate(
                    held_out, "validation", settings.limit_val_batches
                )

        module.metric_averager = averager = MetricAverager()
        with timers("upload"), self.fabric.autocast():
            upload = require_payload(module.upload(), f"upload() of {type(module).__name__}")
        metrics |= self.means(averager)
        require_finite_metrics(metrics)
        what = f"the upload of client {id!r}"
        check_upload(upload, expected, broadcast, what)
        memories: dict[str, Payload] = {}
        for number, name, attachment in attached:
            memory = before.attachments.parts.get(name, Payload())
            # whatever training has drawn, which differs between executions
            reseed(settings.seed, client.round, client.index, 0, 0, number)
            sent = attachment.upload(client, upload, broadcast, memory)
            upload, memories[name] = require_payloads(
                sent, f"upload() of {type(attachment).__name__}"
            )
        require_counts(client, id, done)
        update = Update(id, upload, num_samples, before.rounds + 1, checked_metrics(metrics))
        seen = received(self.attachments, start, update, broadcast)
        if attached:
            check_upload(seen.payload, expected, broadcast, what, converted=True)
        module.check_update(seen)
        state = ClientState(
            client.steps,
            before.rounds + 1,
            self._private_state(),
            Payload(moments),
            dict(client.stage_steps),
            before.prepared,
            Payload(parts={name: memory for name, memory in memories.items() if memory}),
            with_unprotected_steps(before.privacy, client.steps - before.steps),
        )
        return Finished(update, state)

    def prepare(self, start: ClientRound) -> Payload:
        """What the method's ``prepare`` makes of a client's rows, from where its next round starts.

        Args:
            start: The client, what it downloads, and what has lasted of it.
        """
        client = copy.deepcopy(start.client)
        reseed(self.settings.seed, client.round, client.index, 0)
        self.resident.act_as_client(client, start.before, start.broadcast)
        # of all tasks, since it prepares once; a trial run is within one task
        rows = self.trained_rows(client, client.task if self.settings.fast_dev_run else None)
        for attachment in self.attachments:
            if attachment.acts_on(client):
                rows = attachment.rows(client, rows)
        training = self.module.training
        self.module.eval()
        what = f"prepare() of {type(self.module).__name__}"
        try:
            with (
                self.module.timers("prepare"),
                self.fabric.autocast(),
                of_this_process(self.module.modules()),
            ):
                return require_payload(self.module.prepare(rows), what)
        finally:
            self.module.train(training)

    def trained_rows(self, client: Client, task: str | None) -> Dataset:
        """A client's rows or, in a trial run, as many of them as are trained on.

        Args:
            client: The client.
            task: Of this task alone. None: all of them.
        """
        rows = self.data.client_data(client.id, task).rows
        if not self.settings.fast_dev_run:
            return rows
        return rows.select(range(min(len(rows), self.settings.fast_dev_run * self.data.batch_size)))

    def _validates(self, client: Client) -> bool:
        """Whether the client's model is validated at the end of this round."""
        module, settings = self.module, self.settings
        if not settings.validate_clients or isinstance(module.backbone, BlackBox):
            return False
        due = (client.round + 1) % settings.check_val_every_n_rounds == 0
        return due or module.has_global_model or module.needs_client_validation

    def stage_rows(self, rows: Dataset, stage: str) -> Dataset:
        """The rows of a stage, which the method's teachers get to read as well.

        Args:
            rows: The client's rows.
            stage: The name of the stage, which has started.
        """
        rows = self.module.local_data(rows, stage)
        for teacher in teachers_of(self.module):
            teacher.read(self.data, rows)
        return rows

    def _private_state(self) -> Payload:
        """What the method keeps of the client, which the client has to be able to take back."""
        module = self.module
        state = require_payload(
            module.private_state(), f"private_state() of {type(module).__name__}"
        )
        # what fails here would fail in the client's next round or in an evaluation of its model
        module.load_private_state(state)
        return state

    def _attach_to_teachers(self, client: Client, attached: Sequence[Attachment]) -> None:
        acting = [one for one in attached if overrides(one, "teacher_prediction")]

        def transform(batch: Mapping[str, Tensor], prediction: Prediction) -> Prediction:
            for attachment in acting:
                prediction = attachment.teacher_prediction(client, batch, prediction)
            return prediction

        for teacher in teachers_of(self.module):
            teacher.transform = transform if acting else None

    def _start_scaler(self) -> None:
        """Let every client begin with the scale of losses that a run begins with, whoever has trained before it."""
        scaler = getattr(self.fabric.strategy.precision, "scaler", None)
        if scaler is None or not scaler.is_enabled():
            return
        if self._first_scale is None:
            self._first_scale = scaler.state_dict()
        scaler.load_state_dict(self._first_scale)

    # ---------------------------------------------------------------- a stage

    def _run_stage(
        self,
        client: Client,
        number: int,
        stage: Stage,
        rows: Dataset,
        moments: Payload,
        averager: MetricAverager,
    ) -> Optimizer:
        module, events, timers = self.module, self.events, self.module.timers
        module.stage = stage
        module.start_stage(stage.name)
        rows = self.stage_rows(rows, stage.name)
        plain, schedule = configured(module.configure_optimizers())
        self.resident.require_own(plain)
        load_optimizer_tensors(plain, stage.name, module, moments)
        optimizer: Any = self.fabric.setup_optimizers(plain)
        batches = self.batches(client, rows, number, stage)
        module.on_train_start()
        epoch, skipped = -1, -1
        while True:
            with timers("data"):
                local = next(batches, None)
            if epoch >= 0 and (local is None or local.epoch != epoch):
                module.on_train_epoch_end()
            if local is None:
                break
            if local.epoch == skipped:
                continue
            if local.epoch != epoch:
                epoch = local.epoch
                module.on_train_epoch_start()
            with timers("data"):
                batch = self._on_device(local.batch)
            with averager.during(local.batch):
                if events.report(module, "on_train_batch_start", batch, local.index) == -1:
                    skipped = epoch  # as Lightning has it: the rest of this pass over the rows
                    continue
                outputs = self._train_batch(client, local, batch, optimizer, schedule)
                if local.ends_epoch and schedule is not None:
                    schedule.epoch_ended(module)
                events.report(module, "on_train_batch_end", outputs, batch, local.index)
        module.on_train_end()
        optimizer.zero_grad(set_to_none=True)
        return plain

    def _train_batch(
        self,
        client: Client,
        local: LocalBatch,
        batch: dict[str, Tensor],
        optimizer: Any,
        schedule: LocalSchedule | None,
    ) -> dict[str, Any]:
        """Forward and backward of a batch and, where its step ends, the optimizer's step.

        Returns:
            What the module's ``training_step`` returned, as a dictionary with ``loss``, detached.
        """
        module = self.module
        compute = _Once(partial(self._forward_and_backward, local, batch, optimizer))
        if not local.ends_step:
            compute()
            return compute.outputs

        def closure() -> Tensor | None:
            loss = compute()
            self.events.report(module, "on_before_optimizer_step", optimizer)
            settings = self.settings
            module.configure_gradient_clipping(
                optimizer, settings.gradient_clip_val, settings.gradient_clip_algorithm
            )
            return loss

        with module.timers("optimizer"):
            stepping: Any = LocalOptimizer(optimizer, self.update)
            module.optimizer_step(local.epoch, local.index, stepping, closure)
            client.steps += 1
            stage = module.stage.name
            client.stage_steps[stage] = client.stage_steps.get(stage, 0) + 1
            if schedule is not None:
                schedule.stepped(module)
        return compute.outputs

    def _forward_and_backward(
        self, local: LocalBatch, batch: dict[str, Tensor], optimizer: Any
    ) -> dict[str, Any]:
        module, timers = self.module, self.module.timers
        module.batch_in_step = BatchInStep(local.place, local.accumulated)
        with timers("forward"), counted_means() as means:
            outputs = step_outputs(self.loss(batch, local.index))
        if local.begins_step:
            self.events.report(module, "on_before_zero_grad", optimizer)
            module.optimizer_zero_grad(local.epoch, local.index, optimizer)
            trained = (p for group in optimizer.param_groups for p in group["params"])
            self._accumulation = Accumulation(trained)
        loss, accumulation = outputs["loss"], self._accumulation
        if loss is not None:
            with timers("backward"):
                self.events.report(module, "on_before_backward", loss / local.accumulated)
                if local.accumulated == 1:
                    self.backward([loss])
                else:
                    weight = outputs.get("weight")
                    shares = accumulation.shares(loss, means, weight, local.accumulated)
                    self.backward(shares, accumulation.gradient)
            outputs = {**outputs, "loss": loss.detach()}
        if local.ends_step:
            accumulation.finish()
        if loss is not None:
            self.events.report(module, "on_after_backward")
        return outputs

    def _on_device(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        module = self.module
        batch = module.on_before_batch_transfer(self.own_rows(batch), 0)
        batch = module.transfer_batch_to_device(batch, self.fabric.device, 0)
        moved: dict[str, Tensor] = module.on_after_batch_transfer(batch, 0)
        return moved

    def _clip(self, optimizer: Any, value: float | None, algorithm: str | None) -> None:
        """Bound the gradients, of their norm or each value."""
        if value is None:
            return
        bound = {"clip_val" if algorithm == "value" else "max_norm": value}
        # not an error if it is not finite: the upload's check leaves the client out, without a synchronisation a step
        self.fabric.clip_gradients(
            self.resident.wrapped, optimizer, **bound, error_if_nonfinite=False
        )

    # ---------------------------------------------------------------- what executions do in another way

    def batches(
        self, client: Client, rows: Dataset, number: int, stage: Stage
    ) -> Iterator[LocalBatch]:
        """The batches of a stage; see :func:`~lit_fed.federation.client.local_batches.local_batches`."""
        return local_batches(
            self.data, self.module.tokenizer, self.settings, client, rows, number, stage
        )

    def own_rows(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The rows of a batch that this process takes: all."""
        return batch

    def loss(self, batch: dict[str, Tensor], index: int) -> Any:
        """What the method's ``training_step`` returns for a batch."""
        # Fabric does this for `forward` alone
        with self.fabric.autocast():
            return self.resident.wrapped.training_step(batch, index)

    def means(self, averager: MetricAverager) -> dict[str, float]:
        """What was logged, over all processes that trained the client: one."""
        return averager.compute(self.processes_share_clients)

    def backward(self, losses: Sequence[Tensor], gradient: Gradient = _the_only_one) -> None:
        """Add the gradients of losses, scalars of one graph, to those of the client's parameters.

        Args:
            losses: At least one.
            gradient: Makes the parameters' gradient that of one of them, by its number.
        """
        own = type(self.module).backward is not FederatedModule.backward
        backward = self.module.backward if own else self.fabric.backward
        for number, loss in enumerate(losses):
            again: dict[str, Any] = {"retain_graph": True} if number < len(losses) - 1 else {}
            with gradient(number):
                backward(loss, **again)

    def gradients(self, loss: Tensor, by: Sequence[Tensor] | None = None) -> list[Tensor]:
        """The gradients of a loss beside those that :meth:`backward` adds up.

        Args:
            loss: A scalar.
            by: Leaves of its graph. None: what the client trains.
        """
        if by is None:
            by = [p for p in self.module.parameters() if p.requires_grad]
        return gradients(loss, by)

    def update(self, optimizer: Any) -> None:
        """Let an optimizer change the client's parameters."""
        optimizer.step()


class _Once:
    """A batch's pass, which an optimizer may ask for and which is computed where it does.

    Attributes:
        outputs: What it gave; no loss before it was computed.
    """

    def __init__(self, compute: Callable[[], dict[str, Any]]) -> None:
        self._compute = compute
        self.outputs: dict[str, Any] = {"loss": None}

    def __call__(self) -> Tensor | None:
        self.outputs = self._compute()
        loss: Tensor | None = self.outputs["loss"]
        return loss


def step_outputs(returned: Any) -> dict[str, Any]:
    """What a ``training_step`` returned, as Lightning takes it: a loss, a dictionary with it, or None.

    Raises:
        TypeError: If it is something else.
    """
    if returned is None or isinstance(returned, Tensor):
        return {"loss": returned}
    if isinstance(returned, dict) and isinstance(returned.get("loss"), Tensor):
        rest = {k: v.detach() if isinstance(v, Tensor) else v for k, v in returned.items()}
        return {**rest, "loss": returned["loss"]}
    raise TypeError(
        "training_step is expected to return a loss, a dictionary with `loss`, or None, but returned "
        f"{returned!r:.120}"
    )
