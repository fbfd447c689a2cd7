"""SCAFFOLD: federated averaging whose clients correct their gradients by what the others' are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torch.linalg import vector_norm
from torch.optim import SGD, Optimizer

from lit_fed.aggregation import Aggregation, ServerOptimizer, WeightedAverage
from lit_fed.backbones import Backbone
from lit_fed.client import Client
from lit_fed.methods.averaging import AveragingMixin
from lit_fed.methods.scaffold.control_variate import ControlVariate, added, require_plain_sgd
from lit_fed.payload import Payload
from lit_fed.specification import Specification
from lit_fed.update import Update

CONTROLS: Final = "controls"
"""The part that holds c in a broadcast, c_k⁺ − c_k in an upload, and c_k in a client's private state."""


class SCAFFOLD(AveragingMixin):
    r"""Federated averaging with control variates, which take out of a client's steps what is its own alone.

    .. math::
        \theta_k &\leftarrow \theta_k - \eta_l (g_k(\theta_k) - c_k + c) \\
        c_k^+ &= c_k - c + \frac{\theta_g - \theta_k}{\sum \eta_l}, \qquad
        c \leftarrow c + \sum_{k \in S} p_k (c_k^+ - c_k)

    Karimireddy et al., "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", 2020, Algorithm 1 with
    option II, https://arxiv.org/abs/1910.06378. c_k estimates the client's mean gradient and stays with it, c is
    their mean over **all** clients and travels beside θ_g, so that twice the bytes of FedAvg travel each way. p_k is
    what the client counts among all clients: 1/N as in the paper, or n_k / n where the aggregation rule weighs by
    size. (A c that is the plain mean beside a θ_g that is weighted by size, as in OpenFedLLM, moves the optimum.)
    The server's learning rate is that of the rule: ``FedAvgM(momentum=0, lr=…, weights="uniform")``.

    c_k⁺ is the client's mean gradient where its steps are gradients times learning rates, hence for plain SGD alone.
    Its learning rate may change from step to step and from client to client: it is summed up. Weight decay is part of
    the gradient, and hence of c_k. A bound of the gradient is put on g_k, before c_k and c: then c_k estimates the
    mean of the bounded gradients. Parameters that a rule freezes or leaves with the client are not corrected.

    Args:
        backbone: The model, its tokenizer and its trainable part. None: the embedded classifier.
        aggregation: How θ_k are combined: ``WeightedAverage`` or a server optimizer. None: the unweighted average.
        optimizer: Makes the client's optimizer of the trainable parameters, ``SGD`` without momentum.
        warmup_steps: Linear warm-up of the learning rate over the client's first own steps.
        **kwargs: For the next class.

    Raises:
        ValueError: If the optimizer is another one than plain SGD, or the rule no mean whose weights follow from
            the clients alone.
    """

    def __init__(
        self,
        backbone: Backbone | None = None,
        aggregation: Aggregation | None = None,
        optimizer: OptimizerCallable = lambda params: SGD(params, lr=0.1),
        warmup_steps: int = 0,
        **kwargs: Any,
    ) -> None:
        rule = WeightedAverage("uniform") if aggregation is None else aggregation
        super().__init__(backbone, rule, optimizer, warmup_steps, **kwargs)
        require_mean(self.aggregation)
        if not set(self._received) & set(self._trained):
            raise ValueError(
                "`model.aggregation` is expected to let clients download something that they train with SCAFFOLD, "
                f"which corrects nothing else, but got {type(self.aggregation).__name__}"
            )
        require_plain_sgd(self.make_optimizer([self._weights[name] for name in self._trained]))
        self.own_control, self.control = ControlVariate(), Payload()

    def check_scaled(self) -> None:
        """Refuse scaled gradients, to which a correction is too small, and steps that are left out.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            "`trainer.precision` is expected to scale no gradients with SCAFFOLD, which corrects them and counts the "
            "learning rates of all steps, as bf16-mixed, bf16-true and 32-true do, but got 16-mixed"
        )

    def check_sequence(self) -> None:
        """Refuse a sequence of tasks: c would hold for ever what clients without rows of the later ones have sent.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            "`trainer.rounds_per_task` is expected to be null with SCAFFOLD, whose control variates are of one task: c "
            "would keep those of clients that have no rows of the next one"
        )

    def act_as(self, client: Client | None) -> None:
        """Be a client, or the server if None, of whose control variates nothing is left until they are loaded."""
        super().act_as(client)
        self.own_control.forget()
        self.control = Payload()

    def download(self, broadcast: Payload) -> None:
        """Client: θ_k ← θ_g, and c."""
        super().download(broadcast)
        self.control = broadcast.parts.get(CONTROLS, Payload())
        if self.client is not None:
            sent = set(self.aggregation.sends(self._trained, self.client)) & set(self._received)
            weights = {n: w for n, w in self._weights.items() if n in sent}
            self.own_control.begin(weights, self.control)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """The cross-entropy of the task."""
        student = self(batch)
        return self.total_loss(self.task_loss(student, batch))

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """g_k ← g_k − c_k + c, once g_k is bounded: the last that is done to a gradient before its step."""
        super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)
        self.own_control.correct(optimizer)

    def upload(self) -> Payload:
        """Client: θ_k and c_k⁺ − c_k."""
        return super().upload().with_parts({CONTROLS: self.own_control.change()})

    def expected_upload(self) -> Specification:
        """Server: θ_k and c_k⁺ − c_k."""
        return super().expected_upload().with_parts({CONTROLS: self.own_control.expected_change()})

    def update_norm(self, upload: Payload, broadcast: Payload) -> float | None:
        """Server: how much a client has changed, θ_k and c_k together, since both move the others."""
        weights = super().update_norm(upload, broadcast)
        controls = upload.parts.get(CONTROLS, Payload()).tensors.values()
        norms = [0.0, *(float(vector_norm(change.double())) for change in controls)]
        return None if weights is None else math.hypot(weights, *norms)

    def aggregate(self, updates: Sequence[Update]) -> Payload:
        """Server: θ_g by the aggregation rule, and c ← c + Σ p_k (c_k⁺ − c_k)."""
        changes = [update.payload.parts.get(CONTROLS, Payload()) for update in updates]
        control = added(self.control, changes, self.shares(updates))
        return super().aggregate(updates).with_parts({CONTROLS: control})

    def shares(self, updates: Sequence[Update]) -> list[float]:
        """What each client counts among all clients that have rows, p_k.

        Args:
            updates: The clients' of the round.
        """
        everyone = [Update(c.id, Payload(), len(c.rows)) for c in self.data.clients if len(c.rows)]
        weights = self.aggregation.weights(everyone)
        shares = {one.client_id: weight for one, weight in zip(everyone, weights, strict=True)}
        return [shares[update.client_id] for update in updates]

    def private_state(self) -> Payload:
        """Client: what stays with it, among it c_k."""
        return super().private_state().with_parts({CONTROLS: self.own_control.value()})

    def load_private_state(self, state: Payload) -> None:
        """Client: take it back."""
        super().load_private_state(state)
        self.own_control.load(state.parts.get(CONTROLS, Payload()))


def require_mean(rule: Aggregation) -> None:
    """Check that a rule is a mean with weights that control variates can have as well.

    Args:
        rule: The rule.

    Raises:
        ValueError: If it is another one.
    """
    name = type(rule).__name__
    same = all(
        getattr(type(rule), part) is getattr(Aggregation, part)
        for part in ("adapter", "broadcast_to", "base_change")
    )
    if not isinstance(rule, WeightedAverage | ServerOptimizer) or not same:
        raise ValueError(
            "`model.aggregation` is expected to be WeightedAverage or a server optimizer with SCAFFOLD, whose control "
            f"variates are means of gradients by the same parameters of the same base for all clients, but got {name}"
        )
    if rule.weighting not in ("size", "uniform"):
        raise ValueError(
            f"`model.aggregation.weights` of {name} is expected to be size or uniform with SCAFFOLD, whose control "
            f"variate is a mean over all clients, also those that are not in the round, but got {rule.weighting}"
        )
