"""P̄ as mean predictions of each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lit_fed.backbones import CausalLM, Prediction
from lit_fed.losses import mixture, soft_predictions
from lit_fed.methods.guide import Guide, Guided


class ClassGuide(Guide):
    """Clients send their mean predictions of the rows of each class, C² numbers in half precision.

    Jeong et al., "Communication-Efficient On-Device Machine Learning: Federated Distillation and
    Augmentation under Non-IID Private Data", 2018, https://arxiv.org/abs/1811.11479. The mean is over
    the round's training passes, so it costs none of its own. A class that nobody has seen has no P̄.
    """

    _probs: Tensor | None = None
    _seen: Tensor | None = None

    def check(self) -> None:
        """Only classifiers have classes."""
        if isinstance(self.module.backbone, CausalLM):
            raise ValueError(
                "`model.aggregate_on` is 'class', which is for classifiers, but `model.backbone` is "
                "a causal language model: use 'public' or 'peers'"
            )

    def receive(self, tensors: Mapping[str, Tensor]) -> None:
        """P̄ of each class, [C, C], 0 where there is none."""
        self._probs, self._seen = tensors.get("probs"), None

    def guided(
        self, batch: Mapping[str, Tensor], student: Prediction, teacher: Prediction | None
    ) -> Guided:
        """The client's own rows, with the P̄ of their classes."""
        if student.targets is None:
            raise ValueError("`labels` are expected where `model.aggregate_on` is 'class'")
        self._observe(student, student.targets)
        if self._probs is None:
            return Guided(student, None, None)
        labels = student.targets.clamp(min=0)
        consensus = self._probs.to(labels.device).float()[labels]
        known = student.mask & (consensus.sum(-1) > 0)
        # Any distribution, where the mask keeps it from counting.
        consensus = consensus.where(known.unsqueeze(-1), 1.0)
        own = Prediction(student.logits, student.targets, known, None, student.attention_mask)
        return Guided(own, teacher, consensus, batch.get("weight"))

    @torch.no_grad()
    def _observe(self, student: Prediction, targets: Tensor) -> None:
        probs = soft_predictions(student.logits, self.module.temperature).exp()
        if self._seen is None:
            self._seen = probs.new_zeros(probs.shape[-1], probs.shape[-1] + 1)
        counted = torch.cat([probs, torch.ones_like(probs[:, :1])], -1)
        self._seen.index_add_(0, targets[student.mask], counted[student.mask])

    def send(self) -> dict[str, Tensor]:
        """Mean predictions [C, C], 0 for a class without rows."""
        if self._seen is None:
            raise RuntimeError("`aggregate_on` 'class' expects a training step before the upload")
        return {"probs": (self._seen[:, :-1] / self._seen[:, -1:].clamp(min=1)).half()}

    def combine(
        self,
        adapters: Sequence[Mapping[str, Tensor]],
        sent: Sequence[Mapping[str, Tensor]],
        weights: Tensor,
    ) -> dict[str, Tensor]:
        """Of each class the mixture of the clients that have it, by their weights."""
        mixed = mixture(torch.stack([one["probs"].float().log() for one in sent]), weights).exp()
        return {"probs": (mixed / mixed.sum(-1, keepdim=True).clamp(min=1e-12)).half()}
