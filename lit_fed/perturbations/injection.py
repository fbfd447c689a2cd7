"""Injection: one forward pass with perturbed modules, and by how much they were perturbed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from lit_fed.backbones.anatomy import find_modules
from lit_fed.batch_in_step import ONE_BATCH, BatchInStep
from lit_fed.perturbations.numerics import narrow, root_mean_square, standard_normal, widen
from lit_fed.perturbations.perturbation import Delta, Perturbation


class Injection:
    """Perturbs the modules of one pass and records by how much.

    Args:
        perturbation: What to add.
        attention_mask: [B, L], 0 at padding; None where there is none.
        generator: The only source of chance.

    Attributes:
        magnitudes: ρ_i of each site; where they are learnt, leaves of this pass's graph.
    """

    def __init__(
        self, perturbation: Perturbation, attention_mask: Tensor | None, generator: torch.Generator
    ) -> None:
        self.perturbation = perturbation
        self.generator = generator
        self.magnitudes: dict[str, Tensor] = {
            site: magnitude.detach().clone().requires_grad_()
            for site, magnitude in perturbation.magnitudes.items()
        }
        self._mask = None if attention_mask is None else attention_mask.bool()
        self._deltas: dict[str, list[Tensor]] = {}
        self._outputs: dict[str, list[Tensor]] = {}

    @property
    def delta_square(self) -> Mapping[str, Tensor]:
        """mean(Δ²) of the modules of each site, [n]: its graph leads to learnt magnitudes alone."""
        return {site: torch.stack(squares) for site, squares in self._deltas.items()}

    @property
    def output_square(self) -> Mapping[str, Tensor]:
        """RMS(M)² of the same modules, [n], without a graph."""
        return {site: torch.stack(squares) for site, squares in self._outputs.items()}

    def ascend(self, objective: Tensor, place: BatchInStep = ONE_BATCH) -> None:
        """Move the learnt magnitudes up along an objective; the model's gradients stay as they are.

        Where a step takes several batches, it is the mean of their objectives, and they move at the last one.

        To be called before the loss's ``backward``, whose graph it keeps. Costs one backward pass
        through the perturbed pass.

        Args:
            objective: L_stability − β · L_weight of this pass, a scalar.
            place: Which batch of the step the pass is of.

        Raises:
            ValueError: If the perturbation has no learnt scale.
        """
        leaves = {site: self.magnitudes[site] for site in self._deltas if site in self.magnitudes}
        slopes = (
            torch.autograd.grad(
                objective, list(leaves.values()), retain_graph=True, allow_unused=True
            )
            if leaves
            else ()
        )
        found = zip(leaves, slopes, strict=True)
        slopes_found = {site: slope for site, slope in found if slope is not None}
        self.perturbation.ascend(slopes_found, place)

    def perturb_output(self, site: str, module: nn.Module, output: Any, delta: Delta) -> Any:
        """M(h) + ρ · δ in the place of a module's output M(h), or of the first of several.

        Added in float32 and given back in the output's own dtype; see
        :func:`~lit_fed.perturbations.numerics.narrow`. Where batch and length are equal the batch is
        taken to come first.
        """
        hidden = output[0] if isinstance(output, tuple | list) else output
        if not isinstance(hidden, Tensor):
            raise TypeError(
                f"perturbation site {site!r}: {type(module).__name__} is expected to give a tensor "
                f"or a tuple that begins with one, but it gave {type(output).__name__}"
            )
        perturbed = self._perturbed(site, module, hidden, delta)
        return (
            type(output)((perturbed, *output[1:]))
            if isinstance(output, tuple | list)
            else perturbed
        )

    def perturb_weights(self, site: str, weights: Sequence[Tensor]) -> list[Tensor]:
        """θ + ρ · RMS(θ) · ε of one module's parameters, recorded as one."""
        rho = self._magnitude(site, weights[0].device)
        noisy, squares, noise_squares = [], [], []
        for weight in weights:
            wide = widen(weight)
            size = wide.detach().square().mean().sqrt()
            noise = size * standard_normal(wide, self.generator)
            squares.append(wide.detach().square().sum())
            noise_squares.append(noise.square().sum())
            noisy.append(
                weight if rho is None else narrow(wide + rho * noise, weight.dtype, self.generator)
            )
        count = sum(weight.numel() for weight in weights)
        self._record(
            site,
            rho,
            torch.stack(noise_squares).sum() / count,
            torch.stack(squares).sum() / count,
        )
        return noisy

    def _perturbed(self, site: str, module: nn.Module, hidden: Tensor, delta: Delta) -> Tensor:
        mask, batch_first = self._layout(site, module, hidden)
        wide = widen(hidden if batch_first else hidden.transpose(0, 1))
        rho = self._magnitude(site, hidden.device)
        unit = torch.where(
            mask.unsqueeze(-1), delta(module, wide, mask, self.generator), wide.new_zeros(())
        )
        self._record(
            site,
            rho,
            root_mean_square(unit, mask).square(),
            root_mean_square(wide, mask).square(),
        )
        if rho is None:
            return hidden
        perturbed = torch.addcmul(wide, unit, rho.to(wide.dtype))
        perturbed = narrow(perturbed, hidden.dtype, self.generator)
        return perturbed if batch_first else perturbed.transpose(0, 1)

    def _layout(self, site: str, module: nn.Module, hidden: Tensor) -> tuple[Tensor, bool]:
        shape = hidden.shape[:2]
        if hidden.dim() == 3 and self._mask is None:
            return torch.ones(shape, dtype=torch.bool, device=hidden.device), True
        if hidden.dim() == 3 and self._mask is not None:
            mask = self._mask.to(hidden.device)
            if mask.shape == shape:
                return mask, True
            if mask.shape == shape[::-1]:
                return mask, False
        expected = "[B, L, d]" if self._mask is None else f"[*{list(self._mask.shape)}, d]"
        raise ValueError(
            f"perturbation site {site!r}: the output of {type(module).__name__} is expected to have "
            f"shape {expected} to fit `attention_mask`, but got {list(hidden.shape)}"
        )

    def _magnitude(self, site: str, device: torch.device) -> Tensor | None:
        """ρ of a site; None where it is 0 for good, so that nothing is added at all."""
        if site in self.magnitudes:
            return self.magnitudes[site].to(device)
        scale = self.perturbation.scale
        return torch.tensor(scale, device=device) if scale else None

    def _record(self, site: str, rho: Tensor | None, unit: Tensor, output: Tensor) -> None:
        square = torch.zeros_like(unit) if rho is None else rho.square() * unit.detach()
        self._deltas.setdefault(site, []).append(square)
        self._outputs.setdefault(site, []).append(output.detach())


