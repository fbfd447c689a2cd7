"""Consensus on classes: P̄ as mean predictions of each class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lit_fed.aggregation import Aggregation
from lit_fed.backbones import CausalLM, Prediction
from lit_fed.configuration_error import ConfigurationError
from lit_fed.losses import mixture, soft_predictions
from lit_fed.methods.ddg.consensus import Batch, Consensus, Guidance, Passes
from lit_fed.payload import Payload
from lit_fed.specification import Specification, TensorSpecification


class ClassConsensus(Consensus):
    """Clients send their mean predictions of the rows of each class, C² numbers in half precision.

    Jeong et al., "Communication-Efficient On-Device Machine Learning: Federated Distillation and
    Augmentation under Non-IID Private Data", 2018, https://arxiv.org/abs/1811.11479. The mean is over
    the round's training passes, so it costs none of its own. A class that nobody has seen has no P̄.
    """

    _probs: Tensor | None = None
    _seen: Tensor | None = None

    def check(self, passes: Passes, rule: Aggregation) -> None:
        """Only classifiers have classes."""
        super().check(passes, rule)
        if isinstance(passes.backbone, CausalLM):
            raise ValueError(
                "`model.consensus` is ClassConsensus, which is for classifiers, but `model.backbone` is "
                "a causal language model: use PublicConsensus or PeerConsensus"
            )

    def receive(self, passes: Passes, broadcast: Payload) -> None:
        """P̄ of each class, [C, C], 0 where there is none."""
        self._probs, self._seen = broadcast.tensors.get("probs"), None

    def guidance(
        self, passes: Passes, batch: Batch, student: Prediction, teacher: Prediction | None
    ) -> Guidance:
        """The client's own rows, with the P̄ of their classes."""
        if student.targets is None:
            raise ConfigurationError(
                "`labels` are expected where `model.consensus` is ClassConsensus"
            )
        self._observe(student, student.targets, passes.temperature)
        if self._probs is None:
            return Guidance(student)
        labels = student.targets.clamp(min=0)
        consensus = self._probs.to(labels.device).float()[labels]
        known = student.mask & (consensus.sum(-1) > 0)
        # Any distribution, where the mask keeps it from counting.
        consensus = consensus.where(known.unsqueeze(-1), 1.0)
        own = Prediction(student.logits, student.targets, known, None, student.attention_mask)
        return Guidance(own, teacher, consensus, batch.get("weight"))

    @torch.no_grad()
    def _observe(self, student: Prediction, targets: Tensor, temperature: float) -> None:
        probs = soft_predictions(student.logits, temperature).exp()
        if self._seen is None:
            self._seen = probs.new_zeros(probs.shape[-1], probs.shape[-1] + 1)
        counted = torch.cat([probs, torch.ones_like(probs[:, :1])], -1)
        self._seen.index_add_(0, targets[student.mask], counted[student.mask])

    def expected(self, passes: Passes) -> Specification:
        """``probs``, [C, C]."""
        classes = passes.backbone.num_labels or "classes"
        probs = TensorSpecification((classes, classes), torch.float16, least=0, most=1)
        return Specification({"probs": probs})

    def send(self, passes: Passes) -> Payload:
        """``probs``: mean predictions [C, C], 0 for a class without rows."""
        if self._seen is None:
            raise RuntimeError("ClassConsensus expects a training step before the upload")
        probs = (self._seen[:, :-1] / self._seen[:, -1:].clamp(min=1)).half()
        return Payload({"probs": probs})

    def combine(
        self,
        passes: Passes,
        uploads: Sequence[Payload],
        sent: Sequence[Payload],
        weights: Tensor,
    ) -> Payload:
        """Of each class the mixture of the clients that have it, by their weights."""
        log_probs = torch.stack([one.tensors["probs"].float().log() for one in sent])
        mixed = mixture(log_probs, weights).exp()
        return Payload({"probs": (mixed / mixed.sum(-1, keepdim=True).clamp(min=1e-12)).half()})
