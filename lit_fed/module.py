"""The LightningModule that every method extends: its local training and the client–server protocol."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from lit_fed.backbones import Backbone, Prediction, SequenceClassifier
from lit_fed.client import Client
from lit_fed.limits import require_at_least
from lit_fed.losses import cross_entropy
from lit_fed.metric_averager import MetricAverager
from lit_fed.payload import Payload
from lit_fed.timers import Timers
from lit_fed.update import Update

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.data import FederatedDataModule


class FederatedModule(LightningModule):
    """A federated method: what a client trains, what it sends, and what the server makes of it.

    One module plays every part in turn. For a client, the trainer resets all trainable values to
    those the module was built with and calls :meth:`act_as`, then :meth:`load_private_state` (if the
    client has been here before), :meth:`download`, per stage :meth:`start_stage` and the training
    steps, :meth:`upload` and :meth:`private_state`. For the server it resets and calls
    :meth:`act_as`, :meth:`load_server_state`, :meth:`download` with the last broadcast,
    :meth:`aggregate` and :meth:`server_state`. So a method never sees what another client left
    behind, and everything that lasts is a :class:`~lit_fed.Payload`.

    Args:
        backbone: The model, its tokenizer and its trainable part. None: the embedded classifier.
        optimizer: Makes the client's optimizer of the trainable parameters; a new one for every
            client, round and stage.
        warmup_steps: Linear warm-up of the learning rate over the client's first own steps, counted
            across rounds. 0: none.

    Attributes:
        has_global_model: Whether the broadcast makes a model of its own. Where it does not, clients'
            models are evaluated instead.
        stages: Names of the parts of a client's local training, each with its own optimizer.
        client: Who the module is at the moment; None on the server and in a stock Trainer.
    """

    has_global_model: ClassVar[bool] = True
    stages: ClassVar[tuple[str, ...]] = ("train",)

    def __init__(
        self,
        backbone: Backbone | None = None,
        optimizer: OptimizerCallable = lambda params: torch.optim.AdamW(
            params, lr=2e-5, weight_decay=0.01
        ),
        warmup_steps: int = 500,
    ) -> None:
        super().__init__()
        self.backbone = SequenceClassifier() if backbone is None else backbone
        self.make_optimizer = optimizer
        self.warmup_steps = require_at_least("model.warmup_steps", warmup_steps, 0)
        self.client: Client | None = None
        self.datamodule: FederatedDataModule | None = None
        self.metric_averager: MetricAverager | None = None
        self.timers = Timers()
        self._labels: Sequence[int] | None = None

    # ---------------------------------------------------------------- the federated protocol

    def initial_broadcast(self) -> Payload:
        """Server: what the clients of round 0 download. Default: nothing."""
        return Payload()

    def act_as(self, client: Client | None) -> None:
        """Be a client, or the server if None. A method whose clients differ chooses its backbone here."""
        self.client = client

    @abstractmethod
    def download(self, broadcast: Payload) -> None:
        """Client: start a round from what the server sent."""

    def local_data(self, rows: Dataset, stage: str) -> Dataset:
        """Client: the rows this stage trains on. Default: the client's own, unchanged.

        Args:
            rows: The client's rows as the data module holds them.
            stage: The stage that starts.
        """
        return rows

    def start_stage(self, stage: str) -> None:
        """Client: make ready for a stage, for instance choose what trains. Default: nothing."""

    @abstractmethod
    def upload(self) -> Payload:
        """Client: what it sends at the end of a round."""

    @abstractmethod
    def aggregate(self, updates: Sequence[Update]) -> Payload:
        """Server: make the next broadcast of the round's updates, of which there is at least one.

        The module holds the last broadcast when this is called.
        """

    def private_state(self) -> Payload:
        """Client: what stays with it until its next round. Default: nothing."""
        return Payload()

    def load_private_state(self, state: Payload) -> None:
        """Client: take back what :meth:`private_state` gave. Not called in a client's first round."""

    def server_state(self) -> Payload:
        """Server: what it keeps until the next round beside the broadcast. Default: nothing."""
        return Payload()

    def load_server_state(self, state: Payload) -> None:
        """Server: take back what :meth:`server_state` gave. Not called in the first round."""

    def check_split(self) -> None:
        """Say whether a batch can be split: its loss has to be a masked mean over its rows. Default: yes.

        Raises:
            ValueError: If a term of the loss needs the rows of a batch together.
        """

    # ---------------------------------------------------------------- local training

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
        """The method's loss on one batch, a scalar."""

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
        """The batch's row ids ``index`` [B] and ``logits`` [B, C] or [B, L, V]."""
        return {"index": batch["index"], "logits": self(batch).logits}

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
        logits, targets, mask = prediction.logits, prediction.targets, prediction.mask
        if self._labels is not None:
            excluded = torch.ones(logits.shape[-1], dtype=torch.bool, device=logits.device)
            excluded[list(self._labels)] = False
            logits = logits.masked_fill(excluded, -torch.inf)
        count = int(mask.sum())
        correct = (logits.argmax(-1) == targets) & mask
        self.log(f"{split}/loss", cross_entropy(logits, targets, mask), batch_size=count)
        self.log(f"{split}/accuracy", correct.sum() / max(count, 1), batch_size=count)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer of what requires a gradient, with the warm-up counted in the client's own steps."""
        optimizer = self.make_optimizer([p for p in self.parameters() if p.requires_grad])
        if not self.warmup_steps:
            return optimizer
        done = self.client.steps if self.client else 0
        schedule = LambdaLR(optimizer, lambda step: min(1.0, (done + step + 1) / self.warmup_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def batches(self, rows: Dataset) -> Iterator[dict[str, Tensor]]:
        """Rows in order, tokenised for the current backbone, in batches on its device.

        Raises:
            RuntimeError: If the module runs without a data module.
        """
        stock = self._trainer  # the property raises where there is none
        datamodule = self.datamodule or getattr(stock, "datamodule", None)
        if datamodule is None:
            raise RuntimeError(
                f"{type(self).__name__}.batches needs a FederatedDataModule, but there is none"
            )
        for batch in datamodule.dataloader(rows, self.tokenizer):
            yield move_data_to_device(batch, self.device)

    def log(self, name: str, value: Any, *args: Any, **kwargs: Any) -> None:
        """Log as in Lightning; a federated trainer takes the mean over the steps of the loop."""
        if self.metric_averager is None:
            super().log(name, value, *args, **kwargs)
        else:
            self.metric_averager.add(name, value, kwargs.get("batch_size") or 1.0)

    def log_dict(self, dictionary: Any, *args: Any, **kwargs: Any) -> None:
        """Log several values, see :meth:`log`."""
        if self.metric_averager is None:
            super().log_dict(dictionary, *args, **kwargs)
        else:
            for name, value in dictionary.items():
                self.log(name, value, **kwargs)
