"""What the methods that distil from a teacher share: the teacher, its rounds, and CE + KD."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lit_fed.aggregation import Aggregation
from lit_fed.backbones import Backbone, Prediction
from lit_fed.data import FederatedDataModule
from lit_fed.limits import require_instance
from lit_fed.losses import KLDistillMixin
from lit_fed.methods.averaging import AveragingMixin
from lit_fed.methods.teachers import AdapterTeacher, Teacher
from lit_fed.payload import Payload


class TaughtMixin(KLDistillMixin, AveragingMixin):
    """Gives a method that averages weights a teacher, and the loss of distillation from it.

    Args:
        backbone: The student, its tokenizer and its trainable part. None: the embedded classifier.
        aggregation: How uploads are combined. None: the average weighted by the clients' sizes.
        teacher: Whose predictions are learnt. None: the global model, as it was when the round began.
        lambda_distill: λ ≥ 0, the weight of KD. 0: there is no teacher.
        **kwargs: The temperature, the optimizer and its warm-up.
    """

    def __init__(
        self,
        backbone: Backbone | None = None,
        aggregation: Aggregation | None = None,
        *,
        teacher: Teacher | None = None,
        lambda_distill: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            backbone=backbone, aggregation=aggregation, lambda_distill=lambda_distill, **kwargs
        )
        require_instance("model.teacher", teacher, Teacher)
        self.teacher = AdapterTeacher() if teacher is None else teacher
        if self.lambda_distill:
            self.teacher.attach(self.backbone)

    def setup(self, stage: str) -> None:
        """Make the teacher ready before a fit.

        Args:
            stage: ``fit`` where it is going to train.

        Raises:
            ConfigurationError: If the teacher needs something of the data that is not there.
        """
        super().setup(stage)
        if stage == "fit" and self.teacher.attached:
            self.teacher.forget()
            self.teacher.setup(self)

    def check_split(self) -> None:
        """A process would see a part of the rows, and the teacher may have kept others than another one."""
        super().check_split()
        self.teacher.check_split()

    def check_private(self) -> None:
        """CE and KD are means over rows, and the teacher predicts each row by itself, whether it keeps that or not."""

    def download(self, broadcast: Payload) -> None:
        """Client: θ_k ← θ_g, and the teacher begins a round."""
        super().download(broadcast)
        self.teacher.start_round(self.client)

    def on_train_start(self) -> None:
        """In a stock Trainer: the teacher gets to read the rows of all clients together."""
        super().on_train_start()
        data = None if self._trainer is None else getattr(self._trainer, "datamodule", None)
        if self.teacher.attached and isinstance(data, FederatedDataModule):
            self.teacher.read(data, data.pooled)

    def upload(self) -> Payload:
        """Client: θ_k."""
        if self.teacher.attached:
            self.teacher.end_round(self.client)
        return super().upload()

    def taught(self, batch: Mapping[str, Tensor]) -> Prediction | None:
        """The teacher's predictions of a batch, without a gradient; None where λ = 0."""
        if not self.lambda_distill:
            return None
        with self.timers("teacher"):
            return self.teacher(batch)

    def loss_terms(
        self, student: Prediction, teacher: Prediction | None, batch: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """CE(y, p_k) and λ·KD(p_t → p_k), each a mean over the rows, or tokens, of the batch.

        Args:
            student: The client's pass.
            teacher: Of :meth:`taught`.
            batch: The batch, perhaps with the rows' ``weight`` [B].
        """
        distill = self.kl_distill_loss(student, teacher, batch.get("weight"))
        return self.task_loss(student, batch), distill
