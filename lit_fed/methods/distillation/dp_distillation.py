"""DPDistillation: distillation from a teacher by DP-SGD."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from lit_fed.configuration_error import ConfigurationError
from lit_fed.methods.taught import TaughtMixin


class DPDistillation(TaughtMixin):
    r"""Knowledge distillation whose clients train by DP-SGD on the joint loss of each row.

    The loss of row i is :math:`\ell_i = \mathrm{CE}_i + \lambda \mathrm{KD}_i`, that of
    :class:`~lit_fed.Distillation`, and its gradient is cut as a whole before noise is added:

    .. math::
        g = \frac{1}{q n} \Bigl( \sum_{i \in B} \min\bigl(1, C / \lVert \nabla \ell_i \rVert\bigr) \nabla \ell_i
            + \mathcal{N}(0, \sigma^2 C^2 I) \Bigr)

    Abadi et al., "Deep Learning with Differential Privacy", 2016, Algorithm 1, https://arxiv.org/abs/1607.00133; the
    baseline of Bergman et al., "Robust Knowledge Distillation in Distributed LLMs Using Prototype-Constrained Semantic
    Defense Mechanisms", §5 (ε 8).

    How rows are drawn, cut and made noisy is ``trainer.privacy``, a :class:`~lit_fed.privacy.DPSGD` (the baseline's:
    ``target_epsilon`` 8, ``max_grad_norm`` 1, ``delta`` null, which is min(1e-5, 1/(n + 1))), as for every other
    method. It stands there and not here because it is a client's loop that has to be another one, because its account
    has to outlast rounds and runs, and because a second place for the same numbers could say something else. What this
    class adds is that it refuses to train without: a run that is called private is private. Clients report
    ``privacy/epsilon``; the run's summary has every client's.

    **What is promised** is what :class:`~lit_fed.privacy.DPSGD` promises of a client's rows, as long as the teacher
    says nothing of them: one that was trained on these rows, without privacy, is not covered. The global model as the
    teacher is made of what clients have sent already, which is private. A teacher's pass has no gradient.

    Args:
        backbone: The student, its tokenizer and its trainable part. None: the embedded classifier.
        aggregation: How uploads are combined. None: the average weighted by the clients' sizes.
        teacher: Whose predictions are learnt. None: the global model, as it was when the round began.
        lambda_distill: λ ≥ 0. 0: there is no teacher.
        **kwargs: The temperature T > 0 (3), the optimizer and its warm-up.

    Raises:
        ValueError: If a number is out of range, or the teacher does not predict what the student predicts.

    Example:
        >>> DPDistillation(lambda_distill=0.5).needs_privacy
        True
    """

    needs_privacy: ClassVar[bool] = True

    def setup(self, stage: str) -> None:
        """Refuse a stock Trainer, which knows no gradients of rows.

        Args:
            stage: ``fit`` where it is going to train.

        Raises:
            ConfigurationError: If it is to train in one.
        """
        if stage == "fit" and self._trainer is not None:
            raise ConfigurationError(
                "`trainer` is expected to be a FederatedTrainer with `privacy`, since DPDistillation trains by "
                "DP-SGD and a stock Trainer does not; without privacy there is lit_fed.Distillation"
            )
        super().setup(stage)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """L = CE + λ·KD(p_t → p_k), of which ``trainer.privacy`` takes each row's gradient."""
        task, distill = self.loss_terms(self(batch), self.taught(batch), batch)
        return self.total_loss(task, distill=distill)
