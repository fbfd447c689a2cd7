"""Gaussian noise on a module's weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from lit_fed.perturbations.perturbation import Perturbation, PerturbedPass


class WeightNoise(Perturbation):
    """Noise on the weights: f(x; θ + Δ), the literal L_stability of Zou (2024), §3.2; Δ = ρ · RMS(θ) · ε.

    Every floating parameter of a module, a LoRA's included, gets noise relative to its own RMS (so a
    tensor of zeros gets none). For the time of the pass the module holds θ + Δ in place of θ, as in
    ``torch.func.functional_call``: θ itself is not written to, and the gradient goes to it.

    Args:
        scale: ρ ≥ 0, relative to the RMS of each parameter.
        **kwargs: Of :class:`~lit_fed.perturbations.perturbation.Perturbation`.

    Example:
        >>> WeightNoise(scale=0.05).scale
        0.05
    """

    def __init__(self, scale: float = 0.1, **kwargs: Any) -> None:
        super().__init__(scale=scale, **kwargs)

    def install(self, module: nn.Module, site: str, injection: PerturbedPass) -> Callable[[], None]:
        """Swap the parameters for perturbed ones."""
        held = [
            (part, name, parameter)
            for part in module.modules()
            for name, parameter in part.named_parameters(recurse=False)
            if parameter.is_floating_point()
        ]
        if not held:
            return lambda: None
        noisy = injection.perturb_weights(site, [parameter for _, _, parameter in held])
        for (part, name, _), tensor in zip(held, noisy, strict=True):
            # as functional_call does: assignment by name would refuse what is no Parameter
            part._parameters[name] = tensor  # type: ignore[assignment]

        def restore() -> None:
            for part, name, parameter in held:
                part._parameters[name] = parameter

        return restore
