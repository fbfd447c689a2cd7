"""Perturbation: the base class of what is added to a model's modules or to their outputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lit_fed.backbones.anatomy import SITES
from lit_fed.batch_in_step import ONE_BATCH, BatchInStep
from lit_fed.limits import require_non_negative

Delta = Callable[[nn.Module, Tensor, Tensor, torch.Generator], Tensor]
"""δ of a module's output, as :meth:`OutputPerturbation.delta` gives it."""


class PerturbedPass(Protocol):
    """What a perturbation needs of the pass it is put into: see :class:`~lit_fed.perturbations.Injection`."""

    def perturb_output(self, site: str, module: nn.Module, output: Any, delta: Delta) -> Any:
        """M(h) + ρ · δ in the place of a module's output M(h), or of the first of several."""

    def perturb_weights(self, site: str, weights: Sequence[Tensor]) -> list[Tensor]:
        """θ + ρ · RMS(θ) · ε of one module's parameters."""


class Perturbation(nn.Module, ABC):
    r"""A structural perturbation Δ_i = ρ_i · δ_i of the modules M_i, the Δ of Zou (2024), §3.2.

    A learnable ρ_i that descends along L_stability + β · L_weight ends at Δ = 0. So a learnable one has
    an optimizer of its own, which ascends L_stability − β · L_weight by steps of fixed length, as
    projected gradient attacks do (Madry et al., "Towards Deep Learning Models Resistant to
    Adversarial Attacks", 2018, §2.1, https://arxiv.org/abs/1706.06083): see
    :meth:`~lit_fed.perturbations.Injection.ascend`. These parameters never have a gradient outside that
    step, so the optimizer of the model leaves them alone.

    Args:
        scale: ρ ≥ 0, the magnitude; 0 changes nothing, bit for bit.
        learn_scale: Whether ρ_i is learnt, one for each site, from ``scale`` on.
        rho_min: Least learnt ρ.
        rho_max: Largest learnt ρ.
        scale_lr: By how much a learnt ρ moves in a step.
    """

    def __init__(
        self,
        scale: float,
        learn_scale: bool = False,
        rho_min: float = 0.01,
        rho_max: float = 1.0,
        scale_lr: float = 0.01,
    ) -> None:
        super().__init__()
        require_non_negative("perturbation.scale", scale)
        if learn_scale and not 0 <= rho_min <= scale <= rho_max:
            raise ValueError(
                f"`perturbation.scale` is expected within [rho_min, rho_max] = "
                f"[{rho_min}, {rho_max}] and these at least 0, but got {scale!r}"
            )
        self.scale = scale
        self.rho_min, self.rho_max = rho_min, rho_max
        self.magnitudes = nn.ParameterDict(
            {site: nn.Parameter(torch.tensor(float(scale))) for site in SITES}
            if learn_scale
            else {}
        )
        self.scale_optimizer = (
            torch.optim.SGD(self.magnitudes.values(), lr=scale_lr, maximize=True)
            if learn_scale
            else None
        )

    @abstractmethod
    def install(self, module: nn.Module, site: str, injection: PerturbedPass) -> Callable[[], None]:
        """Perturb a module until the returned function is called.

        Args:
            module: M_i.
            site: The part it plays.
            injection: Adds ρ · δ and records it.
        """

    @torch.no_grad()
    def ascend(self, slopes: dict[str, Tensor], place: BatchInStep = ONE_BATCH) -> None:
        """Move learnt magnitudes a step up along the signs of their slopes, within the bounds.

        The slopes of a step's batches are added up, and magnitudes move at the last of them.

        Args:
            slopes: The objective's derivative by ρ_i for some of the sites.
            place: Which batch of the step they are of.
        """
        if self.scale_optimizer is None:
            raise ValueError("`perturbation.learn_scale` is expected to be true to learn a scale")
        if place.number == 0:
            # what a step that was broken off has left
            self.scale_optimizer.zero_grad(set_to_none=True)
        for site, slope in slopes.items():
            magnitude, before = self.magnitudes[site], self.magnitudes[site].grad
            magnitude.grad = slope.to(magnitude) if before is None else before + slope.to(magnitude)
        if not place.ends:
            return
        for magnitude in self.magnitudes.values():
            if magnitude.grad is not None:
                magnitude.grad.sign_()
        self.scale_optimizer.step()
        self.scale_optimizer.zero_grad(set_to_none=True)
        for magnitude in self.magnitudes.values():
            magnitude.clamp_(self.rho_min, self.rho_max)

    def forward(self, *args: Any) -> Any:
        """Not used: a perturbation acts through :func:`~lit_fed.perturbations.inject`."""
        raise NotImplementedError("perturb a model by lit_fed.perturbations.inject")


class OutputPerturbation(Perturbation):
    """A perturbation that is added to the output of modules: M_i(h) + ρ · δ."""

    def perturbed_modules(self, module: nn.Module, site: str) -> Iterable[nn.Module]:
        """Which outputs within M_i are perturbed. Default: its own."""
        return [module]

    @abstractmethod
    def delta(
        self, module: nn.Module, output: Tensor, mask: Tensor, generator: torch.Generator
    ) -> Tensor:
        """δ, the perturbation of magnitude 1.

        Args:
            module: Whose output it is.
            output: M(h), [B, L, d], at least float32.
            mask: [B, L], false at padding. What is returned there does not matter.
            generator: The only source of chance.

        Returns:
            [B, L, d].
        """

    def install(self, module: nn.Module, site: str, injection: PerturbedPass) -> Callable[[], None]:
        """Perturb by forward hooks."""

        def hook(hooked: nn.Module, args: Any, output: Any) -> Any:
            return injection.perturb_output(site, hooked, output, self.delta)

        handles = [m.register_forward_hook(hook) for m in self.perturbed_modules(module, site)]

        def remove() -> None:
            for handle in handles:
                handle.remove()

        return remove
