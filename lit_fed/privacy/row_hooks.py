"""Opacus' hooks, but for passes of public rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from opacus.grad_sample import GradSampleHooks

from lit_fed.losses import are_public


class RowHooks(GradSampleHooks):  # type: ignore[misc]  # Opacus is not typed
    """Take the gradients of rows, of passes outside of :func:`~lit_fed.losses.over_public_rows`; see Opacus."""

    def capture_activations_hook(self, module: Any, *args: Any) -> None:
        """Keep what a module was given; see Opacus."""
        if not are_public():
            super().capture_activations_hook(module, *args)

    def iterate_submodules(self, module: Any) -> Iterator[Any]:
        """Each module once: Opacus goes by names, and takes the gradients of one that has two twice; see Opacus."""
        yield from dict.fromkeys(super().iterate_submodules(module))
