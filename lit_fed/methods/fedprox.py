"""FedProx: federated averaging whose clients stay near the global model."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lit_fed.aggregation import Aggregation
from lit_fed.backbones import Backbone
from lit_fed.losses import ProximalMixin
from lit_fed.methods.averaging import AveragingMixin
from lit_fed.payload import Payload


class FedProx(ProximalMixin, AveragingMixin):
    r"""Federated averaging with a proximal term in the client's loss.

    .. math:: L = \mathrm{CE} + \tfrac{\mu}{2} \|\theta_k - \theta_g\|^2

    Li et al., "Federated Optimization in Heterogeneous Networks", 2020, Algorithm 2,
    https://arxiv.org/abs/1812.06127. The norm is over what a client has downloaded and trains: not over what an
    aggregation rule freezes or leaves with the client. It is the Euclidean one of the parameters that travel, of LoRA
    those of A and B. In a stock Trainer, which downloads nothing, θ_g are the values at the start of the fit. With
    μ = 0 it is :class:`~lit_fed.FedAvg` bit for bit.

    Args:
        backbone: The model, its tokenizer and its trainable part. None: the embedded classifier.
        aggregation: How uploads are combined. None: the average weighted by the clients' sizes.
        **kwargs: μ, the optimizer and its warm-up.

    Raises:
        ValueError: If ``mu`` is negative, or above 0 where the aggregation rule lets clients download nothing.
    """

    def __init__(
        self,
        backbone: Backbone | None = None,
        aggregation: Aggregation | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backbone=backbone, aggregation=aggregation, **kwargs)
        if self.mu and not self._received:
            raise ValueError(
                f"`model.mu` is expected to be 0 with {type(self.aggregation).__name__}, by which clients download "
                f"nothing that they could stay near, but got {self.mu}"
            )
        self._anchors: dict[str, Tensor] = {}

    def check_split(self) -> None:
        """Refuse to be split over processes, of which each would have a part of the weights.

        Raises:
            ValueError: If μ is above 0.
        """
        super().check_split()
        if self.mu:
            raise ValueError(
                "`model.mu` of FedProx is expected to be 0 where a model is split over processes, since the proximal "
                f"term is one over whole weights, but got {self.mu}"
            )

    def download(self, broadcast: Payload) -> None:
        """Client: θ_k ← θ_g, which is what it is to stay near."""
        super().download(broadcast)
        if self.client is not None:
            self._anchor()

    def on_train_start(self) -> None:
        """In a stock Trainer: θ_g are the values at the start of the fit."""
        super().on_train_start()
        if self.client is None:
            self._anchor()

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """L = CE + μ/2 ‖θ_k − θ_g‖²."""
        student = self(batch)
        return self.total_loss(
            self.task_loss(student, batch),
            proximal=self.proximal_loss(self._weights, self._anchors),
        )

    def _anchor(self) -> None:
        """Keep the present values of what has been downloaded and trains."""
        if self.mu:
            names = set(self._received) & set(self._trained)
            self._anchors = {n: p.detach().clone() for n, p in self._weights.items() if n in names}
