"""Low-rank reconstruction of a module's weight matrices."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from lit_fed.limits import require_none_or_at_least
from lit_fed.perturbations.numerics import widen
from lit_fed.perturbations.perturbation import OutputPerturbation


class LowRankReconstruction(OutputPerturbation):
    r"""Structural reconstruction: Δ = (SVD_r(W) − W)h for every weight matrix W of a module (Zou (2024), §3.2).

    SVD_r(W), the best approximation of rank r, is U_r U_rᵀ W with the r largest left singular vectors, so
    Δ = (U_r U_rᵀ − I)(Wh): one decomposition a matrix, kept until its values change, and no second
    product with W. Of a LoRA layer W is the frozen matrix below. The U_r take r · d_out numbers a matrix.

    Args:
        rank: r, at least 1. None: half of what the matrix can have.
        scale: ρ ≥ 0: 1 replaces W by SVD_r(W), less goes only part of the way.
        **kwargs: Of :class:`~lit_fed.perturbations.perturbation.Perturbation`.

    Raises:
        ValueError: If the rank is not positive.

    Example:
        >>> map = nn.Linear(4, 4, bias=False)
        >>> h, mask = torch.randn(1, 3, 4), torch.ones(1, 3, dtype=torch.bool)
        >>> whole = LowRankReconstruction(rank=4)
        >>> delta = whole.delta(map, map(h), mask, torch.Generator())
        >>> torch.allclose(delta, torch.zeros(1, 3, 4), atol=1e-5)
        True
    """

    def __init__(self, rank: int | None = None, scale: float = 1.0, **kwargs: Any) -> None:
        super().__init__(scale=scale, **kwargs)
        self.rank = require_none_or_at_least("perturbation.rank", rank, 1)
        self._bases: WeakKeyDictionary[nn.Module, tuple[tuple[int, int], Tensor]]
        self._bases = WeakKeyDictionary()

    def __getstate__(self) -> dict[str, Any]:
        # weak references cannot be pickled, and the bases are soon made again
        return {name: value for name, value in self.__dict__.items() if name != "_bases"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._bases = WeakKeyDictionary()

    def perturbed_modules(self, module: nn.Module, site: str) -> Iterable[nn.Module]:
        """All maps by a weight matrix within M_i, a LoRA's own two left out.

        Raises:
            ValueError: If there is none, or one is quantized.
        """
        maps = [
            part
            for name, part in module.named_modules()
            if _is_map(part, site) and not any(p.startswith("lora_") for p in name.split("."))
        ]
        if not maps:
            raise ValueError(
                f"LowRankReconstruction needs weight matrices, but {type(module).__name__} of site "
                f"{site!r} has none"
            )
        for part in maps:
            if not _weight(part).is_floating_point():
                raise ValueError(
                    f"LowRankReconstruction expects floating weights, but {type(part).__name__} of "
                    f"site {site!r} has {_weight(part).dtype}"
                )
        return maps

    def delta(
        self, module: nn.Module, output: Tensor, mask: Tensor, generator: torch.Generator
    ) -> Tensor:
        """(U_r U_rᵀ − I)(Wh)."""
        basis = self._basis(module).to(output)
        bias = getattr(module, "bias", None)
        mapped = output if bias is None else output - bias.to(output)
        # out of autocast, which would round the projection to half precision
        with torch.autocast(output.device.type, enabled=False):
            return (mapped @ basis) @ basis.T - mapped

    @torch.no_grad()
    def _basis(self, module: nn.Module) -> Tensor:
        weight = _weight(module)
        state = (weight.data_ptr(), weight._version)
        if module not in self._bases or self._bases[module][0] != state:
            matrix = widen(weight.detach())
            rank = self.rank or max(1, min(matrix.shape) // 2)
            if isinstance(module, nn.Embedding):
                # V × d with V ≫ d: the d × d Gram matrix has the same right singular vectors
                gram = matrix.double().T @ matrix.double()
                basis = torch.linalg.eigh(gram).eigenvectors.flip(-1)
            elif isinstance(module, nn.Linear):
                basis = torch.linalg.svd(matrix, full_matrices=False).U
            else:
                basis = torch.linalg.svd(matrix, full_matrices=False).Vh.T
            self._bases[module] = state, basis[:, :rank].to(matrix.dtype).contiguous()
        return self._bases[module][1]


def _is_map(module: nn.Module, site: str) -> bool:
    if isinstance(module, nn.Embedding):
        # elsewhere it is a table of positions, as T5's relative biases
        return site == "embedding"
    # transformers' Conv1D is a linear map with its matrix transposed
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def _weight(module: nn.Module) -> Tensor:
    weight = module.weight
    if not isinstance(weight, Tensor):
        raise TypeError(f"`weight` is expected to be a tensor, but got {type(weight).__name__}")
    return weight
