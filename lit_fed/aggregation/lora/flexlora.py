"""FlexLoRA: the clients' changes are added up, and each client gets their best approximation of its own rank."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lit_fed.aggregation.aggregation import Basis
from lit_fed.aggregation.lora.changes import Changes
from lit_fed.aggregation.lora.factors import LoRALayout
from lit_fed.aggregation.lora.products import Product
from lit_fed.aggregation.lora.ranks import ClientAdapters
from lit_fed.aggregation.lora.rule import LoRARule
from lit_fed.aggregation.weighted_average import weighted_mean
from lit_fed.aggregation.weighting import Weighting
from lit_fed.client import Client
from lit_fed.payload import Payload
from lit_fed.update import Update

if TYPE_CHECKING:
    from lit_fed.backbones import Backbone

_ROUNDING = 1e-12  # singular values below this share of the largest are what rounding leaves of 0


class FlexLoRA(LoRARule):
    r"""FlexLoRA: the weighted sum of the clients' products, by a singular value decomposition, for clients of any rank.

    .. math:: U \Sigma V^\top = \sum_k w_k s_k B_k A_k, \qquad B_g = U_r \Sigma_r / s_g, \quad A_g = V_r^\top

    Bai et al., "Federated Fine-tuning of Large Language Models under Heterogeneous Tasks and Client Resources",
    NeurIPS 2024, §3, https://arxiv.org/abs/2402.11505. The server keeps the largest r singular values, r being the
    backbone's own rank, and a client of rank r_k starts from the largest r_k, which is the best approximation of that
    rank. Exact where the sum's rank is at most r, before truncation always; what it loses is logged as
    ``server/lora_distance``. It is computed in float64 by the factors, so that no matrix is built while the clients'
    ranks together are below the weight's own; beyond, one weight's at a time. A singular value of 0 takes its row of A
    from the broadcast before, since with B and A at 0 no gradient would ever move it. Heads and whatever else is
    trained are averaged. Bytes: a client's own factors each way.

    Factors have another basis in each round. Optimizer moments that are kept (``keep_optimizer_state``) are those of
    the factors of the round before, and what remembers changes of factors, such as the error feedback of
    :class:`~lit_fed.compression.TopK`, is refused.

    Args:
        ranks: r_k of clients by their ids, at most the backbone's ``r``, which is that of all others.
        alphas: Alpha of clients by their ids; the others have the backbone's own, whatever their rank. s_k is
            alpha / r_k, or alpha / √r_k in a rank-stabilised LoRA.
        weights: What a client's weight w_k is proportional to, as in ``WeightedAverage``.
        score: The client metric used by ``validation``, larger is better.

    Raises:
        ValueError: If a rank is below 1, or an alpha is not finite and above 0.

    Example:
        >>> import peft
        >>> from lit_fed.backbones import SequenceClassifier
        >>> rule = FlexLoRA(ranks={"ward-1": 2})
        >>> rule.setup(SequenceClassifier(peft=peft.LoraConfig(r=4, lora_alpha=8, target_modules=["query"])))
        >>> rule.adapter(Client("ward-1", 0, 9, round=0, rounds=0, steps=0)), rule.adapter(None)
        ('rank_2_alpha_8', 'default')
    """

    def __init__(
        self,
        ranks: dict[str, int] | None = None,
        alphas: dict[str, float] | None = None,
        weights: Weighting = "size",
        score: str = "val/accuracy",
    ) -> None:
        super().__init__(weights, score)
        self.clients = ClientAdapters(ranks, alphas)

    @property
    def ranks(self) -> Mapping[str, int]:
        """r_k of the clients that have a rank of their own."""
        return self.clients.ranks

    @property
    def alphas(self) -> Mapping[str, float]:
        """Alpha of the clients that have one of their own."""
        return self.clients.alphas

    @property
    def basis(self) -> Basis:
        """That of the singular vectors, which each round has its own."""
        return "new"

    @property
    def sends_everything(self) -> bool:
        """Whether all clients have the server's rank and alpha."""
        return not self.clients.mixed

    def setup(self, backbone: Backbone) -> None:
        """Find the factors and add the adapters of other ranks.

        Raises:
            ValueError: If the backbone's adapter is no plain LoRA, its scale is 0, or a client's rank is above its r.
        """
        super().setup(backbone)
        for layer, names in self.layout.weights.items():
            if not names.scale:
                raise ValueError(
                    f"`model.aggregation` FlexLoRA expects `model.backbone.peft.lora_alpha` to be other than 0, since "
                    f"the sum of the products is divided by it, but that of {layer} is 0"
                )
        most = backbone.model.peft_config["default"].r
        for client, rank in self.ranks.items():
            if rank > most:
                raise ValueError(
                    f"`model.aggregation.ranks.{client}` is expected to be at most `model.backbone.peft.r` {most}, the "
                    f"rank that the server keeps, but got {rank}"
                )
        self.clients.setup(backbone, type(self).__name__)

    def check_clients(self, ids: Collection[str]) -> None:
        """Those with a rank or an alpha of their own have to be there."""
        self.clients.check(ids)

    def adapter(self, client: Client | None) -> str:
        """That of the client's rank and alpha."""
        return self.clients.adapter(client)

    def changes(self) -> Changes:
        """Each client's factors with its own scale."""
        return ChangesOfAnyRank(self.clients)

    def __call__(self, updates: Sequence[Update], previous: Payload) -> Payload:
        """Add up the products, truncate their sum, and average the rest.

        Raises:
            ValueError: If there is no update, what is beside the factors differs between clients in name or shape,
                or something that has no mean differs.
        """
        weights = self.weights(updates)
        changes, rest = self.changes(), []
        for update in updates:
            layout = self.clients.layout(update.client_id)
            layout.require(update.payload.tensors, f"the upload of client {update.client_id!r}")
            others = layout.others([*update.payload.tensors, *update.payload.strings])
            rest.append(replace(update, payload=update.payload.select(others)))
        tensors = weighted_mean(rest, weights)
        sent = [changes.sent(update, {}) for update in updates]
        for layer, names in self.layout.weights.items():
            total = Product.sum((factors[layer] for factors in sent), weights)
            before = previous.tensors[names.a]
            tensors[names.b], tensors[names.a] = _factors(total, names.scale, before)
        like = {**updates[0].payload.tensors, **previous.tensors}
        kept = {name: value.to(like[name].dtype) for name, value in tensors.items()}
        return Payload(kept, updates[0].payload.strings)

    def broadcast_to(self, client: Client, broadcast: Payload) -> Payload:
        """The first r_k rows of A and columns of B, these times s_g / s_k."""
        if self.clients.adapter(client) == self.clients.adapter(None):
            return broadcast
        tensors = dict(broadcast.tensors)
        rank, own = self.ranks.get(client.id), self.clients.layout(client.id).weights
        for layer, names in self.layout.weights.items():
            a, b = tensors[names.a][:rank], tensors[names.b][:, :rank]
            tensors[names.a], tensors[names.b] = a, b * (names.scale / own[layer].scale)
        return Payload(tensors, broadcast.strings)


class ChangesOfAnyRank(Changes):
    """Reads changes of clients whose ranks and alphas differ.

    Args:
        clients: Their adapters, after their ``setup``.
    """

    def __init__(self, clients: ClientAdapters) -> None:
        super().__init__(clients.layout(None))
        self.clients = clients

    def layout_of(self, client_id: str) -> LoRALayout:
        """With the client's own scale."""
        return self.clients.layout(client_id)


def _factors(total: Product, scale: float, before: Tensor) -> tuple[Tensor, Tensor]:
    """B and A of the best approximation of a sum, in float64.

    Args:
        total: The sum.
        scale: What will multiply B·A.
        before: A of the broadcast before, [r, in], which says what r is.
    """
    b, a = total.truncated(len(before))
    roots = torch.linalg.vector_norm(b, dim=0)  # √σ
    there = roots**2 > _ROUNDING * roots[0] ** 2
    b = torch.where(there, b * (roots / scale), 0.0)
    a = torch.where(there[:, None], a / torch.where(there, roots, 1.0)[:, None], before.double())
    return b, a
