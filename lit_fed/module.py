"""The LightningModule that every method extends: its local training and the client–server protocol."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, NoneType
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.core.mixins import HyperparametersMixin
from lightning.pytorch.utilities.parsing import collect_init_args
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from lit_fed.backbones import Backbone, Prediction, SequenceClassifier
from lit_fed.backbones.master_weights import require_wide, widening
from lit_fed.batch_in_step import ONE_BATCH, BatchInStep
from lit_fed.checkpoint_files import checkpoint_in
from lit_fed.client import Client
from lit_fed.limits import require_at_least, require_instance, require_positive
from lit_fed.losses import cross_entropy
from lit_fed.metric_averager import MetricAverager, reduction_of
from lit_fed.metrics.running_sums import sum_dtype
from lit_fed.payload import Payload
from lit_fed.saved_run import built_from_config, global_state, saved_ends, saved_label_names
from lit_fed.specification import Specification
from lit_fed.stage import Stage
from lit_fed.suggestion import did_you_mean
from lit_fed.timers import Timers
from lit_fed.update import Update, norm_of_change

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.data import FederatedDataModule


class FederatedModule(LightningModule):
    """A federated method: what a client trains, what it sends, and what the server makes of it.

    One module plays every part in turn. For a client, the trainer resets all trainable values to
    those the module was built with and calls :meth:`act_as`, then :meth:`load_private_state` (if the
    client has been here before), :meth:`download`, per stage :meth:`start_stage`, :meth:`local_data`
    and the training steps, :meth:`upload` and :meth:`private_state`. Before its first round a client may
    :meth:`prepare`, from the same start. For the server it resets and calls
    :meth:`act_as`, :meth:`load_server_state`, :meth:`download` with the last broadcast,
    :meth:`aggregate` and :meth:`server_state`. So a method never sees what another client left
    behind, and everything that lasts is a :class:`~lit_fed.Payload`.

    Args:
        backbone: The model, its tokenizer and its trainable part. None: the embedded classifier.
        optimizer: Makes the client's optimizer of the trainable parameters; a new one for every
            client, round and stage. The default's learning rate fits adapters; where all weights are
            trained (``peft: null``), 2e-5 is usual.
        warmup_steps: Linear warm-up of the learning rate over the client's first own steps, counted
            across rounds. 0: none.
        lr_factors: What the learning rate of single clients is multiplied by, by their ids; that of all others
            is the optimizer's own. None: all have that.

    Raises:
        TypeError: If the backbone is no :class:`~lit_fed.backbones.Backbone`, or the optimizer no function.
        ValueError: If ``warmup_steps`` is negative, or a factor not above 0.

    Attributes:
        has_global_model: Whether the broadcast makes a model of its own. Where it does not, clients'
            models are evaluated instead.
        needs_client_validation: Whether the method takes what clients are validated with in every round.
        generates: Whether clients' models write texts in their rounds.
        needs_privacy: Whether clients may only train with ``trainer.privacy``.
        has_client_models: Whether clients have models of their own beside the global one, which evaluations report
            and exports write as well.
        stages: The parts of a client's local training in their order, each with its own rows, optimizer,
            schedule and number of steps.
        stage: The stage under way; the first one in a stock Trainer.
        client: Who the module is at the moment; None on the server and in a stock Trainer.
        prepared: What :meth:`prepare` gave for this client; empty where it gave nothing, and on the server.
        gradient_clipper: How a federated trainer bounds gradients, while a client trains.
        gradient_taker: How a federated trainer takes the gradient of a loss, while a client trains.
        term_listener: Called with the task's loss and the other terms of a step's :meth:`total_loss`, by name, while
            their graphs are there. None: nobody listens, and nothing is done.
        loaded_from: The checkpoint that :meth:`from_run` has loaded; else None.
        hparams: The constructor's numbers, words and truth values, as in Lightning. Parts, such as the backbone,
            are not among them: ``load_from_checkpoint`` of a stock Trainer's file takes them as arguments.
    """

    has_global_model: bool = True
    needs_client_validation: bool = False
    has_client_models: bool = False
    generates: bool = False
    needs_privacy: ClassVar[bool] = False
    stages: tuple[Stage, ...] = (Stage("train"),)

    def __init__(
        self,
        backbone: Backbone | None = None,
        optimizer: OptimizerCallable = lambda params: torch.optim.AdamW(
            params, lr=1e-3, weight_decay=0.01
        ),
        warmup_steps: int = 0,
        lr_factors: dict[str, float] | None = None,
    ) -> None:
        super().__init__()
        if settings := _plain_arguments(inspect.currentframe()):
            self.save_hyperparameters(settings)
        require_instance("model.backbone", backbone, Backbone)
        if not callable(optimizer):
            raise TypeError(
                "`model.optimizer` is expected to be a function that makes an optimizer of parameters, such as "
                f"lambda params: AdamW(params, lr=1e-3), but got an instance of {type(optimizer).__name__}: every "
                "client and round has a new one"
            )
        self.backbone = SequenceClassifier() if backbone is None else backbone
        self.make_optimizer = optimizer
        self.warmup_steps = require_at_least("model.warmup_steps", warmup_steps, 0)
        self.lr_factors = {
            client: require_positive(f"model.lr_factors.{client}", factor)
            for client, factor in (lr_factors or {}).items()
        }
        self.stage = self.stages[0]
        self.client: Client | None = None
        self.prepared = Payload()
        self.gradient_clipper: Callable[[Any, float | None, str | None], None] | None = None
        self.gradient_taker: Callable[[Tensor, Sequence[Tensor] | None], list[Tensor]] | None = None
        self.term_listener: (
            Callable[[FederatedModule, Tensor, Mapping[str, Tensor]], None] | None
        ) = None
        self.loaded_from: Path | None = None
        self.datamodule: FederatedDataModule | None = None
        self._metric_averager: MetricAverager | None = None
        self._batch_in_step = ONE_BATCH
        self.timers = Timers()
        self._labels: Sequence[int] | None = None

    # ---------------------------------------------------------------- from a run

    @classmethod
    def from_run(cls, folder: str | Path, module: FederatedModule | None = None) -> Self:
        """The global model of a federated run.

        It is built from the ``config.yaml`` that the command line has saved in the run's folder, and takes the
        state of the checkpoint. A run that was started from Python has no such file, since what Python has built
        cannot be written as one: build its module again as for the run and give it as ``module``.

        Where the method has no global model, the result is the server; a client's own model is
        ``FederatedTrainer.act_as_client`` after ``validate`` with this checkpoint.

        Args:
            folder: A run's folder, of which the last checkpoint is taken, or a checkpoint's.
            module: The module that takes the state, in place. None: a new one.

        Raises:
            FileNotFoundError: If there is no checkpoint, or no configuration and no ``module``.
            TypeError: If the run's method is not of this class.
            ValueError: If the checkpoint or the configuration is damaged, or does not fit the module.
        """
        path = checkpoint_in(Path(folder), "folder")
        if module is None:
            config = path.parent.parent / "config.yaml"
            if not config.is_file():
                raise FileNotFoundError(
                    f"`module` is expected where a run has no config.yaml, which the command line alone writes, and "
                    f"there is no {config}: build it as for the run, and call from_run(folder, module=…)"
                )
            module = cast("FederatedModule", built_from_config(config, FederatedModule))
        if not isinstance(module, cls):
            raise TypeError(
                f"the run in {folder} is expected to be of a {cls.__name__}, but is of a {type(module).__name__}"
            )
        server, broadcast = global_state(path, type(module).__qualname__)
        names = saved_label_names(path)
        module.act_as(None)
        try:
            # first, since what tells an encoder of prototypes from others knows the labels by their names
            if names:
                module.backbone.name_labels(names)
            if server is not None:
                module.load_server_state(server)
            module.download(broadcast)
        except (ValueError, KeyError, RuntimeError) as error:
            raise ValueError(f"checkpoint {path} does not fit the module: {error}") from error
        module.backbone.end_with(saved_ends(path))
        module.loaded_from = path
        return module

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **kwargs: Any) -> Self:
        """Load a stock Trainer's checkpoint as in Lightning or, if it is a folder, as :meth:`from_run`.

        Args:
            checkpoint_path: The file or folder.
            *args: Of Lightning.
            **kwargs: Of Lightning, among them the constructor's arguments that are parts: ``backbone=…``. Of a
                folder: ``module``.

        Raises:
            ValueError: If the checkpoint does not fit the module that these arguments make.
        """
        if isinstance(checkpoint_path, str | Path) and Path(checkpoint_path).is_dir():
            return cls.from_run(checkpoint_path, *args, **kwargs)
        try:
            loaded: Self = super().load_from_checkpoint(checkpoint_path, *args, **kwargs)
        except RuntimeError as error:
            first = " ".join(str(error).split())[:200]
            raise ValueError(
                f"{checkpoint_path} does not fit {cls.__name__} with the parts that it was given: name those that it "
                f"had, such as load_from_checkpoint(path, backbone=…) ({first} …)"
            ) from error
        return loaded

    # ---------------------------------------------------------------- the federated protocol

    def initial_broadcast(self) -> Payload:
        """Server: what the clients of round 0 download, made once for a run. Default: nothing."""
        return Payload()

    def initial_weights(self) -> Payload:
        """Server: what of the first broadcast clients train and send back. Default: :meth:`initial_broadcast`.

        It is asked for before a run, by what acts on clients' changes, so that nothing is fitted or drawn for it.
        """
        return self.initial_broadcast()

    def broadcast_to(self, client: Client, broadcast: Payload) -> Payload:
        """Server: what a client downloads of the broadcast. Default: all of it, the same object.

        Args:
            client: The client.
            broadcast: The last broadcast.
        """
        return broadcast

    def act_as(self, client: Client | None) -> None:
        """Be a client, or the server if None. A method whose clients differ chooses its backbone here."""
        self.client = client
        for part in self._nested():
            if isinstance(part, FederatedModule):
                part.client, part.datamodule = client, self.datamodule

    @property
    def prepares(self) -> bool:
        """Whether clients prepare at all. Default: where :meth:`prepare` is the method's own."""
        return type(self).prepare is not FederatedModule.prepare

    @property
    def prepare_every(self) -> int | None:
        """Every how many rounds all clients prepare again. Default: never, once is enough."""
        return None

    @property
    def prepared_by(self) -> tuple[str, ...]:
        """How the names of settings begin that decide what clients prepare. Default: those of the data.

        Where a run goes on with changes of one of them, all clients prepare again.
        """
        return "data.train", "data.encoding"

    def prepare(self, rows: Dataset) -> Payload:
        """Client: what it makes of its rows before its first round. Default: nothing.

        For instance rewritten rows, a fitted projector, or embedded references. The client has downloaded the
        broadcast of that moment: before round 0 the initial one, later, as where a client could not prepare
        before or prepares again (:attr:`prepare_every`), the last one. The result stays with it as
        :attr:`prepared`, until it prepares again, and is part of checkpoints.

        Args:
            rows: The client's rows.
        """
        return Payload()

    def check_prepared(self, prepared: Mapping[str, Payload]) -> None:
        """Say before training what of all that clients have prepared cannot be trained on. Default: nothing.

        Args:
            prepared: What each client has prepared, now or before, by their ids.

        Raises:
            ConfigurationError: If the run cannot go on with it.
        """

    @abstractmethod
    def download(self, broadcast: Payload) -> None:
        """Client: start a round from what the server sent."""

    @property
    def trains_on_all_rows(self) -> bool:
        """Whether each stage trains on as many rows as the client has. Default: unless it has a :meth:`local_data`."""
        return type(self).local_data is FederatedModule.local_data

    def local_data(self, rows: Dataset, stage: str) -> Dataset:
        """Client: the rows this stage trains on. Default: the client's own, unchanged.

        Args:
            rows: The client's rows as the data module holds them.
            stage: The name of the stage that starts.
        """
        return rows

    def start_stage(self, stage: str) -> None:
        """Client: make ready for a stage, for instance choose what trains. Default: nothing.

        Args:
            stage: The name of the stage that starts.
        """

    @abstractmethod
    def upload(self) -> Payload:
        """Client: what it sends at the end of a round."""

    def expected_upload(self) -> Specification | None:
        """Server: what a client uploads at the end of its round, asked before it trains, as the client.

        A client that uploads something else is left out, whatever the others send. Default: None, where a
        tensor of a name that the broadcast has as well is expected in its shape and dtype, and nothing is
        known of the others: a method whose uploads are not those of
        :class:`~lit_fed.methods.averaging.AveragingMixin` declares them here.
        """
        return None

    def update_norm(self, upload: Payload, broadcast: Payload) -> float | None:
        """Server: how much a client has changed, by which ``trainer.max_update_norm_ratio`` judges what is plausible.

        Default: the L2 norm of the difference over the floating tensors that the main parts of both have. Where
        there are none, as where clients send predictions or texts alone, nothing is judged. A method whose
        clients send changes returns the norm of what they send.

        Args:
            upload: What the client sends.
            broadcast: What it has downloaded.

        Returns:
            The norm; None if there is nothing to judge by.
        """
        return norm_of_change(upload, broadcast)

    @property
    def fewest_updates(self) -> int:
        """Server: how many updates :meth:`aggregate` takes at least. Default: 1."""
        return 1

    def check_update(self, update: Update) -> None:
        """Server: say what of a client's update cannot be combined, beyond :meth:`expected_upload`. Default: nothing.

        Args:
            update: What the client sends, after attachments.

        Raises:
            ValueError: If something cannot; the client is left out.
        """

    @abstractmethod
    def aggregate(self, updates: Sequence[Update]) -> Payload:
        """Server: make the next broadcast of the round's updates, of which there is at least one.

        The module holds the last broadcast when this is called.
        """

    def private_state(self) -> Payload:
        """Client: what stays with it until its next round.

        Default: parameters and buffers of all modules outside the backbones, for instance the running
        mean of a client's deviation, or the magnitudes that its perturbation has learnt.
        """
        return Payload(self._outside_backbones())

    @torch.no_grad()
    def load_private_state(self, state: Payload) -> None:
        """Client: take back what :meth:`private_state` gave. Not called in a client's first round."""
        held = self._outside_backbones()
        for name, value in state.matching(held, "private state").items():
            held[name].copy_(value)

    def server_metrics(self) -> dict[str, float]:
        """Server: what is to be logged of the last :meth:`aggregate`, by names such as ``server/…``. Default: none."""
        return {}

    def server_state(self) -> Payload:
        """Server: what it keeps until the next round beside the broadcast. Default: nothing."""
        return Payload()

    def load_server_state(self, state: Payload) -> None:
        """Server: take back what :meth:`server_state` gave.

        Not called in the first round; before it, in all processes but the first, which take over what that one has.
        """

    def check_clients(self, clients: Collection[str], in_round: int) -> None:
        """Say before training what the settings ask of clients that are not there.

        Args:
            clients: Ids of all clients of the federation.
            in_round: How many of them take part in a round.

        Raises:
            ValueError: If `lr_factors` name another one.
        """
        if unknown := sorted(self.lr_factors.keys() - set(clients)):
            raise ValueError(
                f"`model.lr_factors` is expected to name clients, but got {unknown[0]!r}"
                f"{did_you_mean(unknown[0], clients)}"
            )

    def check_rounds(self, rounds: int) -> None:
        """Say before training that a run is too short for the settings. Default: none is.

        Not asked of a trial run, ``trainer.fast_dev_run``, which has one round alone.

        Args:
            rounds: Those of the run.

        Raises:
            ValueError: If it is.
        """

    def check_replaced_rows(self, by: str) -> None:
        """Say whether clients can train on other rows than their own. Default: yes.

        Args:
            by: What gives them these, for messages.

        Raises:
            ValueError: If they cannot.
        """

    def check_sequence(self) -> None:
        """Say before training why tasks cannot be learnt one after the other. Default: they can.

        Raises:
            ValueError: If they cannot.
        """
        return

    def check_split(self) -> None:
        """Say whether a batch can be split: its loss has to be a masked mean over its rows. Default: yes.

        Raises:
            ValueError: If a term of the loss needs the rows of a batch together.
        """

    def check_private(self) -> None:
        """Say whether the loss is a sum over rows, of which each depends on that row and the weights alone.

        Asked with ``trainer.privacy``, which bounds what each row does. Terms over public rows are taken within
        :func:`lit_fed.losses.over_public_rows`; that all others are masked means is looked at in every step. Default:
        where a batch can be split, see :meth:`check_split`. A method that sends something which it has computed of a
        client's own rows, not by the trained model alone, has to refuse here.

        Raises:
            ValueError: If a term of the loss needs the rows of a batch together, or is of other rows.
        """
        try:
            self.check_split()
        except ValueError as error:
            raise ValueError(
                f"`trainer.privacy` expects a method whose loss is a sum over the rows of a batch, as where it can be "
                f"split over processes, but of {type(self).__name__} {error}"
            ) from error

    def check_scaled(self) -> None:
        """Say whether gradients can be scaled, and steps be left out, by ``16-mixed`` precision. Default: yes.

        Raises:
            ValueError: If the method goes by what gradients are, or by how many steps there have been.
        """

    @property
    def backbones(self) -> Mapping[str, Backbone]:
        """Every backbone among the modules by its name, each once.

        One that has several names, as the current one of several is ``backbone`` as well, goes by the
        last, which is the same whoever the module is.
        """
        found: dict[Backbone, str] = {}
        for name, part in _named_backbones(self):
            found[part] = name
        return {name: part for part, name in found.items()}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move or convert the module; what trains or is remembered outside the backbones stays in float32."""
        inside = {id(t) for b in self.backbones.values() for t in (*b.parameters(), *b.buffers())}
        own = [*(p for p in self.parameters() if p.requires_grad), *self.buffers()]
        kept = widening(fn, [t for t in own if id(t) not in inside])
        moved: Self = super()._apply(kept, recurse)  # type: ignore[no-untyped-call]  # torch's
        return moved

    def _nested(self) -> Iterator[LightningModule]:
        """The Lightning modules inside this one."""
        for part in self.modules():
            if part is not self and isinstance(part, LightningModule):
                yield part

    def _outside_backbones(self) -> dict[str, Tensor]:
        """Parameters and buffers of the modules outside the backbones, live."""
        held = {}
        for child, module in self.named_children():
            if not isinstance(module, Backbone):
                inside = tuple(f"{name}." for name, _ in _named_backbones(module))
                for name, value in module.state_dict().items():
                    if not name.startswith(inside):
                        held[f"{child}.{name}"] = value
        return held

    # ---------------------------------------------------------------- local training

    @property
    def data(self) -> FederatedDataModule:
        """The federation's data, or that of a stock Trainer.

        Raises:
            RuntimeError: If the module runs without a data module.
        """
        stock = self._trainer  # the property raises where there is none
        datamodule = self.datamodule or getattr(stock, "datamodule", None)
        if datamodule is None:
            raise RuntimeError(
                f"{type(self).__name__} needs a FederatedDataModule, but there is none"
            )
        return datamodule

    @property
    def template_digest(self) -> str | None:
        """A digest of how rows are written for the model, which clients have to agree on; None where they need not."""
        datamodule = self.datamodule or getattr(self._trainer, "datamodule", None)
        return None if datamodule is None else datamodule.encoding.digest(self.tokenizer)

    @property
    def own_step(self) -> int:
        """Steps taken before this one: by the client in its whole life, or by a stock Trainer."""
        return self.client.steps if self.client else self.global_step

    @property
    def batch_in_step(self) -> BatchInStep:
        """Which one the batch under way is of those of its step; a federated trainer says it, a stock one is asked."""
        stock = self._trainer
        if stock is None:
            return self._batch_in_step
        number = stock.fit_loop.batch_idx % stock.accumulate_grad_batches
        return BatchInStep(
            number, number + 1 if stock.is_last_batch else stock.accumulate_grad_batches
        )

    @batch_in_step.setter
    def batch_in_step(self, place: BatchInStep) -> None:
        self._batch_in_step = place

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of the current backbone."""
        return self.backbone.tokenizer

    def forward(self, batch: Mapping[str, Tensor], output_hidden: bool = False) -> Prediction:
        """Predict a batch; see :class:`~lit_fed.backbones.Backbone`."""
        prediction: Prediction = self.backbone(batch, output_hidden=output_hidden)
        return prediction

    @abstractmethod
    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """The method's loss on one batch, a scalar.

        Where ``trainer.accumulate_grad_batches`` is above 1, the loss of a step is that of one large batch: each
        term that :func:`lit_fed.losses.masked_mean` averages, as all of :mod:`lit_fed.losses` do, is the mean over
        what all the batches have. A module that averages by itself may return ``{"loss": loss, "weight": n}``, n being
        the tokens, rows or weights that its loss is a mean over; one that says nothing gets the mean of the batches'
        losses, as in Lightning. A stock Trainer always takes that mean: there the batches of a step are one large
        batch only where they have equally many tokens.
        """

    def total_loss(self, task: Tensor, **terms: Tensor) -> Tensor:
        """The sum task + Σ terms, logged as ``train/loss``, and each term as ``train/<its name>``.

        Args:
            task: The task's loss, a scalar.
            **terms: The other terms, weighted. Those that are off are constants, and are not logged.

        Returns:
            A scalar.
        """
        if self.term_listener is not None:
            self.term_listener(self, task, terms)
        loss = task
        for name, term in terms.items():
            loss = loss + term
            if term.requires_grad:
                self.log(f"train/{name}", term.detach())
        self.log("train/loss", loss)
        return loss

    @property
    def term_periods(self) -> Mapping[str, int]:
        """Every how many of its own steps a client has a term, by the term's name. Default: all in every step."""
        return {}

    def loss_gradients(self, loss: Tensor, by: Sequence[Tensor] | None = None) -> list[Tensor]:
        """The gradients of a loss by the parameters that train and that it depends on, or by other leaves.

        No parameter's ``grad`` changes, and the graph is kept for the backward pass.

        Args:
            loss: A scalar with a graph, such as one term of :meth:`total_loss`.
            by: Leaves of its graph, such as a perturbation of this step. None: the parameters.
        """
        if self.gradient_taker is not None:
            return self.gradient_taker(loss, by)
        if by is None:
            by = [p for p in self.parameters() if p.requires_grad]
        return gradients(loss, by)

    def validation_step(
        self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Log ``val/loss`` (nats) and ``val/accuracy`` (of examples, or of tokens for language models)."""
        self._evaluation_step(batch, "val")

    def test_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Log ``test/loss`` (nats) and ``test/accuracy`` (of examples, or of tokens for language models)."""
        self._evaluation_step(batch, "test")

    def predict_step(
        self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0
    ) -> dict[str, Tensor]:
        """The ``logits`` [B, C] or [B, L, V] and, where the batch has them, its row ids ``index`` [B]."""
        ids = {"index": batch["index"]} if "index" in batch else {}
        return {**ids, "logits": self(batch).logits}

    def answer_metrics(self, rows: Dataset) -> Mapping[str, float]:
        """How good the answers of a client are whose model is a :class:`~lit_fed.backbones.BlackBox`. Default: nothing.

        Args:
            rows: The rows that are evaluated, which are no batches for it.

        Returns:
            Metrics by name, such as ``accuracy``; an evaluation logs them as ``val/…`` or ``test/…``.
        """
        return {}

    @contextmanager
    def predicting(self, labels: Sequence[int] | None) -> Iterator[None]:
        """Evaluate within the block as if there were only these classes, as where the task is known.

        The task-incremental scenario of van de Ven and Tolias, "Three scenarios for continual
        learning", 2019, https://arxiv.org/abs/1904.07734.

        Args:
            labels: The classes; None: all.
        """
        self._labels, before = labels, self._labels
        try:
            yield
        finally:
            self._labels = before

    def _evaluation_step(self, batch: dict[str, Tensor], split: str) -> None:
        prediction = self(batch)
        # prompts and padding are left out first: of a large vocabulary, logits in float32 are most of what is held
        logits = prediction.logits[prediction.mask]
        targets = prediction.targets[prediction.mask]
        if self._labels is not None:
            excluded = torch.ones(logits.shape[-1], dtype=torch.bool, device=logits.device)
            excluded[list(self._labels)] = False
            logits = logits.masked_fill(excluded, -torch.inf)
        count, correct = len(targets), logits.argmax(-1) == targets
        # Lightning's sums are as wide as what is logged
        wide = sum_dtype(logits.device)
        loss, right = cross_entropy(logits, targets).to(wide), correct.sum().to(wide)
        self.log(f"{split}/loss", loss, batch_size=count, sync_dist=True)
        self.log(f"{split}/accuracy", right / max(count, 1), batch_size=count, sync_dist=True)

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """What the stage's optimizer is of, by name. Default: all that requires a gradient.

        A method whose clients have different backbones leaves out those of others.
        """
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The stage's optimizer of what requires a gradient, with a warm-up counted in the stage's own steps."""
        stage = self.stage
        make = self.make_optimizer if stage.optimizer is None else stage.optimizer
        warmup = self.warmup_steps if stage.warmup_steps is None else stage.warmup_steps
        trained = self.trained_parameters()
        require_wide(trained)
        optimizer = make(list(trained.values()))
        factor = self.lr_factors.get(self.client.id, 1.0) if self.client else 1.0
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * factor
        if not warmup:
            return optimizer
        done = self.client.stage_steps.get(stage.name, 0) if self.client else 0
        schedule = LambdaLR(optimizer, lambda step: min(1.0, (done + step + 1) / warmup))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def clip_gradients(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Bound the gradients, for a module that overrides ``configure_gradient_clipping``; as in Lightning."""
        if self.gradient_clipper is None:
            super().clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        else:
            self.gradient_clipper(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def batches(
        self, rows: Dataset, seed: int | None = None, batch_size: int | None = None
    ) -> Iterator[dict[str, Tensor]]:
        """Rows, tokenised for the current backbone, in batches on its device.

        Args:
            rows: The rows.
            seed: Shuffle by this seed. None: in order.
            batch_size: Rows of a batch. None: as in training where rows are shuffled, else as in an
                evaluation.

        Raises:
            RuntimeError: If the module runs without a data module.
        """
        for batch in self.data.dataloader(rows, self.tokenizer, seed, batch_size):
            yield move_data_to_device(batch, self.device)

    @property
    def metric_averager(self) -> MetricAverager | None:
        """Where a federated trainer takes what is logged, also by modules inside this one; None in a stock one."""
        return self._metric_averager

    @metric_averager.setter
    def metric_averager(self, averager: MetricAverager | None) -> None:
        self._metric_averager = averager
        for part in self._nested():
            if averager is None:
                vars(part).pop("log", None)
            else:
                vars(part)["log"] = self.log

    def log(self, name: str, value: Any, *args: Any, **kwargs: Any) -> None:
        """Log as in Lightning; a federated trainer takes the mean over the rows of the loop, or as ``reduce_fx`` says.

        A value counts by its ``batch_size`` or, without one, by the rows of its batch.

        Of a module inside another one, Lightning knows no loop that it is in: it logs as the outer one.
        """
        if self.metric_averager is not None:
            reduction = reduction_of(kwargs.get("reduce_fx", "mean"))
            self.metric_averager.add(name, value, kwargs.get("batch_size"), reduction)
            return
        stock = self._trainer
        outer = None if stock is None else stock.lightning_module
        if outer is None or outer is self or self._current_fx_name is not None:
            super().log(name, value, *args, **kwargs)
        else:
            outer.log(name, value, *args, **kwargs)

    def log_dict(self, dictionary: Any, *args: Any, **kwargs: Any) -> None:
        """Log several values, see :meth:`log`."""
        if self.metric_averager is None:
            super().log_dict(dictionary, *args, **kwargs)
        else:
            for name, value in dictionary.items():
                self.log(name, value, **kwargs)


def gradients(loss: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """The gradients of a loss by those of some parameters that it depends on; its graph is kept.

    Args:
        loss: A scalar with a graph.
        parameters: The parameters, which require a gradient.

    Example:
        >>> a, b = (torch.tensor(value, requires_grad=True) for value in (2.0, 5.0))
        >>> gradients(a * a, [a, b]), a.grad
        ([tensor(4.)], None)
    """
    found = torch.autograd.grad(loss, list(parameters), retain_graph=True, allow_unused=True)
    return [gradient for gradient in found if gradient is not None]


def _plain_arguments(frame: FrameType | None) -> dict[str, Any]:
    """What the constructors under way were given, as far as it is plain: modules would be copied."""
    given: dict[str, Any] = {}
    if frame is not None:
        for arguments in collect_init_args(frame, [], classes=(HyperparametersMixin,)):
            given |= arguments
    return {k: v for k, v in given.items() if isinstance(v, bool | int | float | str | NoneType)}


def _named_backbones(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, Backbone]]:
    """The backbones in a module, under each of their names."""
    for name, child in module._modules.items():
        if isinstance(child, Backbone):
            yield f"{prefix}{name}", child
        elif child is not None:
            yield from _named_backbones(child, f"{prefix}{name}.")
