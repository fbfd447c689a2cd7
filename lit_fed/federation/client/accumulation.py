"""The gradient of one optimizer step over several batches: that of one large batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from lit_fed.losses import CountedMean


class Accumulation:
    """Adds the batches of one step up so that each term of their losses is the mean over all of them.

    A batch's loss is a sum of means, of which each is taken over so many tokens, or rows and their weights. What the
    step is to follow is the loss whose means are taken over all the batches, as if they were one. A later batch's
    counts are not known before it is there; so the gradient is at any time the one of the batches so far, and is
    scaled down as more come. Terms over the same positions are kept as one gradient. Terms over others, such as public
    rows, or the rows beside the tokens of a language model, are kept as another gradient, and cost a backward pass of
    their own.

    Args:
        parameters: What trains.
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self._parameters = list(parameters)
        self._totals: list[Tensor] = []
        self._kept: list[Tensor] = []
        self._apart: dict[int, list[Tensor | None]] = {}

    def shares(
        self, loss: Tensor, means: Sequence[CountedMean], weight: Any, batches: int
    ) -> list[Tensor]:
        """The next batch's parts of the step's loss, each to be differentiated within its :meth:`gradient`.

        Args:
            loss: The batch's, a scalar.
            means: The masked means that were taken while it was computed.
            weight: Over how much the whole loss is a mean, if the module says so. None: what ``means`` say.
            batches: How many batches the step takes: each counts alike where nobody says anything, as in Lightning.

        Raises:
            TypeError: If the weight is no number.
        """
        parts = _parts(loss, means, weight)
        if not parts:
            self._kept = [torch.ones_like(loss)]
            return [loss / batches]
        new = [torch.zeros_like(count) for _, count in parts[len(self._totals) :]]
        before = [*self._totals, *new]
        counts = [count for _, count in parts]
        totals = [total + count for total, count in zip(before, counts, strict=False)]
        safe = [total.where(total > 0, 1.0) for total in totals]
        self._kept = [total / whole for total, whole in zip(before, safe, strict=False)]
        self._totals = [*totals, *before[len(totals) :]]
        return [part * (count / whole) for (part, count), whole in zip(parts, safe, strict=True)]

    @contextmanager
    def gradient(self, number: int) -> Iterator[None]:
        """Within the block the parameters' gradient is that of one part of the loss.

        Args:
            number: The part's number.
        """
        held = [parameter.grad for parameter in self._parameters]
        own = self._apart.get(number, [None] * len(held)) if number else held
        for parameter, gradient in zip(self._parameters, own, strict=True):
            if gradient is not None:
                _local(gradient).mul_(self._kept[number])
            parameter.grad = gradient
        try:
            yield
        finally:
            if number:
                self._apart[number] = [parameter.grad for parameter in self._parameters]
                for parameter, gradient in zip(self._parameters, held, strict=True):
                    parameter.grad = gradient

    def finish(self) -> None:
        """Make the parameters' gradient that of all parts."""
        for gradients in self._apart.values():
            for parameter, gradient in zip(self._parameters, gradients, strict=True):
                if parameter.grad is None:
                    parameter.grad = gradient
                elif gradient is not None:
                    parameter.grad += gradient
        self._apart.clear()


def _parts(loss: Tensor, means: Sequence[CountedMean], weight: Any) -> list[tuple[Tensor, Tensor]]:
    """A loss as a sum of parts, each with its count; none if nobody says anything."""
    if weight is not None:
        return [(loss, _as_count(weight, loss))]
    found, alone = _found_in(loss, means)
    kinds: list[list[CountedMean]] = []
    for mean in found:
        like = next((kind for kind in kinds if kind[0].goes_with(mean)), None)
        if like is None:
            kinds.append([mean])
        else:
            like.append(mean)
    if len(kinds) < 2:
        return [(loss, kind[0].count) for kind in kinds]
    values = [mean.value for kind in kinds for mean in kind]
    slopes = iter(torch.autograd.grad(loss, values, retain_graph=True))
    sums = [torch.stack([next(slopes) * mean.value for mean in kind]).sum() for kind in kinds]
    if not alone:  # what is added to the means counts as the first of them does
        sums[0] = loss - torch.stack(sums[1:]).sum()
    return [(part, kind[0].count) for part, kind in zip(sums, kinds, strict=True)]


def _found_in(loss: Tensor, means: Sequence[CountedMean]) -> tuple[list[CountedMean], bool]:
    """The means that a loss is made of, and whether nothing else in it has a gradient."""
    nodes = {mean.value.grad_fn: mean for mean in means}
    found: set[Any] = set()
    seen: set[Any] = set()
    alone, ahead = True, [loss.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node in nodes:
            found.add(node)
        elif hasattr(node, "variable"):
            alone = False
        else:
            ahead.extend(following for following, _ in node.next_functions)
    return [mean for node, mean in nodes.items() if node in found], alone


def _as_count(weight: Any, loss: Tensor) -> Tensor:
    if not isinstance(weight, Tensor | int | float) or torch.as_tensor(weight).numel() != 1:
        raise TypeError(
            "`weight` of what training_step returns is expected to be a number, over how much the loss is a mean, "
            f"but got {weight!r:.120}"
        )
    return torch.as_tensor(weight, dtype=loss.dtype, device=loss.device).detach().reshape(())


def _local(gradient: Any) -> Tensor:
    """A gradient's part in this process, where it is sharded."""
    local: Tensor = gradient.to_local() if hasattr(gradient, "to_local") else gradient
    return local
