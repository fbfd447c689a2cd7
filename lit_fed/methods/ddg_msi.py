"""DDG+MSI: differentiated distillation guidance with modular structure injection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from lit_fed.aggregation import Aggregation
from lit_fed.backbones import Backbone
from lit_fed.limits import require_instance
from lit_fed.losses import (
    AggregateKLMixin,
    AlignmentMixin,
    KLDistillMixin,
    StabilityMixin,
    WeightRegularizationMixin,
)
from lit_fed.methods.averaging import AveragingMixin
from lit_fed.methods.ddg import (
    PART,
    Consensus,
    NoConsensus,
    PublicConsensus,
    log_alpha,
    refuse_packing,
    refuse_replaced,
)
from lit_fed.methods.msi import StructureInjection
from lit_fed.methods.teachers import AdapterTeacher, Teacher
from lit_fed.payload import Payload
from lit_fed.perturbations import GaussianNoise, Perturbation, Site
from lit_fed.specification import Specification
from lit_fed.update import Update


class DDGMSI(
    KLDistillMixin,
    AlignmentMixin,
    AggregateKLMixin,
    StabilityMixin,
    WeightRegularizationMixin,
    AveragingMixin,
):
    r"""Differentiated distillation guidance with modular structure injection (DDG+MSI).

    .. math:: L = \mathrm{CE} + L_\mathrm{DDG} + \mu L_\mathrm{MSI}

    with L_DDG of :class:`~lit_fed.DDG` and L_MSI of :class:`~lit_fed.MSI`. One clean pass of the student
    serves all terms; the teacher is never perturbed; δ, the alignment and what is sent come from
    clean passes.

    Zou, "Federated Distillation with Structural Perturbation for Robust Fine-Tuning of LLMs",
    2024, §3: the two modules together.
    With λ1 = λ2 = λ3 = μ = 0 it is :class:`~lit_fed.FedAvg` bit for bit.

    Args:
        backbone: The model, its tokenizer and its adapter. None: the embedded classifier.
        aggregation: How θ_k are combined. None: the average weighted by the clients' sizes.
        teacher: As in :class:`~lit_fed.DDG`.
        consensus: As in :class:`~lit_fed.DDG`.
        perturbation: As in :class:`~lit_fed.MSI`.
        sites: As in :class:`~lit_fed.MSI`.
        inject_every: As in :class:`~lit_fed.MSI`.
        **kwargs: Of the loss terms, the optimizer and its warm-up.
    """

    def __init__(
        self,
        backbone: Backbone | None = None,
        aggregation: Aggregation | None = None,
        *,
        teacher: Teacher | None = None,
        consensus: Consensus | None = None,
        perturbation: Perturbation | None = None,
        sites: Sequence[Site] = ("attention", "feed_forward"),
        inject_every: int = 200,
        **kwargs: Any,
    ) -> None:
        refuse_replaced(kwargs)
        super().__init__(backbone=backbone, aggregation=aggregation, **kwargs)
        require_instance("model.perturbation", perturbation, Perturbation)
        self.perturbation = GaussianNoise() if perturbation is None else perturbation
        self.injection = StructureInjection(
            self.perturbation, sites, inject_every, self.mu, self.backbone
        )
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
        """As in :class:`~lit_fed.DDG`."""
        super().setup(stage)
        if stage == "fit":
            refuse_packing(self, self.lambda_align)
            self.teacher.forget()
            if self.teacher.attached:
                self.teacher.setup(self)
            if self._trainer is None:
                self.consensus.check(self, self.aggregation)

    def check_split(self) -> None:
        """As in :class:`~lit_fed.DDG` and :class:`~lit_fed.MSI`."""
        super().check_split()
        self.injection.check_split()
        self.teacher.check_split()
        self.consensus.check_split()

    def download(self, broadcast: Payload) -> None:
        """Client: θ_k ← θ_g, the teacher ← θ_g, and P̄."""
        super().download(broadcast)
        self.teacher.start_round(self.client)
        if self.lambda_aggregate:
            self.consensus.receive(self, broadcast.parts.get(PART, Payload()))

    @property
    def term_periods(self) -> Mapping[str, int]:
        """L_stability is there at the steps with injection."""
        return {"stability": self.injection.inject_every}

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """L = CE + L_DDG + μ·L_MSI."""
        weight = batch.get("weight")
        with self.injection.shared_dropout(self) as randomness:
            clean, teacher = self(batch, output_hidden=self.lambda_align > 0), None
        perturbed, injected = self.injection.perturbed(self, batch, randomness)
        if self.taught:
            with self.timers("teacher"):
                teacher = self.teacher(batch, hidden=self.lambda_align > 0)
        return self.total_loss(
            self.task_loss(clean, batch),
            distill=self.kl_distill_loss(clean, teacher, weight),
            align=self.alignment_loss(clean, teacher, weight),
            aggregate=self.aggregate_kl_loss(
                *self.consensus.guidance(self, batch, clean, teacher),
                observe=partial(log_alpha, self.log),
            ),
            **self.injection.terms(
                self.stability_loss(clean, perturbed, weight),
                self.weight_regularization_loss(injected),
                injected,
                self,
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
