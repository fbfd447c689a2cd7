"""A client's control variate over its round: what it corrects gradients by, and how it is renewed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from lit_fed.payload import Payload
from lit_fed.shards import placed_like
from lit_fed.specification import Specification


class ControlVariate:
    r"""c_k of a client, beside c of all, by option II of SCAFFOLD.

    .. math:: c_k^+ = c_k - c + \frac{\theta_g - \theta_k}{\sum \eta_l}

    Karimireddy et al., "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", 2020, Algorithm 1,
    https://arxiv.org/abs/1910.06378. Computed in float64, kept in float32 or in the parameter's dtype if that is
    wider. A parameter that has never trained has 0.
    """

    _own: Payload
    _common: Payload
    _start: Payload
    _weights: Mapping[str, Tensor]
    _corrections: dict[str, Tensor]
    _rates: dict[str, float]

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Be nobody's."""
        self._own = self._common = self._start = Payload()
        self._weights, self._corrections, self._rates = {}, {}, {}

    def load(self, own: Payload) -> None:
        """Take c_k as it was after the client's last round.

        Args:
            own: What :meth:`value` gave.
        """
        self._own, self._rates = own, {}

    def begin(self, weights: Mapping[str, Tensor], common: Payload) -> None:
        """Start a round.

        Args:
            weights: The client's parameters that are corrected, live, with the values of θ_g.
            common: c.

        Raises:
            ValueError: If c or c_k has another shape than its parameter.
        """
        self._weights, self._common = weights, common
        self._start = Payload(weights)
        self._rates = dict.fromkeys(weights, 0.0)
        for name, weight in weights.items():
            correction = self._of(common, name) - self._of(self._own, name)
            self._corrections[name] = placed_like(correction.to(weight.dtype), weight.detach())

    def correct(self, optimizer: Optimizer) -> None:
        """g_k ← g_k − c_k + c, right before an optimizer's step, whose learning rate is noted.

        Args:
            optimizer: The client's.
        """
        names = {id(weight): name for name, weight in self._weights.items()}
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                name = names.get(id(parameter))
                if name is None:
                    continue
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                parameter.grad += self._corrections[name]
                self._rates[name] += float(group["lr"])

    def value(self) -> Payload:
        """c_k⁺ of what has trained in this round, and c_k of the rest."""
        value = dict(self._own.tensors)
        now = Payload({name: self._weights[name] for name, rate in self._rates.items() if rate})
        for name, weight in now.tensors.items():
            moved = self._start.tensors[name].double() - weight.double()
            new = self._of(self._own, name) - self._of(self._common, name)
            value[name] = (new + moved / self._rates[name]).to(_wide(weight))
        return Payload(value)

    def change(self) -> Payload:
        """c_k⁺ − c_k of what is corrected in this round; 0 where no step was taken."""
        value = self.value().tensors
        changes = {}
        for name, weight in self._start.tensors.items():
            before = self._of(self._own, name)
            after = value[name].double() if name in value else before
            changes[name] = (after - before).to(_wide(weight))
        return Payload(changes)

    def expected_change(self) -> Specification:
        """What :meth:`change` gives at the end of the round."""
        return Specification.of(
            {name: torch.empty(w.shape, dtype=_wide(w)) for name, w in self._start.tensors.items()}
        )

    def _of(self, control: Payload, name: str) -> Tensor:
        """A control variate's values for a parameter, in float64."""
        like = self._start.tensors[name]
        if name not in control.tensors:
            return torch.zeros(like.shape, dtype=torch.float64)
        return control.matching({name: like}, "the control variate")[name].double()


def added(control: Payload, changes: Sequence[Payload], shares: Sequence[float]) -> Payload:
    """C + Σ p_k (c_k⁺ − c_k), in float64, and kept in the dtype of the changes.

    Args:
        control: c; a tensor that it does not hold is 0.
        changes: c_k⁺ − c_k, one per client, each of what the client has corrected.
        shares: p_k.

    Raises:
        ValueError: If a change has another shape than what it is added to.

    Example:
        >>> change = Payload({"w": torch.tensor([2.0])})
        >>> added(Payload(), [change, change], [0.25, 0.5]).tensors["w"]
        tensor([1.5000])
    """
    total = {name: value.double() for name, value in control.tensors.items()}
    dtypes = {name: value.dtype for name, value in control.tensors.items()}
    for change, share in zip(changes, shares, strict=True):
        for name, value in change.tensors.items():
            before = total.get(name, torch.zeros(value.shape, dtype=torch.float64))
            change.matching({name: before}, "the change of a control variate")
            total[name], dtypes[name] = before + share * value.double(), value.dtype
    return Payload({name: value.to(dtypes[name]) for name, value in total.items()})


def require_plain_sgd(optimizer: Optimizer) -> None:
    """Check that an optimizer's steps are gradients times learning rates, by which c_k is renewed.

    Args:
        optimizer: A client's.

    Raises:
        ValueError: If they are not.

    Example:
        >>> require_plain_sgd(torch.optim.AdamW([torch.zeros(1)]))
        Traceback (most recent call last):
        ...
        ValueError: `model.optimizer` is expected to be torch.optim.SGD without momentum with SCAFFOLD, whose control \
variates take (θ_g − θ_k) / Σ lr for a client's mean gradient, but got AdamW
    """
    came = None
    if not isinstance(optimizer, SGD):
        came = type(optimizer).__name__
    else:
        for setting in ("momentum", "maximize"):
            given = [group[setting] for group in optimizer.param_groups if group[setting]]
            if given:
                came = f"SGD with {setting} {given[0]}"
    if came is not None:
        raise ValueError(
            "`model.optimizer` is expected to be torch.optim.SGD without momentum with SCAFFOLD, whose control "
            f"variates take (θ_g − θ_k) / Σ lr for a client's mean gradient, but got {came}"
        )


def _wide(weight: Tensor) -> torch.dtype:
    return torch.promote_types(weight.dtype, torch.float32)
