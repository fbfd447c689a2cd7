"""Prototype-constrained semantic defence: rows are judged, and representations pulled, by prototypes of references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import torch
from torch import Tensor

from lit_fed.aggregation import Aggregation
from lit_fed.backbones import Backbone
from lit_fed.client import Client
from lit_fed.configuration_error import ConfigurationError
from lit_fed.data.datamodule import Table
from lit_fed.limits import require_at_least, require_fraction, require_instance, require_share
from lit_fed.losses import KLDistillMixin, PrototypeMarginMixin
from lit_fed.methods.averaging import AveragingMixin
from lit_fed.methods.prototype_defense.encoders import FittedEncoder, GateEncoder
from lit_fed.methods.prototype_defense.gated_rows import Dropped
from lit_fed.methods.prototype_defense.guarding import AGREED, MERGED, Guarding
from lit_fed.methods.teachers import AdapterTeacher, Teacher
from lit_fed.payload import Payload
from lit_fed.prototypes import (
    AgreementGate,
    Gate,
    MarginSchedule,
    NoGate,
    PrototypeSet,
    adapt_prototypes,
    merge_prototypes,
    prototype_drift,
)
from lit_fed.prototypes.prototype_set import require_same_prototypes
from lit_fed.specification import Specification, TensorSpecification
from lit_fed.update import Update

if TYPE_CHECKING:
    from datasets import Dataset

Assignment = Literal["nearest", "label", "trusted"]
_ASSIGNMENTS: Final = ("nearest", "label", "trusted")
_ADAPTED: Final = "adapted_prototypes"


class PrototypeDefense(KLDistillMixin, PrototypeMarginMixin, AveragingMixin):
    r"""Federated distillation that is defended by prototypes of clean references.

    Before round 0 the server embeds the references, makes P prototypes of them, and sends these to each client once,
    with a version and a digest, P · d · 4 bytes. A client whose rows a gate has judged minimises over those that are
    kept

    .. math:: L = \mathrm{CE} + \lambda_1 \mathrm{KD}(p_t \to p_k, x)
        + \lambda \max(0, 1 - \cos(g(r), P_a) - m),

    r the mean of the last hidden state over tokens, and sends :math:`\theta_k`.

    Bergman et al., "Robust Knowledge Distillation in Distributed LLMs Using Prototype-Constrained Semantic Defense
    Mechanisms", §3 and §4. The paper has no gate, and a is the prototype nearest to the student's own representation:
    ``assignment="nearest"`` with :class:`~lit_fed.prototypes.NoGate`. That pulls a poisoned representation to wherever
    it is already. The default therefore is a gate by an encoder that no client has any part in, which decides what is
    trained on. With λ = 0 and no gate it is distillation alone, and with λ₁ = 0 as well :class:`~lit_fed.FedAvg` bit
    for bit.

    Args:
        backbone: A classifier, its tokenizer and its trainable part. None: the embedded one.
        aggregation: How uploads are combined. None: the average weighted by the clients' sizes, dropped rows included.
        references: Clean rows with labels, of each class some, as the encoding of the data reads them. None: the public
            set of the data.
        num_prototypes: P, at most the references that are not held out.
        supervised: Whether there is one prototype a class, the mean of its references, in the place of k-means.
        held_out: The share of the references of each class on which encoder and gate are not fitted, in [0, 1): the
            encoder's accuracy is told of these, and a conformal gate is calibrated on them.
        encoder: Makes the vectors that are judged. None: :class:`FittedEncoder`.
        gate: Which rows are trained on. None: :class:`~lit_fed.prototypes.AgreementGate`.
        assignment: The prototype that a representation is pulled to: ``nearest`` to the student's representation, the
            nearest of those of the row's ``label``, or the one that the ``trusted`` encoder finds nearest.
        pull: Whether rows that are dropped are still pulled to the prototype, without CE and KD.
        project: Whether g is a frozen affine map from the student's width to the encoder's, fitted on the references;
            needed where the two differ. False: g(r) = r.
        adaptation: β in [0, 1], by how much a client moves the prototypes that it pulls to towards its own kept rows in
            each round; the server merges them, weighted by counts, into the next version. The gate goes by the
            references' own ones whatever clients send. 0: off.
        margin_schedule: How m changes with rounds. None: it stays.
        teacher: Whose predictions p_t are. None: the global model as it was when the round began.
        seed: Of the division of the references and of k-means++.
        **kwargs: λ, m, λ₁ and its temperature, the optimizer and its warm-up.

    Raises:
        ValueError: If a number is out of range, or encoder, teacher and backbone do not fit each other.
    """

    def __init__(
        self,
        backbone: Backbone | None = None,
        aggregation: Aggregation | None = None,
        *,
        references: Table | None = None,
        num_prototypes: int = 50,
        supervised: bool = False,
        held_out: float = 0.2,
        encoder: GateEncoder | None = None,
        gate: Gate | None = None,
        assignment: Assignment = "trusted",
        pull: bool = False,
        project: bool = False,
        adaptation: float = 0.0,
        margin_schedule: MarginSchedule | None = None,
        teacher: Teacher | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(backbone=backbone, aggregation=aggregation, **kwargs)
        require_instance("model.encoder", encoder, GateEncoder)
        require_instance("model.gate", gate, Gate)
        require_instance("model.margin_schedule", margin_schedule, MarginSchedule)
        require_instance("model.teacher", teacher, Teacher)
        if assignment not in _ASSIGNMENTS:
            raise ValueError(
                f"`model.assignment` is expected to be one of {', '.join(_ASSIGNMENTS)}, but got {assignment!r}"
            )
        self.references = references
        self.num_prototypes = require_at_least("model.num_prototypes", num_prototypes, 1)
        self.supervised = supervised
        self.held_out = require_fraction("model.held_out", held_out)
        self.encoder = FittedEncoder() if encoder is None else encoder
        self.gate = AgreementGate() if gate is None else gate
        self.assignment: Assignment = assignment
        self.pull, self.project = pull, project
        self.adaptation = require_share("model.adaptation", adaptation)
        self.margin_schedule = margin_schedule
        self.seed = require_at_least("model.seed", seed, 0)
        self.gates = not isinstance(self.gate, NoGate)
        self.guards = self.gates or self.lambda_prototype > 0
        trusted = self.lambda_prototype > 0 and assignment == "trusted"
        self.judges = self.gates or trusted or (self.guards and self.adaptation > 0)
        if self.guards and self.backbone.classifies is False:
            raise ValueError(
                f"`model.backbone` is expected to be one that classifies, such as SequenceClassifier, since prototypes "
                f"have classes, but got {type(self.backbone).__name__}"
            )
        self.teacher = AdapterTeacher() if teacher is None else teacher
        if self.lambda_distill:
            self.teacher.attach(self.backbone)
        if self.guards:
            self.encoder.attach(self.backbone, self.teacher)
        self._guarding = Guarding(
            references,
            num_prototypes,
            supervised,
            held_out,
            self.encoder,
            self.gate,
            project,
            seed,
            self.lambda_prototype > 0,
            self.adaptation > 0,
        )
        self._adapted: PrototypeSet | None = None

    # ---------------------------------------------------------------- what is told

    @property
    def prototypes(self) -> PrototypeSet:
        """Those that representations are pulled to now.

        Raises:
            RuntimeError: If the server has not made any yet.
        """
        if self._guarding.prototypes is None:
            raise RuntimeError(
                "prototypes are there when a federation has begun, but there are none"
            )
        return self._guarding.prototypes

    def embed(self, texts: Sequence[str]) -> Tensor:
        """The gate's encoder's vectors of texts, [n, d], in the space of the prototypes.

        Args:
            texts: Each as one text, also where the data's rows are pairs.
        """
        return self._guarding.embed(self, texts)

    def dropped(self, client_id: str) -> Sequence[Dropped]:
        """The rows of a client that the gate has dropped, where this process has judged them.

        Args:
            client_id: The client's id.
        """
        return self._guarding.dropped(self, client_id)

    # ---------------------------------------------------------------- before training

    def setup(self, stage: str) -> None:
        """Say before training what the defence needs and is not there.

        Args:
            stage: ``fit`` where it is going to train.

        Raises:
            ConfigurationError: If a stock Trainer is to judge rows.
        """
        super().setup(stage)
        if stage != "fit":
            return
        self.teacher.forget()
        if self._trainer is None or not self.guards:
            return
        if self.judges:
            raise ConfigurationError(
                "`trainer` is expected to be a FederatedTrainer, since a stock Trainer has no clients whose rows are "
                "judged; `model.gate` NoGate with `model.assignment` nearest or label does without"
            )
        self.data.check(self.backbones)
        self._guarding.fit(self)
        self._guarding.go_by(None, needs_encoder=False)

    def check_split(self) -> None:
        """Refuse to be split over processes, each of which would judge and fit by itself.

        Raises:
            ValueError: If there are prototypes.
        """
        super().check_split()
        self.teacher.check_split()
        if self.guards:
            raise ValueError(
                "`model.gate` is expected to be NoGate and `model.lambda_prototype` 0 where a model is split over "
                f"processes, but got {type(self.gate).__name__} and {self.lambda_prototype:g}"
            )

    # ---------------------------------------------------------------- the protocol

    def initial_broadcast(self) -> Payload:
        """Server: θ_g as it was built; the prototypes are made now, and sent by :meth:`broadcast_to`."""
        if self.guards and self.datamodule is not None:
            self._guarding.fit(self)
        return super().initial_broadcast()

    def broadcast_to(self, client: Client, broadcast: Payload) -> Payload:
        """Server: θ_g, by which prototypes it goes and, to a client that has not finished a round, all of these."""
        own = super().broadcast_to(client, broadcast)
        parts = self._guarding.parts_for(is_new=not client.rounds)
        return own.with_parts(parts) if parts else own

    @property
    def prepares(self) -> bool:
        """Whether clients prepare: they keep what they receive once."""
        return self.guards or self.rewriting is not None

    def prepare(self, rows: Dataset) -> Payload:
        """Client: keep the prototypes and the encoder; rewrite, where there is a rewriting."""
        return super().prepare(rows).with_parts(self._kept_parts)

    def download(self, broadcast: Payload) -> None:
        """Client: θ_k ← θ_g, the teacher, and the prototypes."""
        super().download(broadcast)
        if self.lambda_distill:
            self.teacher.start_round(self.client)
        if not self.guards:
            return
        parts, guarding = broadcast.parts, self._guarding
        if self.client is not None:
            guarding.take(parts, self.prepared.parts, f"client {self.client.id!r}")
        self._kept_parts = guarding.kept(parts, self.prepared.parts)
        guarding.go_by(parts.get(MERGED), self.judges)
        self._adapted = None

    @property
    def trains_on_all_rows(self) -> bool:
        """Whether no row is left out."""
        return not self.gates or self.pull

    def local_data(self, rows: Dataset, stage: str) -> Dataset:
        """Client: the rows that the gate keeps; it is logged how many, of all and of each class.

        Raises:
            ValueError: If it keeps none: the client is left out.
        """
        if not self.judges or self.client is None:
            return super().local_data(rows, stage)
        gated = self._guarding.judge(self, self.client.id, rows)
        if self.gates and self.metric_averager is not None:
            self.log_dict(gated.metrics(self.prototypes.labels))
        if self.gates and not len(gated.kept):
            raise ValueError(f"`model.gate` keeps none of the {len(rows)} rows of the client")
        if self.adaptation and gated.states is not None:
            own = gated.states[gated.judgement.kept]
            self._adapted = adapt_prototypes(self.prototypes, own, self.adaptation)
        return super().local_data(rows if self.pull else gated.kept, stage)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """L = CE + λ₁·KD(p_t → p_k, x) + λ·max(0, 1 − cos(g(r), P_a) − m), of dropped rows the last alone."""
        margin = self._margin
        student, teacher = self(batch, output_hidden=margin is not None), None
        if self.lambda_distill:
            with self.timers("teacher"):
                teacher = self.teacher(batch)
        judged = batch
        if self.gates and self.pull:
            judged = {**batch, "weight": self._judged_weights(batch)}
        return self.total_loss(
            self.task_loss(student, judged),
            distill=self.kl_distill_loss(student, teacher, judged.get("weight")),
            prototype=self._prototype_loss(student, batch, margin),
        )

    def upload(self) -> Payload:
        """Client: θ_k, by which prototypes it goes and, where it adapts them, its own with their counts."""
        if self.lambda_distill:
            self.teacher.end_round(self.client)
        sent = super().upload()
        if not self.guards or self.client is None:
            return sent
        parts = {AGREED: Payload(strings={"about": self.prototypes.about})}
        if self._adapted is not None:
            counts = self._adapted.counts.int()
            parts[_ADAPTED] = Payload({"vectors": self._adapted.vectors, "counts": counts})
        return sent.with_parts(parts)

    def expected_upload(self) -> Specification:
        """Server: θ_k, and what is said of prototypes."""
        expected = super().expected_upload()
        if not self.guards or self.client is None:
            return expected
        parts: dict[str, Specification | None] = {AGREED: Specification(strings={"about": 3})}
        if self.adaptation:
            shape = tuple(self.prototypes.vectors.shape)
            vectors = TensorSpecification(shape, torch.float32, -1.01, 1.01)
            counts = TensorSpecification(shape[:1], torch.int32, least=0)
            parts[_ADAPTED] = Specification({"vectors": vectors, "counts": counts})
        return expected.with_parts(parts)

    def check_update(self, update: Update) -> None:
        """Server: what the rule cannot combine, and updates by other prototypes."""
        super().check_update(update)
        if not self.guards:
            return
        parts = update.payload.parts
        told = parts[AGREED].strings["about"] if AGREED in parts else ()
        require_same_prototypes(self.prototypes.about, told, f"client {update.client_id!r}")
        if self.adaptation:
            self._sent(update)

    def aggregate(self, updates: Sequence[Update]) -> Payload:
        """Server: θ_g and, where clients adapt them, the next version of the prototypes."""
        average = super().aggregate(updates)
        if not self.guards or not self.adaptation:
            return average
        merged = merge_prototypes(self.prototypes, [self._sent(update) for update in updates])
        return average.with_parts({MERGED: merged.to_payload(texts=False)})

    def server_metrics(self) -> dict[str, float]:
        """Server: what the rule says, what is known of the references, and how far merged prototypes have moved."""
        told, guard = super().server_metrics(), self._guarding.guard
        if guard is None:
            return told
        told |= {f"server/references/{name}": value for name, value in guard.metrics.items()}
        if self.adaptation:
            told["server/prototype_drift"] = prototype_drift(guard.prototypes, self.prototypes)
        return told

    def server_state(self) -> Payload:
        """Server: the memory of the rule, and all of the prototypes, with their reference texts."""
        guard = self._guarding.guard
        state = super().server_state()
        return state if guard is None else state.with_parts(guard.parts(for_server=True))

    def load_server_state(self, state: Payload) -> None:
        """Server: take it back."""
        super().load_server_state(state)
        if self.guards:
            self._guarding.load(state.parts)

    # ---------------------------------------------------------------- inside

    _kept_parts: Mapping[str, Payload] = {}

    @property
    def _margin(self) -> float | None:
        """M of this round; None where there is no pull."""
        if not self.lambda_prototype:
            return None
        if self.margin_schedule is None:
            return self.margin
        round = self.client.round if self.client else self.current_epoch
        return self.margin_schedule(self.margin, round)

    def _prototype_loss(
        self, student: Any, batch: Mapping[str, Tensor], margin: float | None
    ) -> Tensor:
        if margin is None:
            return torch.zeros((), device=student.logits.device)
        prototypes = self.prototypes if self._adapted is None else self._adapted
        assigned, allowed, gated = None, None, self._guarding.gated
        if self.assignment == "label":
            allowed = prototypes.of_class(batch["labels"])
        elif self.assignment == "trusted" and gated is not None:
            assigned, _ = gated.of_batch(batch["index"])
        projector = next(iter(self._guarding.projector), None)
        vectors = prototypes.vectors.to(self.device)
        return self.prototype_margin_loss(
            student, vectors, assigned, batch.get("weight"), margin, projector, allowed
        )

    def _judged_weights(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The weights of a batch's rows, 0 of those that are dropped, [B]."""
        gated = self._guarding.gated
        if gated is None:
            raise RuntimeError("rows are expected to have been judged before they are trained on")
        kept = gated.of_batch(batch["index"])[1].float()
        return kept * batch["weight"] if "weight" in batch else kept

    def _sent(self, update: Update) -> PrototypeSet:
        """The prototypes that a client has adapted.

        Raises:
            ValueError: If they are none.
        """
        sent, now = update.payload.parts[_ADAPTED].tensors, self.prototypes
        return PrototypeSet(
            sent["vectors"],
            now.classes,
            sent["counts"].long(),
            now.version,
            now.encoder,
            (),
            now.labels,
        )
