"""Structure injection: the second, perturbed pass of MSI, and the steps that have one."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from lit_fed.backbones import Backbone, Prediction
from lit_fed.batch_in_step import BatchInStep
from lit_fed.limits import require_at_least
from lit_fed.perturbations import (
    Injection,
    Perturbation,
    Randomness,
    Site,
    find_modules,
    inject,
)


class Student(Protocol):
    """What an injection may ask of the method that has it."""

    @property
    def backbone(self) -> Backbone:
        """The model whose modules are perturbed."""

    @property
    def device(self) -> torch.device:
        """Where it is."""

    @property
    def own_step(self) -> int:
        """Steps that the client has taken before this one."""

    @property
    def batch_in_step(self) -> BatchInStep:
        """Which one the batch is of those of its step."""

    def log(self, name: str, value: Any, *args: Any, **kwargs: Any) -> None:
        """Log a value."""

    def __call__(self, batch: Mapping[str, Tensor], output_hidden: bool = False) -> Any:
        """The student's pass, a :class:`~lit_fed.backbones.Prediction`."""


class StructureInjection:
    """Passes a batch a second time with modules M_i(h) + Δ_i, at every so many of a client's own steps.

    Args:
        perturbation: What is added to the modules. With ``learn_scale`` its magnitudes ascend
            L_stability − β·L_weight.
        sites: Which modules: ``embedding``, ``attention``, ``feed_forward``, ``norm``.
        inject_every: Perturb at every so many of the client's own steps, counted across rounds, the
            first one included.
        mu: μ, the weight of the two terms; at 0 there is no second pass.
        backbone: The model that is to have the sites.

    Raises:
        ValueError: If a site is not found, or ``inject_every`` is not at least 1.
    """

    def __init__(
        self,
        perturbation: Perturbation,
        sites: Sequence[Site],
        inject_every: int,
        mu: float,
        backbone: Backbone,
    ) -> None:
        self.perturbation = perturbation
        self.sites = tuple(sites)
        self.inject_every = require_at_least("model.inject_every", inject_every, 1)
        self.mu = mu
        for site in self.sites if mu else ():
            find_modules(backbone.model, site)

    def check_split(self) -> None:
        """Say whether batches can be split over processes.

        Raises:
            ValueError: If there is a second pass: a perturbation is drawn for a whole batch, and some
                change the weights themselves.
        """
        if self.mu:
            raise ValueError(
                "`model.mu` is expected to be 0 where a batch is split over processes, which cannot share "
                f"the perturbation of one pass, but got {self.mu}"
            )

    @contextmanager
    def shared_dropout(self, student: Student) -> Iterator[Randomness | None]:
        """Around the clean pass: what the perturbed pass needs to drop the same units.

        Args:
            student: The method.

        Yields:
            None on steps without injection.
        """
        if not self.mu or student.own_step % self.inject_every:
            yield None
            return
        randomness = Randomness(student.device)
        with randomness.recorded(student.backbone.model):
            yield randomness

    def perturbed(
        self, student: Student, batch: Mapping[str, Tensor], randomness: Randomness | None
    ) -> tuple[Prediction | None, Injection | None]:
        """The pass with M_i(h) + Δ_i, and what was injected; None and None on steps without.

        The perturbation follows from the seed that torch was given last, from the step and from the batch's place in
        it, so torch's global generators are left as the clean pass left them.

        Args:
            student: The method.
            batch: A batch.
            randomness: Of :meth:`shared_dropout`.
        """
        if randomness is None:
            return None, None
        batch_name = student.batch_in_step.named(student.own_step)
        seed = random.Random(f"injection {torch.initial_seed()} {batch_name}").getrandbits(63)
        with (
            randomness.replayed(),
            inject(
                student.backbone.model,
                self.perturbation,
                self.sites,
                attention_mask=student.backbone.seen_mask(batch),
                generator=torch.Generator(student.device).manual_seed(seed),
            ) as injection,
        ):
            prediction: Prediction = student(batch)
        return prediction, injection

    def terms(
        self,
        stability: Tensor,
        size: Tensor,
        injection: Injection | None,
        student: Student,
    ) -> dict[str, Tensor]:
        """The two terms by their names; learnt magnitudes ascend where the step ends, as the loss has its graph still.

        The size has no gradient in the model's weights and, as a rule, none at all: it is logged here.

        Args:
            stability: μ · L_stability.
            size: μ · β · L_weight.
            injection: Of :meth:`perturbed`.
            student: The method.
        """
        if injection is not None:
            student.log("train/weight_regularization", size.detach())
            if self.perturbation.scale_optimizer is not None:
                injection.ascend(stability - size, student.batch_in_step)
        return {"stability": stability, "weight_regularization": size.detach()}
