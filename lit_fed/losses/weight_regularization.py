"""The size of structural perturbations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from lit_fed.limits import require_non_negative
from lit_fed.losses.predictions import widen
from lit_fed.losses.stability import InjectionWeightMixin


class Perturbed(Protocol):
    """What a perturbed pass leaves; ``lit_fed.perturbations.Injection`` is one."""

    @property
    def delta_square(self) -> Mapping[str, Tensor]:
        """mean(Δ²) of the modules of each site, [n]."""

    @property
    def output_square(self) -> Mapping[str, Tensor]:
        """RMS(M)² of the same modules, [n]."""


def weight_regularization(
    delta_square: Mapping[str, Tensor],
    output_square: Mapping[str, Tensor],
    site_weights: Mapping[str, float] | None = None,
) -> Tensor:
    r"""Σ_i λ_i · mean(Δ_i²) / RMS(M_i)² over the sites i.

    L_weight of MSI (Zou (2024), §3.2), with ‖Δ_i‖² relative to the size of what it perturbs: for noise of
    ρ_i times the output's RMS it is about Σ λ_i ρ_i². A site with several modules (one a layer) counts
    by their mean. Sampled perturbations give it no gradient in the model's weights; a learnable
    magnitude gets one.

    Args:
        delta_square: mean(Δ²) of each site: a scalar, or [n] for its n modules.
        output_square: RMS(M)² of each site, of the same shape. Where it is 0 the module counts 0.
        site_weights: λ_i ≥ 0 by site, 1 where none is given.

    Returns:
        A scalar, without a unit.

    Raises:
        ValueError: If the sites of the two differ, there are none, or λ names another.

    Example:
        >>> delta, output = torch.tensor([0.01, 0.04]), torch.tensor([1.0, 4.0])
        >>> weight_regularization({"norm": delta}, {"norm": output})
        tensor(0.0100)
    """
    if delta_square.keys() != output_square.keys() or not delta_square:
        raise ValueError(
            f"`delta_square` and `output_square` are expected to have the same sites and at least "
            f"one, but got {sorted(delta_square)} and {sorted(output_square)}"
        )
    factors = dict.fromkeys(delta_square, 1.0) | dict(site_weights or {})
    if unknown := factors.keys() - delta_square.keys():
        raise ValueError(
            f"`site_weights` are expected for the sites {sorted(delta_square)}, "
            f"but got {sorted(unknown)}"
        )
    terms = []
    for site, delta in delta_square.items():
        size = widen(output_square[site])
        ratio = widen(delta) / size.masked_fill(size == 0, torch.inf)
        terms.append(factors[site] * ratio.mean())
    return torch.stack(terms).sum()


class WeightRegularizationMixin(InjectionWeightMixin):
    """Gives a method μ · β · :func:`weight_regularization`.

    Args:
        beta: β ≥ 0, weight of the perturbations' size within L_MSI. 0: off.
        site_weights: λ_i of the sites, for instance ``{attention: 1.0, feed_forward: 0.5}``. None: 1.
        **kwargs: For the next class.
    """

    def __init__(
        self,
        *,
        beta: float = 0.01,
        site_weights: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.beta = require_non_negative("model.beta", beta)
        self.site_weights = {
            site: require_non_negative(f"model.site_weights.{site}", value)
            for site, value in (site_weights or {}).items()
        }

    def weight_regularization_loss(self, perturbed: Perturbed | None) -> Tensor:
        """μ · β · L_weight, Zou (2024), L_MSI.

        Args:
            perturbed: What the perturbed pass recorded; None on steps without injection.

        Returns:
            A scalar, weighted; 0 where μ or β is 0 or nothing was perturbed.
        """
        if not self.mu or not self.beta or perturbed is None:
            return torch.zeros(())
        return (
            self.mu
            * self.beta
            * weight_regularization(
                perturbed.delta_square, perturbed.output_square, self.site_weights
            )
        )
