"""FedSD: federated self-distillation."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lit_fed.aggregation import Aggregation
from lit_fed.backbones import Backbone
from lit_fed.methods.averaging import AveragingMixin
from lit_fed.methods.rewriting import Rewriting, SelfDistillation, SoftTargets


class FedSD(AveragingMixin):
    r"""Federated self-distillation (FedSD): clients train on what the initial global model has written.

    Before round 0 a client draws :math:`\tilde y \sim f_{\theta_0}(\cdot \mid x, y)` once for each of its rows. Then it
    starts each round from :math:`\theta_k \leftarrow \theta_g`, minimises

    .. math:: L = -\log f_{\theta_k}(\tilde y \mid x)

    and sends :math:`\theta_k`; the server takes :math:`\theta_g` by any aggregation rule. For a model that classifies
    :math:`\tilde y = (1 - \kappa) \, \mathrm{onehot}(y) + \kappa \, \mathrm{softmax}(z_{\theta_0} / T)`. Of a chat ỹ is
    the assistant's last turn alone; its turns before are learnt as they are.

    Wang et al., "FedSDR: Federated Self-Distillation with Rectification", 2026, its first part,
    https://arxiv.org/abs/2605.18028; the rewriting is that of Yang et al., 2024, https://arxiv.org/abs/2402.13669.
    It is :class:`~lit_fed.FedAvg` with a ``rewriting``, which every method that averages weights can have.

    Args:
        backbone: The model, its tokenizer and its trainable part. None: the embedded classifier.
        aggregation: How uploads are combined. None: the average weighted by the clients' sizes.
        rewriting: How ỹ is made. None: :class:`~lit_fed.methods.rewriting.Rewriting`, or
            :class:`~lit_fed.methods.rewriting.SoftTargets` for a model that classifies.
        **kwargs: The optimizer and its warm-up.
    """

    def __init__(
        self,
        backbone: Backbone | None = None,
        aggregation: Aggregation | None = None,
        rewriting: SelfDistillation | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backbone, aggregation, rewriting=rewriting, **kwargs)
        if self.rewriting is None:
            self.rewriting = SoftTargets() if self.backbone.classifies else Rewriting()

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """L = −log f(ỹ | x)."""
        student = self(batch)
        return self.total_loss(self.task_loss(student, batch))
