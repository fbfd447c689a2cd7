"""MSI's mechanics: the second, perturbed pass."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from lit_fed.backbones import Prediction
from lit_fed.losses import StabilityMixin, WeightRegularizationMixin
from lit_fed.losses.hyperparameter import at_least
from lit_fed.module import FederatedModule
from lit_fed.perturbations import (
    GaussianNoise,
    Injection,
    Perturbation,
    Randomness,
    Site,
    find_modules,
    inject,
)


class StructureInjectionMixin(StabilityMixin, WeightRegularizationMixin, FederatedModule):
    """Gives a method the perturbed pass of modular structure injection, on the steps that have one.

    Args:
        perturbation: What is added to the modules. None: Gaussian noise of 0.1 of their RMS. With
            ``learn_scale`` its magnitudes ascend L_stability − β·L_weight.
        sites: Which modules: ``embedding``, ``attention``, ``feed_forward``, ``norm``.
        inject_every: Perturb at every so many of the client's own steps, counted across rounds, the
            first one included.
        **kwargs: For the next class.
    """

    def __init__(
        self,
        *,
        perturbation: Perturbation | None = None,
        sites: Sequence[Site] = ("attention", "feed_forward"),
        inject_every: int = 200,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.perturbation = GaussianNoise() if perturbation is None else perturbation
        self.sites = tuple(sites)
        self.inject_every = int(at_least(inject_every, 1, "inject_every"))
        for site in self.sites if self.mu else ():
            find_modules(self.backbone.model, site)

    def check_split(self) -> None:
        """A perturbation is drawn for a whole batch, and some change the weights themselves."""
        super().check_split()
        if self.mu:
            raise ValueError(
                "`model.mu` is expected to be 0 where a batch is split over processes, which cannot share "
                f"the perturbation of one pass, but got {self.mu}"
            )

    @property
    def own_step(self) -> int:
        """Steps taken before this one: by the client in its whole life, or by a stock Trainer."""
        return self.client.steps if self.client else self.global_step

    @contextmanager
    def shared_dropout(self) -> Iterator[Randomness | None]:
        """Around the clean pass: what the perturbed pass needs to drop the same units.

        Yields:
            None on steps without injection.
        """
        if not self.mu or self.own_step % self.inject_every:
            yield None
            return
        randomness = Randomness(self.device)
        with randomness.recorded(self.backbone.model):
            yield randomness

    def perturbed(
        self, batch: Mapping[str, Tensor], randomness: Randomness | None
    ) -> tuple[Prediction | None, Injection | None]:
        """The pass with M_i(h) + Δ_i, and what was injected; None and None on steps without.

        The perturbation follows from the seed that torch was given last and from the step, so torch's
        global generators are left as the clean pass left them.

        Args:
            batch: A batch.
            randomness: Of :meth:`shared_dropout`.
        """
        if randomness is None:
            return None, None
        seed = random.Random(f"injection {torch.initial_seed()} {self.own_step}").getrandbits(63)
        with (
            randomness.replayed(),
            inject(
                self.backbone.model,
                self.perturbation,
                self.sites,
                attention_mask=batch.get("attention_mask"),
                generator=torch.Generator(self.device).manual_seed(seed),
            ) as injection,
        ):
            prediction: Prediction = self(batch)
        return prediction, injection

    def injection_losses(
        self,
        clean: Prediction,
        perturbed: Prediction | None,
        injection: Injection | None,
        weight: Tensor | None,
    ) -> dict[str, Tensor]:
        """μ·L_stability and μ·β·L_weight as ``stability`` and ``weight_regularization``.

        Logs the latter, which as a rule has no gradient, and lets learnt magnitudes ascend.
        """
        stability = self.stability_loss(clean, perturbed, weight)
        size = self.weight_regularization_loss(injection)
        if injection is not None:
            self.log("train/weight_regularization", size.detach())
            if self.perturbation.scale_optimizer is not None:
                injection.ascend(stability - size)
        return {"stability": stability, "weight_regularization": size.detach()}
