"""AdversarialDistillation: distillation from a teacher on adversarial embeddings."""

from __future__ import annotations

from operator import add
from typing import Any

from torch import Tensor

from lit_fed.aggregation import Aggregation
from lit_fed.backbones import Backbone
from lit_fed.limits import require_instance
from lit_fed.methods.distillation.embedding_pgd import EmbeddingPGD
from lit_fed.methods.taught import TaughtMixin
from lit_fed.methods.teachers import Teacher
from lit_fed.perturbations import find_modules


class AdversarialDistillation(TaughtMixin):
    r"""Knowledge distillation whose student is trained on adversarial embeddings, federated over clients.

    A client minimises, with E(x) the embeddings of its rows' tokens,

    .. math::
        \max_{\lVert \delta \rVert_\infty \le \epsilon} \;
            \mathrm{CE}\bigl(y, p_k(E(x) + \delta)\bigr)
            + \lambda \, \mathrm{KD}\bigl(p_t(x) \to p_k(E(x) + \delta)\bigr)

    where δ is found by a few steps of PGD in every training step (:class:`EmbeddingPGD`).

    Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", 2018, eq. 2.1,
    https://arxiv.org/abs/1706.06083, with δ on embeddings as in Miyato et al., 2017, https://arxiv.org/abs/1605.07725;
    the baseline of Bergman et al., "Robust Knowledge Distillation in Distributed LLMs Using Prototype-Constrained
    Semantic Defense Mechanisms", §5, which says "PGD-based, epsilon=0.1" and no more. What it leaves open is chosen so:
    what δ raises is what θ lowers, CE and KD together; the teacher reads the clean text, since its embeddings may be
    others; and there is no loss on clean embeddings beside. A step costs 1 + ``steps`` passes forward and back.
    With ε = 0 it is :class:`~lit_fed.Distillation` bit for bit.

    Args:
        backbone: The student, its tokenizer and its trainable part. None: the embedded classifier.
        aggregation: How uploads are combined. None: the average weighted by the clients' sizes.
        teacher: Whose predictions are learnt. None: the global model, as it was when the round began.
        adversary: How δ is found. None: ε 0.1, 3 steps.
        lambda_distill: λ ≥ 0. 0: there is no teacher.
        **kwargs: The temperature T > 0 (3), the optimizer and its warm-up.

    Raises:
        ValueError: If a number is out of range, the teacher does not predict what the student predicts, or the model
            has no table of tokens.

    Example:
        >>> AdversarialDistillation(adversary=EmbeddingPGD(epsilon=0.02)).adversary.steps
        3
    """

    def __init__(
        self,
        backbone: Backbone | None = None,
        aggregation: Aggregation | None = None,
        *,
        teacher: Teacher | None = None,
        adversary: EmbeddingPGD | None = None,
        lambda_distill: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            backbone, aggregation, teacher=teacher, lambda_distill=lambda_distill, **kwargs
        )
        require_instance("model.adversary", adversary, EmbeddingPGD)
        self.adversary = EmbeddingPGD() if adversary is None else adversary
        if self.adversary.epsilon:
            find_modules(self.backbone.model, "embedding")

    def check_split(self) -> None:
        """Refuse to be split over processes, which cannot share the perturbation of one batch.

        Raises:
            ValueError: If there is one.
        """
        super().check_split()
        if self.adversary.epsilon:
            raise ValueError(
                "`model.adversary.epsilon` is expected to be 0 where a batch is split over processes, which cannot "
                f"share the perturbation of one batch, but got {self.adversary.epsilon}"
            )

    def check_private(self) -> None:
        """Refuse privacy, since PGD takes gradients of the loss within a step.

        Raises:
            ValueError: If there is a perturbation.
        """
        if self.adversary.epsilon:
            raise ValueError(
                "`trainer.privacy` expects `model.adversary.epsilon` to be 0, since each row is to be passed once a "
                f"step, but got {self.adversary.epsilon}"
            )
        super().check_private()

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """L = CE + λ·KD(p_t(x) → p_k(E(x) + δ)) at the δ that PGD finds for this L."""
        teacher = self.taught(batch)

        def terms() -> tuple[Tensor, Tensor]:
            return self.loss_terms(self(batch), teacher, batch)

        with self.adversary.perturbed(self, batch, lambda: add(*terms())):
            task, distill = terms()
        return self.total_loss(task, distill=distill)
