"""Prototype-constrained semantic defence: rows are judged, and representations pulled, by prototypes of references."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, Literal

import torch
from torch import Tensor

from lit_fed.aggregation import Aggregation
from lit_fed.backbones import Backbone, Prediction
from lit_fed.configuration_error import ConfigurationError
from lit_fed.data.datamodule import Table
from lit_fed.limits import require_at_least, require_fraction, require_instance, require_share
from lit_fed.losses import PrototypeMarginMixin
from lit_fed.methods.prototype_defense.encoders import FittedEncoder, GateEncoder
from lit_fed.methods.prototype_defense.guarded import GuardedMixin
from lit_fed.methods.prototype_defense.guarding import Guarding
from lit_fed.methods.prototype_defense.layer_states import (
    layer_states,
    require_layers,
    require_layers_of_encoder,
)
from lit_fed.methods.taught import TaughtMixin
from lit_fed.methods.teachers import Teacher
from lit_fed.prototypes import AgreementGate, Gate, MarginSchedule, NoGate, PrototypeSet

Assignment = Literal["nearest", "label", "trusted"]
_ASSIGNMENTS: Final = ("nearest", "label", "trusted")


class PrototypeDefense(PrototypeMarginMixin, TaughtMixin, GuardedMixin):
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
        backbone: The model, its tokenizer and its trainable part. None: the embedded classifier. Of one that writes,
            representations are pulled as in the paper, without a gate: its prototypes have no classes.
        aggregation: How uploads are combined. None: the average weighted by the clients' sizes, dropped rows included.
        references: Clean rows, of each class some, as the encoding of the data reads them. None: the public set of the
            data.
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
        layers: Numbers, from 0, of further layers whose states are pulled to prototypes of their own, as the last one's
            are; the loss is the mean over all of them. None: the last one alone.
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
        layers: list[int] | None = None,
        margin_schedule: MarginSchedule | None = None,
        teacher: Teacher | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(backbone=backbone, aggregation=aggregation, teacher=teacher, **kwargs)
        require_instance("model.encoder", encoder, GateEncoder)
        require_instance("model.gate", gate, Gate)
        require_instance("model.margin_schedule", margin_schedule, MarginSchedule)
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
        self.layers = () if layers is None else require_layers(layers, self.backbone)
        pulls, gates = self.lambda_prototype > 0, not isinstance(self.gate, NoGate)
        if not pulls and not gates:
            return
        if self.layers and project:
            raise ValueError(
                f"`model.project` is expected to be false where `model.layers` have prototypes as well, since one "
                f"projector fits one layer, but got true with {list(self.layers)}"
            )
        by_classes = gates or supervised or adaptation > 0 or assignment != "nearest"
        if self.backbone.classifies is False and by_classes:
            raise ValueError(
                "`model.gate` is expected to be NoGate, `model.assignment` nearest, `model.supervised` false and "
                f"`model.adaptation` 0 where `model.backbone` does not classify, as {type(self.backbone).__name__}, "
                f"since prototypes of answers have no classes, but got {type(self.gate).__name__}, {assignment}, "
                f"{supervised} and {adaptation:g}: lit_fed.defenses.PerplexityFilter and PrototypeFilter judge answers"
            )
        self.encoder.attach(self.backbone, self.teacher)
        if pulls:
            kind = type(self.encoder).__name__
            require_layers_of_encoder(self.layers, self.encoder.backbone, kind)
        self.guarding = Guarding(
            references,
            num_prototypes,
            supervised,
            held_out,
            self.encoder,
            self.gate,
            pull,
            adaptation,
            project,
            seed,
            layers=self.layers if pulls else (),
            pulls=pulls,
            judges=gates or adaptation > 0 or (pulls and assignment == "trusted"),
        )

    def setup(self, stage: str) -> None:
        """Say before training what the defence needs and is not there.

        Args:
            stage: ``fit`` where it is going to train.

        Raises:
            ConfigurationError: If a stock Trainer is to judge rows.
        """
        super().setup(stage)
        if stage != "fit" or self._trainer is None or self.guarding is None:
            return
        if self.guarding.judges:
            raise ConfigurationError(
                "`trainer` is expected to be a FederatedTrainer, since a stock Trainer has no clients whose rows are "
                "judged; `model.gate` NoGate with `model.assignment` nearest or label does without"
            )
        self.data.check(self.backbones)
        self.guarding.fit(self)
        self.guarding.go_by(None)

    def check_split(self) -> None:
        """Refuse to be split over processes, each of which would judge and fit by itself.

        Raises:
            ValueError: If there are prototypes.
        """
        super().check_split()
        if self.guarding is not None:
            raise ValueError(
                "`model.gate` is expected to be NoGate and `model.lambda_prototype` 0 where a model is split over "
                f"processes, but got {type(self.gate).__name__} and {self.lambda_prototype:g}"
            )

    def check_private(self) -> None:
        """Refuse DP-SGD, since what is said of a client's rows by prototypes has no noise.

        Raises:
            ValueError: If there are prototypes.
        """
        super().check_private()
        if self.guarding is not None:
            raise ValueError(
                "`model.gate` is expected to be NoGate and `model.lambda_prototype` 0 with `trainer.privacy`, but got "
                f"{type(self.gate).__name__} and {self.lambda_prototype:g}"
            )

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """L = CE + λ₁·KD(p_t → p_k, x) + λ·max(0, 1 − cos(g(r), P_a) − m), of dropped rows the last alone."""
        margin = self._margin
        layers = () if margin is None else self.layers
        with layer_states(self.backbone, layers) as deeper:
            student = self(batch, output_hidden=margin is not None)
        task, distill = self.loss_terms(student, self.taught(batch), self._without_dropped(batch))
        prototype = self._prototype_loss(student, deeper, batch, margin)
        return self.total_loss(task, distill=distill, prototype=prototype)

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
        self,
        student: Prediction,
        deeper: Mapping[int, Tensor],
        batch: Mapping[str, Tensor],
        margin: float | None,
    ) -> Tensor:
        """The mean over the last layer and the further ones."""
        guarding = self.guarding
        if margin is None or guarding is None or guarding.guard is None:
            return torch.zeros((), device=student.logits.device)
        last = self.prototypes if self._adapted is None else self._adapted
        assigned, classes = None, None
        if self.assignment == "label":
            classes = batch["labels"]
        elif self.assignment == "trusted" and guarding.gated is not None:
            assigned, _ = guarding.gated.of_batch(batch["index"])
            classes = last.classes.to(assigned.device)[assigned]
        weight, projector = batch.get("weight"), next(iter(guarding.projector), None)
        length = batch["input_ids"].shape[1]
        states: list[tuple[PrototypeSet, Tensor | None]] = [(last, student.hidden)]
        states += [(guarding.guard.deeper[n], deeper[n][:, -length:]) for n in deeper]
        terms = [
            self.prototype_margin_loss(
                replace(student, hidden=hidden),
                prototypes.vectors.to(self.device),
                assigned if prototypes is last else None,
                weight,
                margin,
                projector,
                None if classes is None else prototypes.of_class(classes),
            )
            for prototypes, hidden in states
        ]
        return torch.stack(terms).mean() if len(terms) > 1 else terms[0]

    def _without_dropped(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The batch, with a weight of 0 for each row that is dropped and still here."""
        guarding = self.guarding
        if guarding is None or not (guarding.gates and guarding.pull):
            return batch
        if guarding.gated is None:
            raise RuntimeError("rows are expected to have been judged before they are trained on")
        kept = guarding.gated.of_batch(batch["index"])[1].float()
        return {**batch, "weight": kept * batch["weight"] if "weight" in batch else kept}