# By model: what its modules were, and those of the sites that were looked for since.
_found: WeakKeyDictionary[nn.Module, tuple[int, dict[str, list[nn.Module]]]] = WeakKeyDictionary()


def _modules_of(model: nn.Module, site: str, modules: list[nn.Module]) -> list[nn.Module]:
    """The modules of a site, looked for anew only where the model has others than the last time."""
    state = hash(tuple(id(module) for module in modules))
    known, sites = _found.get(model, (None, {}))
    if known != state:
        sites = {}
        _found[model] = state, sites
    if site not in sites:
        sites[site] = list(find_modules(model, site).values())
    return sites[site]


@contextmanager
def inject(
    model: nn.Module,
    perturbation: Perturbation,
    sites: Sequence[str] = ("attention", "feed_forward"),
    *,
    attention_mask: Tensor | None,
    generator: torch.Generator,
) -> Iterator[Injection]:
    """Perturb a model's modules for the one pass within the context: M_i(h) + Δ_i.

    The perturbed path h̃ of Zou (2024), §3.2. Padding gets no noise. Nothing of it stays on the model
    afterwards, also if the pass raises.

    Args:
        model: A transformer, bare or within PEFT's wrappers.
        perturbation: Δ.
        sites: Which modules; see :func:`~lit_fed.perturbations.find_modules`.
        attention_mask: [B, L], 0 at padding; None where there is none.
        generator: The only source of chance, so that torch's global generator is left to the dropout;
            see :class:`~lit_fed.perturbations.Randomness`.

    Yields:
        What was injected: for L_weight, and to let a learnt scale ascend.

    Raises:
        ValueError: If a site is unknown, not found, or gives outputs of another shape than the mask;
            if gradient checkpointing is on, for it would recompute the pass without its perturbation.
        RuntimeError: If none of a site's modules ran.

    Example:
        >>> from lit_fed.perturbations import GaussianNoise
        >>> model = nn.Sequential(nn.LayerNorm(4))
        >>> h, seeded = torch.randn(2, 3, 4), torch.Generator().manual_seed(0)
        >>> with inject(
        ...     model, GaussianNoise(0.1), ["norm"], attention_mask=torch.ones(2, 3), generator=seeded
        ... ) as injection:
        ...     perturbed = model(h)
        >>> bool((perturbed - model(h)).abs().mean() > 0.01)
        True
        >>> list(injection.delta_square)
        ['norm']
    """
    if not sites:
        raise ValueError(
            "`sites` are expected to name at least one perturbation site, but got none"
        )
    modules = list(model.modules())
    checkpointed = any(getattr(m, "gradient_checkpointing", False) for m in modules)
    if checkpointed and model.training and torch.is_grad_enabled():
        raise ValueError(
            "perturbations cannot be injected with gradient checkpointing, which would recompute the "
            "pass without them: set `gradient_checkpointing` to false"
        )
    injection = Injection(perturbation, attention_mask, generator)
    with ExitStack() as stack:
        for site in dict.fromkeys(sites):
            for module in _modules_of(model, site, modules):
                stack.callback(perturbation.install(module, site, injection))
        yield injection
    if idle := [site for site in sites if site not in injection.delta_square]:
        raise RuntimeError(
            f"perturbation site {idle[0]!r}: none of its modules ran within the context; there are "
            f"{', '.join(find_modules(model, idle[0]))}"
        )
