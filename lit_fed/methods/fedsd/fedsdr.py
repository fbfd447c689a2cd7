"""FedSDR: a private adapter smooths on rewritten rows, a shared one rectifies on raw rows and alone is exchanged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from lit_fed.aggregation import Aggregation
from lit_fed.backbones import Backbone
from lit_fed.client import Client
from lit_fed.losses import cross_entropy
from lit_fed.methods.averaging import AveragingMixin
from lit_fed.methods.fedsd.private_adapter import PRIVATE, SHARED, add_private
from lit_fed.methods.fedsd.stages import stage_of
from lit_fed.methods.rewriting import Rewriting, SelfDistillation, SoftTargets
from lit_fed.payload import Payload
from lit_fed.stage import Stage

if TYPE_CHECKING:
    from datasets import Dataset


class FedSDR(AveragingMixin):
    r"""Federated self-distillation with rectification: two LoRA adapters are active at once.

    .. math:: h = W_0 x + s_r B_r A_r x + s_s B_s A_s x

    In a round a client downloads the global R, takes its own S, and trains in two stages:

    1. ``private``: R is frozen, S is trained on the rewritten rows and absorbs what is the client's own.
    2. ``shared``: S is frozen, R (with a classifier's head) is trained on the raw rows.

    It uploads R alone, as many bytes as LoRA-FedAvg, and the rule of ``aggregation`` combines the R as it would any
    LoRA. S stays in the client's private state. A new client starts from B_s = 0, and from the A_s that
    ``seed_everything`` has drawn when the method was built, the same for all clients.

    Wang et al., "FedSDR: Federated Self-Distillation with Rectification", 2026, https://arxiv.org/abs/2605.18028.

    The global model is W_0 + R, which was never trained without an S beside it; the clients' own, personalised models
    are W_0 + R + S_k. Evaluations report both (``test/…`` and ``clients/test/…``), and both are exported.
    Of a chat the assistant's last turn alone is rewritten; its turns before are learnt as they are in both stages.
    A stock Trainer is one client that trains R: nobody rewrites there, so that the private stage is refused.

    Args:
        backbone: The model with a LoRA, R. None: the embedded classifier.
        aggregation: How uploads are combined. None: the average weighted by the clients' sizes.
        rewriting: How clients rewrite their rows, by the global model. None: as :class:`~lit_fed.FedSD` does.
        optimizer: Makes the optimizer of R, and of S unless it has one of its own. They never share moments.
        warmup_steps: Linear warm-up over the first own steps of each stage.
        private_optimizer: Makes the optimizer of S. None: ``optimizer``.
        private_warmup_steps: Of the private stage. None: ``warmup_steps``.
        private_epochs: Passes over the rewritten rows in a round. None: the trainer's.
        private_steps: Optimizer steps on them, which replace epochs. None: the trainer's, unless there are epochs.
        shared_epochs: Passes over the raw rows in a round. None: the trainer's.
        shared_steps: Optimizer steps on them, which replace epochs. None: the trainer's, unless there are epochs.
        private_rank: The rank of S. None: that of R.
        private_alpha: Alpha of S, which its rank divides. None: that of R.
        reset_private: Whether S starts every round anew. Optimizer moments that are kept are of the S before.
        **kwargs: Of :class:`~lit_fed.methods.AveragingMixin`.

    Raises:
        ValueError: If the backbone has something else than a plain LoRA, or a number is out of range.
    """

    has_client_models = True
    trains_on_all_rows = True
    stages = (Stage(PRIVATE), Stage(SHARED))

    def __init__(
        self,
        backbone: Backbone | None = None,
        aggregation: Aggregation | None = None,
        rewriting: SelfDistillation | None = None,
        optimizer: OptimizerCallable = lambda params: torch.optim.AdamW(
            params, lr=1e-3, weight_decay=0.01
        ),
        warmup_steps: int = 0,
        private_optimizer: OptimizerCallable | None = None,
        private_warmup_steps: int | None = None,
        private_epochs: int | None = None,
        private_steps: int | None = None,
        shared_epochs: int | None = None,
        shared_steps: int | None = None,
        private_rank: int | None = None,
        private_alpha: float | None = None,
        reset_private: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            backbone, aggregation, optimizer, warmup_steps, rewriting=rewriting, **kwargs
        )
        if self.rewriting is None:
            self.rewriting = SoftTargets() if self.backbone.classifies else Rewriting()
        own = private_optimizer, private_warmup_steps, private_epochs, private_steps
        shared = None, None, shared_epochs, shared_steps
        self.stages = stage_of(PRIVATE, *own), stage_of(SHARED, *shared)
        self._built = add_private(self.backbone, private_rank, private_alpha)
        self.reset_private = reset_private
        self.start_stage(SHARED)

    def setup(self, stage: str) -> None:
        """Say before training what the rewriting needs; a stock Trainer, which does not rewrite, trains R alone.

        Raises:
            ConfigurationError: If something is missing.
        """
        if self._trainer is None or self.stage.name == PRIVATE:
            super().setup(stage)

    def act_as(self, client: Client | None) -> None:
        """Be a client, W_0 + R + S_k, or the server, W_0 + R."""
        super().act_as(client)
        self.backbone.activate(self._adapter, *([] if client is None else [PRIVATE]))

    def prepare(self, rows: Dataset) -> Payload:
        """Client: rewrite by the global model, W_0 + R, also where there is an S already."""
        with self.backbone.using(self._adapter):
            return super().prepare(rows)

    def local_data(self, rows: Dataset, stage: str) -> Dataset:
        """Client: the rewritten rows for S, the raw ones for R."""
        return super().local_data(rows, stage) if stage == PRIVATE else rows

    def start_stage(self, stage: str) -> None:
        """Client: let R and S take part, and train one of them; the other one stays bit for bit as it is."""
        super().start_stage(stage)
        self.stage = next(one for one in self.stages if one.name == stage)
        if stage == PRIVATE and self.reset_private:
            self.backbone.load_trainable(self._built, PRIVATE)
        self.backbone.activate(self._adapter, PRIVATE)
        self.backbone.train_adapter(PRIVATE if stage == PRIVATE else self._adapter)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """The cross-entropy of the rewritten targets or, where R is trained, of the raw ones.

        It is logged as ``train/private/loss`` or ``train/shared/loss``, beside ``train/loss`` over both stages.
        """
        student = self(batch)
        if self.stage.name == PRIVATE:
            loss = self.task_loss(student, batch)
        else:
            weight = batch.get("weight")
            loss = cross_entropy(student.logits, student.targets, student.mask, weight)
        self.log(f"train/{self.stage.name}/loss", loss.detach())
        return self.total_loss(loss)

    def private_state(self) -> Payload:
        """Client: S, beside what else stays with it."""
        private = Payload(self.backbone.trainable(PRIVATE))
        return super().private_state().with_parts({PRIVATE: private})

    def load_private_state(self, state: Payload) -> None:
        """Client: take it back."""
        super().load_private_state(state)
        self.backbone.load_trainable(state.parts[PRIVATE].tensors, PRIVATE)
