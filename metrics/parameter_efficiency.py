"""PE, parameter efficiency: how much of a model a round of training changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torchmetrics import Metric

from lit_fed.metrics.arguments import not_below, one_of, positive_integer
from lit_fed.metrics.running_sums import RunningSums
from lit_fed.metrics.state_marks import keep_apart

EfficiencyMode = Literal["changed", "relative_change", "trainable", "communicated"]


def changed_share(
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
    num_parameters: int,
    threshold: float = 1e-3,
) -> Tensor:
    r"""Share of a model's parameters which changed by more than a trifle.

    A parameter counts as changed if :math:`|\Delta\theta| > \tau \cdot RMS(\theta_{block})`, where
    its block is the tensor that holds it, before the change. In a block of zeros, such as LoRA's B
    at the start, any change counts.

    Args:
        before: The trainable tensors by name, before.
        after: The same ones after, with the same names and shapes.
        num_parameters: How many parameters the whole model has, frozen ones included.
        threshold: :math:`\tau`, relative to the block's root mean square.

    Returns:
        A scalar in [0, 1], on the device of ``after``. A parameter which became NaN has changed.

    Raises:
        ValueError: If names or shapes differ, ``num_parameters`` is below the number of trainable
            ones, or ``threshold`` is negative.
        TypeError: If ``num_parameters`` is no integer.

    Example:
        >>> before = {"w": torch.ones(4)}
        >>> after = {"w": torch.tensor([1.0, 1.0001, 1.1, 0.0])}
        >>> changed_share(before, after, num_parameters=8)
        tensor(0.2500)
    """
    not_below("threshold", threshold, 0)
    _check_shares(before, after, num_parameters)
    # Counted in integers: float32 cannot tell one parameter in 16 million.
    changed: int | Tensor = 0
    for name, new in after.items():
        old = before[name].detach().to(new.device)
        dtype = torch.promote_types(new.dtype, torch.float32)
        old, new = old.to(dtype), new.detach().to(dtype)
        limit = threshold * old.square().mean().sqrt()
        # Written so that NaN counts as a change.
        changed = changed + (~((new - old).abs() <= limit)).sum()
    return torch.as_tensor(changed / num_parameters)


def relative_change(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> Tensor:
    r"""How far the trainable parameters have moved, relative to their size.

    .. math:: \frac{\|\theta^{after} - \theta^{before}\|}{\|\theta^{before}\|}, \quad 0/0 = 0

    Norms are over all tensors together. It has no threshold, by which nearly every number that AdamW trains
    counts as changed.

    Args:
        before: The trainable tensors by name, before.
        after: The same ones after, with the same names and shapes.

    Returns:
        A scalar from 0, on the device of ``after``; 0 without tensors.

    Raises:
        ValueError: If names or shapes differ.

    Example:
        >>> relative_change({"w": torch.tensor([3.0, 4.0])}, {"w": torch.tensor([3.0, 5.0])})
        tensor(0.2000)
    """
    _check_names(before, after)
    if not after:
        return torch.zeros(())
    moved, size = [], []
    for name, new in after.items():
        old, new = before[name].detach().to(new.device).double(), new.detach().double()
        moved.append((new - old).square().sum())
        size.append(old.square().sum())
    change, norm = torch.stack(moved).sum(), torch.stack(size).sum()
    share = torch.where((change == 0) & (norm == 0), 0.0, (change / norm).sqrt())
    return share.to(torch.get_default_dtype())


def _check_names(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> None:
    if before.keys() != after.keys():
        names = sorted(before.keys() ^ after.keys())
        raise ValueError(
            "`before` and `after` are expected to hold the same names, "
            f"but only one of them has {', '.join(names[:5])}{', …' * (len(names) > 5)}"
        )
    for name, old in before.items():
        if old.shape != after[name].shape:
            raise ValueError(
                f"`before` and `after` are expected to have the same shapes, but {name!r} has "
                f"{list(old.shape)} and {list(after[name].shape)}"
            )


def _check_shares(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor], num_parameters: int
) -> None:
    _check_names(before, after)
    trainable = sum(tensor.numel() for tensor in after.values())
    if positive_integer("num_parameters", num_parameters) < trainable:
        raise ValueError(
            f"`num_parameters` is expected to be at least {trainable}, the number of parameters "
            f"given, but got {num_parameters}"
        )


class ParameterEfficiency(RunningSums):
    r"""PE: the share of a model's parameters which a client's round changes, lower is better.

    The index of Zou et al., Table 1, which the paper does not define. Here, over the clients k of a
    round, with P parameters in the whole model, frozen ones included:

    .. math:: PE = \frac{100}{K} \sum_k \frac{1}{P}
        \left|\{i: |\Delta\theta_{k,i}| > 10^{-3} \cdot RMS(\theta_{block(i)})\}\right|

    Each update is one client in one round; ``compute`` gives their mean since ``reset``, so for a
    value per round, reset after each.

    - A model which does not change at all scores 0, the best: read it beside SRS and TTA.
    - NaN (nothing to tell): no update yet.

    Args:
        mode: ``"changed"``: the formula above. ``"relative_change"``: the norm of the change in percent
            of that of the trainable parameters before, see :func:`relative_change`; it may exceed 100.
            ``"trainable"``: parameters that may change, in
            percent of all. ``"communicated"``: numbers sent, in percent of all parameters, which
            may exceed 100.
        threshold: Changes up to this part of the block's root mean square do not count. By the formula's
            1e-3 nearly every number that an adaptive optimizer trains counts; 1 counts those that moved by
            more than their block's own size.
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Raises:
        ValueError: If ``mode`` is unknown or ``threshold`` negative.

    Example:
        >>> pe = ParameterEfficiency()
        >>> before, after = {"w": torch.ones(4)}, {"w": torch.tensor([1.0, 1.0, 1.1, 0.0])}
        >>> pe.update(before, after, num_parameters=8)
        >>> pe.update(before, before, num_parameters=8)
        >>> pe.compute()
        tensor(12.5000)
        >>> pe = ParameterEfficiency(mode="trainable")
        >>> pe(before, after, num_parameters=8)
        tensor(50.)
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    plot_lower_bound = 0.0
    plot = Metric._plot

    share: Tensor
    square: Tensor
    clients: Tensor

    def __init__(
        self, mode: EfficiencyMode = "changed", threshold: float = 1e-3, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        one_of("mode", mode, get_args(EfficiencyMode))
        not_below("threshold", threshold, 0)
        self.mode = mode
        self.threshold = threshold
        self.add_sum("share")
        self.add_sum("square")
        self.add_state("clients", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        keep_apart(self, mode, threshold if mode == "changed" else None)

    def update(
        self,
        before: Mapping[str, Tensor],
        after: Mapping[str, Tensor],
        num_parameters: int,
        communicated: int | None = None,
    ) -> None:
        """Adds one client's round.

        Args:
            before: The client's trainable tensors by name, before the round.
            after: The same ones after it.
            num_parameters: How many parameters the client's whole model has.
            communicated: How many numbers the client sent; needed by ``"communicated"``.

        Raises:
            TypeError: If ``num_parameters`` or ``communicated`` is no integer.
            ValueError: If names or shapes differ, ``num_parameters`` is below the number of
                trainable ones, or ``communicated`` is missing or negative.
        """
        share = torch.as_tensor(self._share(before, after, num_parameters, communicated))
        self.share = self.share + share.to(self.share)
        self.square = self.square + share.to(self.square).square()
        self.clients = self.clients + 1

    def compute(self) -> Tensor:
        """The percentage, a scalar from 0; up to 100 in the modes ``"changed"`` and ``"trainable"``."""
        return (100 * self.share / self.clients).to(torch.get_default_dtype())

    def standard_error(self) -> Tensor:
        """The standard error of the mean over this process' clients so far, in percent; NaN of fewer than two.

        Unlike ``compute``, it gathers nothing from other processes.
        """
        mean = self.share / self.clients
        variance = (self.square / self.clients - mean.square()).clamp(min=0) / (self.clients - 1)
        error = 100 * torch.where(self.clients > 1, variance.sqrt(), torch.nan)
        return error.to(torch.get_default_dtype())

    def _share(
        self,
        before: Mapping[str, Tensor],
        after: Mapping[str, Tensor],
        num_parameters: int,
        communicated: int | None,
    ) -> Tensor | float:
        if self.mode == "changed":
            share = changed_share(before, after, num_parameters, self.threshold)
            return share.to(self.share)
        if self.mode == "relative_change":
            return relative_change(before, after).to(self.share)
        _check_shares(before, after, num_parameters)
        if self.mode == "trainable":
            return sum(tensor.numel() for tensor in after.values()) / num_parameters
        if communicated is None:
            raise ValueError(
                "`communicated` is expected to be the count of numbers sent, but got None"
            )
        return positive_integer("communicated", communicated, least=0) / num_parameters
