"""How much each term of a method's loss acts beside the task's loss, by the norms of their gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from lit_fed.callbacks.federated_callback import FederatedCallback
from lit_fed.limits import require_at_least, require_non_negative
from lit_fed.module import FederatedModule

if TYPE_CHECKING:
    from lit_fed.federation.federation_view import FederationView
    from lit_fed.update import Update

PREFIX: Final = "strength/"


def is_due(step: int, every: int, period: int = 1) -> bool:
    """Whether a term is measured in a client's own step, counted from 0.

    A term of every step is measured in the last of ``every`` steps and not in the first, where a teacher
    that has just been copied from the student teaches nothing. A term of every ``period``-th step is
    measured in steps in which it is there, at most once in ``every``.

    Args:
        step: Steps that the client has taken before.
        every: Steps between two measurements.
        period: Every how many steps the term is there.

    Example:
        >>> [step for step in range(8) if is_due(step, every=3)]
        [2, 5]
        >>> [step for step in range(9) if is_due(step, every=3, period=2)]
        [0, 4, 8]
    """
    if period == 1:
        return (step + 1) % every == 0
    return step % (period * -(-every // period)) == 0


class TermStrength(FederatedCallback):
    r"""Gives a round's row the strength of each loss term beside the task's, and names those that do nothing.

    The strength of a term is :math:`\lVert \nabla L_\mathrm{term} \rVert_2 / \lVert \nabla L_\mathrm{task} \rVert_2`
    of one batch by all that the client trains, with the term's weight in it. The row has its mean over the
    client's measurements of the round as ``clients/strength/<term>/mean``, ``/std``, ``/min`` and ``/max`` over
    the clients. The terms are those of the method's ``total_loss``; one without a gradient, such as a size of
    noise, has no strength. In a stock Trainer ``strength/<term>`` is logged.

    Each measurement takes a backward pass for each term and one for the task, which is why it is made every
    ``every_n_steps``-th step alone; all other steps cost nothing. The training itself is the same bit for bit.
    It works with clients one after the other, vectorized and in processes of their own, not with
    ``ShardedClients``, whose gradients are there only after a whole backward pass, and not with ``compile``,
    whose backward pass can be taken once.

    Args:
        every_n_steps: Of a client's own steps, counted across rounds. A term that is not there in every step,
            such as MSI's, is measured in steps in which it is.
        inert: A term whose strength is below this in every client that has measured it in a round is named
            once, as a warning.

    Raises:
        ValueError: If ``every_n_steps`` is below 1 or ``inert`` below 0; at the start of a fit, if gradients of
            single terms cannot be had.
    """

    def __init__(self, every_n_steps: int = 20, inert: float = 0.01) -> None:
        self.every_n_steps = require_at_least("every_n_steps", every_n_steps, 1)
        self.inert = require_non_negative("inert", inert)
        self._named: list[str] = []
        self._measured = False

    def state_dict(self) -> dict[str, Any]:
        """The terms that were named, so that a run that goes on later does not name them again."""
        return {"named": self._named, "measured": self._measured}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on; see :meth:`state_dict`."""
        self._named, self._measured = list(state_dict["named"]), bool(state_dict["measured"])

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        """Refuse what gives no gradients of single terms."""
        execution = getattr(trainer, "execution", None)  # a stock Trainer has none
        if execution is not None and not execution.takes_gradients:
            raise ValueError(
                "TermStrength expects a `trainer.execution` in which a client's gradients are whole after each "
                f"pass, but it is {type(execution).__name__}"
            )
        if getattr(trainer, "compile", False):
            raise ValueError(
                "TermStrength expects `trainer.compile` to be false, since it takes several backward passes of one "
                "forward pass, and compiled layers allow one"
            )

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        """Listen to the module's terms where a measurement is due."""
        step, every = module.own_step, self.every_n_steps
        due = any(is_due(step, every, period) for period in {1, *module.term_periods.values()})
        module.term_listener = self._measure if due else None

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Listen no longer."""
        module.term_listener = None

    def on_aggregate_end(
        self, trainer: FederationView, module: FederatedModule, updates: Sequence[Update]
    ) -> None:
        """Name the terms that did nothing in any client that has measured them."""
        most: dict[str, float] = {}
        for update in updates:
            for name, value in update.metrics.items():
                if name.startswith(PREFIX):
                    most[name] = max(value, most.get(name, 0.0))
        self._measured |= bool(most)
        for name, value in most.items():
            if value < self.inert and name not in self._named:
                self._named.append(name)
                rank_zero_warn(
                    f"round {trainer.federation.round + 1}: the gradient of the loss term "
                    f"`{name.removeprefix(PREFIX)}` is {value:.2g} of the task loss's, below {self.inert:g} in every "
                    "client: it does next to nothing. Raise its weight, or set that to 0"
                )

    def on_fit_end(self, trainer: Any, module: Any) -> None:
        """Say if nothing was measured at all."""
        if hasattr(trainer, "execution") and not self._measured and not trainer.fast_dev_run:
            rank_zero_warn(
                f"TermStrength has measured nothing: {type(module).__name__} gives `total_loss` no term beside the "
                f"task's, or no client has taken `every_n_steps` {self.every_n_steps} steps"
            )

    def _measure(self, module: FederatedModule, task: Tensor, terms: Mapping[str, Tensor]) -> None:
        """Log the strengths of the terms that are due and have a graph."""
        step, periods = module.own_step, module.term_periods
        due = {
            name: term
            for name, term in terms.items()
            if term.requires_grad and is_due(step, self.every_n_steps, periods.get(name, 1))
        }
        if not due or not task.requires_grad:
            return
        with module.timers("term strength"):
            losses = (task, *due.values())
            norms = [_norm(module.loss_gradients(loss), loss.device) for loss in losses]
            beside, *own = torch.stack(norms).tolist()
        for name, norm in zip(due, own, strict=True):
            # the ratio to nothing is no number, and a client that logs one is left out
            if beside > 0 and math.isfinite(norm / beside):
                module.log(f"{PREFIX}{name}", norm / beside)


def _norm(gradients: Sequence[Tensor], device: torch.device) -> Tensor:
    """The Euclidean norm of all of them; 0 of none."""
    squares = [gradient.float().square().sum() for gradient in gradients]
    return torch.stack(squares).sum().sqrt() if squares else torch.zeros((), device=device)
