"""PGD on embeddings: the perturbation of a model's embeddings, within a box, that raises its loss most."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from lit_fed.backbones import Backbone
from lit_fed.batch_in_step import BatchInStep
from lit_fed.limits import require_at_least, require_non_negative, require_positive
from lit_fed.losses import counted_means
from lit_fed.perturbations import find_modules


def projected_step(delta: Tensor, gradient: Tensor, step_size: float, epsilon: float) -> Tensor:
    r"""One step of projected gradient ascent in the L∞ box of half-width ε.

    .. math:: \Pi_{[-\epsilon, \epsilon]}\bigl(\delta + \alpha \operatorname{sign}(\nabla_\delta L)\bigr)

    Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", 2018, §2.1,
    https://arxiv.org/abs/1706.06083.

    Args:
        delta: δ, of any shape.
        gradient: That of the loss by δ, of the same shape.
        step_size: α.
        epsilon: ε.

    Example:
        >>> projected_step(torch.tensor([0.0, 0.9]), torch.tensor([-2.0, 0.1]), 0.5, 1.0)
        tensor([-0.5000,  1.0000])
    """
    return (delta + step_size * gradient.sign()).clamp(-epsilon, epsilon)


class Student(Protocol):
    """What the attack may ask of the method that has it."""

    @property
    def backbone(self) -> Backbone:
        """The model whose embeddings are perturbed."""

    @property
    def own_step(self) -> int:
        """Steps that the client has taken before this one."""

    @property
    def batch_in_step(self) -> BatchInStep:
        """Which one the batch is of those of its step."""

    def loss_gradients(self, loss: Tensor, by: Sequence[Tensor] | None = None) -> list[Tensor]:
        """The gradients of a loss."""


class EmbeddingPGD:
    r"""Finds δ with ‖δ‖∞ ≤ ε, for each token of a batch, at which the loss of the model on E(x) + δ is large.

    It starts from a uniform draw in the box and takes ``steps`` of :func:`projected_step`. E is the table of tokens, of
    which the output is perturbed before positions and norms. ε is in the units of E, whatever the model: a table
    whose entries are small is changed more by the same ε. Padded places get no perturbation. The model stays
    in the mode it is in, with its dropout, and no parameter gets a gradient.

    The draw follows from the seed that torch was given last, which in a federation is of the client and its round,
    from the client's step and from the batch's place in it; torch's own generators are left alone.

    Args:
        epsilon: ε ≥ 0. 0: nothing is perturbed, and no step is taken.
        steps: Steps, at least 1.
        step_size: α > 0. None: 2.5 ε / steps, so that δ can get from anywhere in the box to its border.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> EmbeddingPGD(epsilon=0.1, steps=5).step_size
        0.05
    """

    def __init__(
        self, epsilon: float = 0.1, steps: int = 3, step_size: float | None = None
    ) -> None:
        self.epsilon = require_non_negative("model.adversary.epsilon", epsilon)
        self.steps = require_at_least("model.adversary.steps", steps, 1)
        if step_size is not None:
            require_positive("model.adversary.step_size", step_size)
        self.step_size = 2.5 * epsilon / steps if step_size is None else step_size

    @contextmanager
    def perturbed(
        self, student: Student, batch: Mapping[str, Tensor], loss: Callable[[], Tensor]
    ) -> Iterator[None]:
        """Within the block the student's passes of a batch are on E(x) + δ, with δ found before it begins.

        Args:
            student: The method.
            batch: The batch.
            loss: Passes the batch and gives the loss that is to be large, a scalar.

        Raises:
            ValueError: If the model has not one table of tokens that is read once a pass.
        """
        if not self.epsilon:
            yield
            return
        (name, table), *others = find_modules(student.backbone.model, "embedding").items()
        if others:
            raise ValueError(
                f"`model.adversary` expects a model with one table of tokens, but it has {name} and {others[0][0]}"
            )
        batch_name = student.batch_in_step.named(student.own_step)
        seed = random.Random(f"PGD {torch.initial_seed()} {batch_name}").getrandbits(63)
        shift = _Shift(batch, self.epsilon, seed)
        handle = table.register_forward_hook(shift)
        try:
            for _ in range(self.steps):
                with counted_means():  # which are no part of the loss that is trained on
                    objective = loss()
                (gradient,) = student.loss_gradients(objective, by=[shift.delta])
                del objective  # with its graph
                shift.take(projected_step(shift.delta.detach(), gradient, *self._sizes))
            shift.delta.requires_grad_(False)
            yield
        finally:
            handle.remove()

    @property
    def _sizes(self) -> tuple[float, float]:
        return self.step_size, self.epsilon


class _Shift:
    """A hook of a table of tokens that adds δ to what it gives.

    Args:
        batch: With ``input_ids`` [B, L] and perhaps ``attention_mask`` [B, L].
        epsilon: ε.
        seed: Of the first δ.

    Attributes:
        delta: δ, [B, L, d]; a leaf of the graph. Empty until the first pass, which tells its size.
    """

    def __init__(self, batch: Mapping[str, Tensor], epsilon: float, seed: int) -> None:
        tokens = batch["input_ids"]
        self._inside = batch.get("attention_mask", torch.ones_like(tokens)).bool().unsqueeze(-1)
        self._epsilon, self._seed = epsilon, seed
        self.delta = torch.empty(0)

    def take(self, delta: Tensor) -> None:
        """Let δ be another one, but 0 at padding."""
        self.delta = delta.masked_fill(~self._inside, 0.0).requires_grad_()

    def __call__(self, module: Any, args: Any, output: Tensor) -> Tensor:
        if not self.delta.numel():
            if output.shape[:2] != self._inside.shape[:2]:
                raise ValueError(
                    f"`model.adversary` expects a table of tokens that gives [B, L, d] with [B, L] "
                    f"{list(self._inside.shape[:2])}, but got {list(output.shape)}"
                )
            draws = torch.Generator(output.device).manual_seed(self._seed)
            start = torch.empty_like(output, dtype=torch.promote_types(output.dtype, torch.float32))
            self.take(start.detach().uniform_(-self._epsilon, self._epsilon, generator=draws))
        return output + self.delta.to(output.dtype)
