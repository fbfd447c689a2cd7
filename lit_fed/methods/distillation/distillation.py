"""Distillation: federated averaging whose clients also learn from a teacher."""

from __future__ import annotations

from torch import Tensor

from lit_fed.methods.taught import TaughtMixin


class Distillation(TaughtMixin):
    r"""Knowledge distillation from a teacher, federated over clients.

    A client starts from :math:`\theta_k \leftarrow \theta_g`, minimises on its own rows

    .. math::
        L = \mathrm{CE}(y, p_k) + \lambda \, T^2 \,
            \mathrm{KL}\bigl(\mathrm{softmax}(z_t / T) \,\Vert\, \mathrm{softmax}(z_k / T)\bigr)

    and sends :math:`\theta_k`; the server takes :math:`\theta_g = \sum_k w_k \theta_k`, or another aggregation.

    Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, §2,
    https://arxiv.org/abs/1503.02531: both objectives together, the soft one times T², here with the weights 1 and λ.
    The logits z are [B, C], or [B, L, V] of a language model, whose two losses are means over the tokens that are
    learnt. The teacher is a separate model (:class:`~lit_fed.methods.teachers.FrozenTeacher`, larger, and for
    classification with another tokenizer if need be) or the global model
    (:class:`~lit_fed.methods.teachers.AdapterTeacher`); it is never trained and never exchanged. With λ = 0 the method
    is :class:`~lit_fed.FedAvg` bit for bit.

    Args:
        backbone: The student, its tokenizer and its trainable part. None: the embedded classifier.
        aggregation: How uploads are combined. None: the average weighted by the clients' sizes.
        teacher: Whose predictions z_t are learnt. None: the global model, as it was when the round began.
        lambda_distill: λ ≥ 0. 0: there is no teacher.
        **kwargs: The temperature T > 0 (3), the optimizer and its warm-up.

    Raises:
        ValueError: If a number is out of range, or the teacher does not predict what the student predicts.

    Example:
        >>> import torch
        >>> method = Distillation(lambda_distill=0.5, temperature=2.0)
        >>> batch = method.tokenizer(["a red boat", "two"], padding=True, return_tensors="pt")
        >>> batch["labels"] = torch.tensor([0, 3])
        >>> task, distill = method.loss_terms(method(batch), method.taught(batch), batch)
        >>> task.isfinite().item(), distill.item()  # at first the global model is the student
        (True, 0.0)
    """

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """L = CE + λ·KD(p_t → p_k)."""
        task, distill = self.loss_terms(self(batch), self.taught(batch), batch)
        return self.total_loss(task, distill=distill)
