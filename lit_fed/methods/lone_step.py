"""Says that distillation from θ_g needs more than one local step."""

from __future__ import annotations

from lightning.pytorch.utilities import rank_zero_warn

from lit_fed.module import FederatedModule


class LoneStepMixin(FederatedModule):
    """Counts a round's own steps and says once if a client takes a single one.

    Args:
        **kwargs: For the next class.
    """

    _steps_before = 0
    _said = False

    def count_steps(self) -> None:
        """A round begins."""
        self._steps_before = self.client.steps if self.client else 0

    def warn_of_a_lone_step(self, distils: bool) -> None:
        """A client's round ends.

        Args:
            distils: Whether there is a term that is 0 where student and teacher are the same.
        """
        lone = self.client is not None and self.client.steps - self._steps_before == 1
        if distils and lone and not self._said:
            self._said = True
            rank_zero_warn(
                f"{type(self).__name__}: with a single local step the student is the teacher, so "
                f"KD and alignment are 0; only L_aggregate differs from FedAvg"
            )
