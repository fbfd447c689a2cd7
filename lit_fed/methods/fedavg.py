"""Federated averaging of whatever the backbone trains."""

from __future__ import annotations

from torch import Tensor

from lit_fed.methods.averaging import AveragingMixin


class FedAvg(AveragingMixin):
    r"""Federated averaging of a model or, with a PEFT configuration, of its adapter and head.

    A client starts from :math:`\theta_k \leftarrow \theta_g`, minimises the task loss on its own rows and
    sends :math:`\theta_k`; the server takes :math:`\theta_g = \sum_k w_k \theta_k`.

    McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", 2017,
    Algorithm 1, https://arxiv.org/abs/1602.05629. With a LoRA backbone this is the LoRA-FedAvg of the
    literature, which averages A and B separately.

    Args:
        backbone: The model, its tokenizer and its trainable part. None: the embedded classifier.
        aggregation: How uploads are combined. None: the average weighted by the clients' sizes.
        optimizer: Makes the client's optimizer of the trainable parameters.
        warmup_steps: Linear warm-up of the learning rate over the client's first own steps.
    """

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """The cross-entropy of the task."""
        student = self(batch)
        return self.total_loss(self.task_loss(student, batch))
