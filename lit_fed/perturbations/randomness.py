"""Random state of a forward pass, so that a second one draws the same dropout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_Mask = tuple[Tensor, Tensor]
"""0 or 1 / (1 - p), and the generator's state after drawing it."""


class Randomness:
    """The state of torch's global generators at one moment, to be drawn from again.

    Take it before the clean pass and replay it around the perturbed one: both then drop the same
    units, and without a perturbation they agree bit for bit. A clean pass within :meth:`recorded`
    keeps its masks of dropout for the perturbed one, which saves drawing them once more.

    Args:
        device: Where the model is; the CPU's generator is always included.

    Example:
        >>> before = Randomness("cpu")
        >>> first = torch.rand(2)
        >>> with before.replayed():
        ...     again = torch.rand(2)
        >>> torch.equal(first, again)
        True
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._device = torch.device(device)
        self._states = self._read()
        self._masks: list[_Mask] = []

    @contextmanager
    def recorded(self, model: nn.Module) -> Iterator[None]:
        """Keep the masks that dropout draws within the context, which are those it draws without.

        Only on the CPU, where drawing is what dropout costs; a model that is compiled, or has no
        dropout, is left alone.

        Args:
            model: What runs within.
        """
        if self._device.type != "cpu" or not _drops_eagerly(model):
            yield
            return

        def draw(like: Tensor, p: float) -> Tensor:
            values = torch.empty_like(like).bernoulli_(1 - p).div_(1 - p)
            self._masks.append((values, torch.get_rng_state()))
            return values

        with _Dropout(draw):
            yield

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """Draw from this moment on within the context; afterwards go on as if nothing had been drawn."""
        later = self._read()
        self._write(self._states)
        masks = iter(self._masks)

        def take(like: Tensor, p: float) -> Tensor:
            values, after = next(masks)
            # as if it had been drawn, for whatever draws next
            torch.set_rng_state(after)
            return values

        try:
            if self._masks:
                with _Dropout(take):
                    yield
            else:
                yield
        finally:
            self._write(later)

    @property
    def _backend(self) -> ModuleType | None:
        return None if self._device.type == "cpu" else getattr(torch, self._device.type)

    def _read(self) -> tuple[Tensor, Tensor | None]:
        backend = self._backend
        return torch.get_rng_state(), backend.get_rng_state(self._device) if backend else None

    def _write(self, states: tuple[Tensor, Tensor | None]) -> None:
        torch.set_rng_state(states[0])
        backend = self._backend
        if backend:
            backend.set_rng_state(states[1], self._device)


class _Dropout(TorchFunctionMode):
    """Within it dropout multiplies by given masks.

    Args:
        mask: Gives the mask for a tensor without a graph, and p.
    """

    def __init__(self, mask: Callable[[Tensor, float], Tensor]) -> None:
        super().__init__()
        self._mask = mask

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Replace dropout alone."""
        if func is F.dropout:
            return self._dropout(*args, **kwargs or {})
        return func(*args, **kwargs or {})

    def _dropout(
        self, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor:
        if not training or not 0 < p < 1:
            return F.dropout(input, p, training, inplace)
        mask = self._mask(input.detach(), p)
        return input.mul_(mask) if inplace else input * mask


def _drops_eagerly(model: nn.Module) -> bool:
    drops = False
    for module in model.modules():
        if module._compiled_call_impl is not None:  # its passes draw by a rule of their own
            return False
        drops |= isinstance(module, nn.Dropout) and module.p > 0
    return drops
