"""DDG: differentiated distillation guidance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from torch import Tensor

from lit_fed.aggregation import Aggregation
from lit_fed.backbones import Backbone
from lit_fed.configuration_error import ConfigurationError
from lit_fed.limits import require_instance
from lit_fed.losses import AggregateKLMixin, AlignmentMixin, KLDistillMixin
from lit_fed.methods.averaging import AveragingMixin
from lit_fed.methods.ddg.consensus import PART, Consensus, NoConsensus, log_alpha
from lit_fed.methods.ddg.public_consensus import PublicConsensus
from lit_fed.methods.teachers import AdapterTeacher, Teacher
from lit_fed.payload import Payload
from lit_fed.specification import Specification
from lit_fed.update import Update

_PUBLIC: Final = "of lit_fed.methods.ddg.PublicConsensus"
REPLACED: Final[Mapping[str, str]] = {
    "aggregate_on": "`model.consensus`, with the class_path lit_fed.methods.ddg.PublicConsensus, PeerConsensus "
    "or ClassConsensus, or `model.lambda_aggregate` 0 for none",
    "top_k": f"`model.consensus.init_args.top_k` {_PUBLIC}",
    "public_batch_size": f"`model.consensus.init_args.batch_size` {_PUBLIC}",
    "server_steps": f"`model.consensus.init_args.server_steps` {_PUBLIC}",
    "server_lr": f"`model.consensus.init_args.server_lr` {_PUBLIC}",
    "teacher_cache_mb": "`model.teacher.init_args.cache_mb` of lit_fed.methods.teachers.AdapterTeacher",
}
"""Settings of former versions, and what has taken their place."""


def refuse_replaced(settings: Mapping[str, Any]) -> None:
    """Name what has taken the place of a former setting.

    Args:
        settings: Keyword arguments of a method.

    Raises:
        ValueError: If one of them is a former setting.
    """
    for name in settings:
        if name in REPLACED:
            raise ValueError(f"`model.{name}` is no setting any more: use {REPLACED[name]}")


def refuse_packing(module: AveragingMixin, lambda_align: float) -> None:
    """Refuse rows that are packed into sequences where the states of whole sequences are compared.

    Args:
        module: The method, with its data.
        lambda_align: The weight of the alignment.

    Raises:
        ConfigurationError: If both are there.
    """
    data = module.datamodule or getattr(module._trainer, "datamodule", None)
    if lambda_align > 0 and getattr(getattr(data, "encoding", None), "packing", False):
        raise ConfigurationError(
            f"`data.encoding.packing` is expected to be false where `model.lambda_align` is above 0, since the mean of "
            f"the states of a sequence would be one over rows that have nothing to do with each other, but got true "
            f"with {lambda_align:g}"
        )


class DDG(KLDistillMixin, AlignmentMixin, AggregateKLMixin, AveragingMixin):
    r"""Differentiated distillation guidance (DDG).

    A client starts from :math:`\theta_k \leftarrow \theta_g`, keeps a frozen copy as its teacher, and
    minimises on its own rows (x, y) and on public rows u

    .. math::
        L = \mathrm{CE} + \lambda_1 \mathrm{KD}(p_g \to p_k, x)
            + \lambda_2 \lVert h_k(x) - h_g(x) \rVert^2
            + \lambda_3 \alpha \, \mathrm{KD}(\bar P[u] \to p_k(u)),

    .. math:: \delta = \lVert p_k(u) - p_g(u) \rVert_2, \qquad \alpha = \sigma(\gamma \delta).

    It sends :math:`\theta_k` and its soft predictions :math:`q_k`; the server takes
    :math:`\theta_g = \sum_k w_k \theta_k` and :math:`\bar P = \sum_k w_k q_k`.

    Zou, "Federated Distillation with Structural Perturbation for Robust Fine-Tuning of LLMs",
    2024, §3.1: L_DDG, a client's own terms
    of the sum over clients. KD is T²·KL (Hinton et al., 2015, https://arxiv.org/abs/1503.02531), h the
    mean-pooled last hidden state, so that λ2 > 0 asks for rows that are not packed. With all weights at 0 it
    is :class:`~lit_fed.FedAvg` bit for bit.

    Args:
        backbone: The model, its tokenizer and its adapter. None: the embedded classifier.
        aggregation: How θ_k are combined. None: the average weighted by the clients' sizes.
        teacher: Whose predictions p_g and states h_g are. None: the model as it was when the round began.
        consensus: What P̄ is about, and how it is made. None: the public set. Where λ3 = 0 nothing is
            made or exchanged, unless the server distils from it.
        **kwargs: Of the loss terms, the optimizer and its warm-up.
    """

    def __init__(
        self,
        backbone: Backbone | None = None,
        aggregation: Aggregation | None = None,
        *,
        teacher: Teacher | None = None,
        consensus: Consensus | None = None,
        **kwargs: Any,
    ) -> None:
        refuse_replaced(kwargs)
        super().__init__(backbone=backbone, aggregation=aggregation, **kwargs)
        require_instance("model.consensus", consensus, Consensus)
        require_instance("model.teacher", teacher, Teacher)
        made = PublicConsensus() if consensus is None else consensus
        guided = self.lambda_aggregate > 0
        self.consensus = made if guided or made.on_server else NoConsensus()
        self.consensus.attach(self.backbone)
        self.distils = self.lambda_distill > 0 or self.lambda_align > 0
        self.taught = self.distils or (guided and self.consensus.on_private)
        self.teacher = AdapterTeacher() if teacher is None else teacher
        if self.distils or guided:
            self.teacher.attach(self.backbone)

    def setup(self, stage: str) -> None:
        """Say before a federation trains what P̄ needs and is not there; in a stock Trainer there is no P̄.

        Args:
            stage: ``fit`` where it is going to train.

        Raises:
            ConfigurationError: If rows are packed while λ2 > 0.
            ValueError: If something is missing.
        """
        super().setup(stage)
        if stage == "fit":
            refuse_packing(self, self.lambda_align)
            self.teacher.forget()
            if self.teacher.attached:
                self.teacher.setup(self)
            if self._trainer is None:
                self.consensus.check(self, self.aggregation)

    def check_split(self) -> None:
        """A process would see a part of the rows, and may have kept others than another one."""
        super().check_split()
        self.teacher.check_split()
        self.consensus.check_split()

    def download(self, broadcast: Payload) -> None:
        """Client: θ_k ← θ_g, the teacher ← θ_g, and P̄."""
        super().download(broadcast)
        self.teacher.start_round(self.client)
        if self.lambda_aggregate:
            self.consensus.receive(self, broadcast.parts.get(PART, Payload()))

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """L = CE + λ1·KD(p_g → p_k, x) + λ2·‖h_k − h_g‖² + λ3·α·KD(P̄[u] → p_k(u))."""
        weight = batch.get("weight")
        student, teacher = self(batch, output_hidden=self.lambda_align > 0), None
        if self.taught:
            with self.timers("teacher"):
                teacher = self.teacher(batch, hidden=self.lambda_align > 0)
        return self.total_loss(
            self.task_loss(student, batch),
            distill=self.kl_distill_loss(student, teacher, weight),
            align=self.alignment_loss(student, teacher, weight),
            aggregate=self.aggregate_kl_loss(
                *self.consensus.guidance(self, batch, student, teacher),
                observe=partial(log_alpha, self.log),
            ),
        )

    def upload(self) -> Payload:
        """Client: θ_k and q_k."""
        if self.distils:
            self.teacher.end_round(self.client)
        return super().upload().with_parts({PART: self.consensus.send(self)})

    def expected_upload(self) -> Specification:
        """Server: θ_k and q_k."""
        return super().expected_upload().with_parts({PART: self.consensus.expected(self)})

    def check_update(self, update: Update) -> None:
        """Server: what neither the aggregation rule nor the consensus can combine."""
        super().check_update(update)
        self.consensus.check_sent(self, update.payload.parts.get(PART, Payload()))

    def aggregate(self, updates: Sequence[Update]) -> Payload:
        """Server: θ_g = Σ w_k θ_k and P̄ = Σ w_k q_k, and, if asked for, θ_g distilled from P̄."""
        average = super().aggregate(updates)
        consensus = self.consensus.aggregate(self, updates, self.aggregation)
        return self.consensus.distil(self, average, consensus).with_parts({PART: consensus})
