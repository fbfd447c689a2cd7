"""Distillation from a teacher: plain, with differential privacy, and on adversarial embeddings.

The three share a teacher and their loss, and differ in what a step does with it.
"""

from typing import TYPE_CHECKING

from lit_fed.lazy_names import lazy_names

if TYPE_CHECKING:
    from lit_fed.methods.distillation.adversarial_distillation import AdversarialDistillation
    from lit_fed.methods.distillation.distillation import Distillation
    from lit_fed.methods.distillation.dp_distillation import DPDistillation
    from lit_fed.methods.distillation.embedding_pgd import EmbeddingPGD, projected_step
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "AdversarialDistillation",
    "DPDistillation",
    "Distillation",
    "EmbeddingPGD",
    "projected_step",
]
