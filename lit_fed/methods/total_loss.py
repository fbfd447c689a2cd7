"""The sum of a method's terms, each of them logged."""

from __future__ import annotations

from torch import Tensor

from lit_fed.module import FederatedModule


class TotalLossMixin(FederatedModule):
    """Gives a method the sum of its loss terms.

    Args:
        **kwargs: For the next class.
    """

    def total_loss(self, task: Tensor, **terms: Tensor) -> Tensor:
        """The sum task + Σ terms, logged as ``train/loss``, and each term as ``train/<its name>``.

        Args:
            task: The task's loss, a scalar.
            **terms: The other terms, weighted. Those that are off are constants, and are not logged.

        Returns:
            A scalar.
        """
        loss = task
        for name, term in terms.items():
            loss = loss + term
            if term.requires_grad:
                self.log(f"train/{name}", term.detach())
        self.log("train/loss", loss)
        return loss
