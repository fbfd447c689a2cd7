"""FLoRA: the clients' changes are stacked, and folded into the base."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from lit_fed.aggregation.aggregation import BASE_CHANGE, Basis
from lit_fed.aggregation.lora.folding_rule import FoldingRule, stacked
from lit_fed.aggregation.lora.products import Product
from lit_fed.aggregation.lora.ranks import ClientAdapters
from lit_fed.aggregation.weighting import Weighting
from lit_fed.client import Client
from lit_fed.payload import Payload
from lit_fed.update import Update, norm_of_change

if TYPE_CHECKING:
    from lit_fed.backbones import Backbone


class FLoRA(FoldingRule):
    r"""The exact mean of the clients' changes, added to the frozen base; clients start anew on it (FLoRA).

    .. math::
        W \leftarrow W + \sum_k w_k s_k B_k A_k
        = W + \begin{pmatrix} w_1 s_1 B_1 & \dots & w_K s_K B_K \end{pmatrix}
          \begin{pmatrix} A_1 \\ \vdots \\ A_K \end{pmatrix}, \qquad A_k \leftarrow A_0, \quad B_k \leftarrow 0

    Wang et al., "FLoRA: Federated Fine-Tuning Large Language Models with Heterogeneous Low-Rank Adaptations", 2024,
    Eqs. 4 to 7, https://arxiv.org/abs/2409.05976. A_0 is A as it was built. The weight and the scale are in one factor
    alone. What is no factor, such as a head, is the weighted mean, and goes on from it.

    **Exact**: the next global model is the mean of the clients' models, but for roundings.

    **Bytes**: up, a client's factors and head. Down, the head and the sum of all rounds' changes, so that a client
    that comes late needs nothing else: per weight P [out, R] and Q [R, in], where R grows by the ranks of the round's
    clients, until they would be larger than the weight, and from then on the change as a matrix [out, in]. After a few
    rounds a download is therefore as large as the adapted weights themselves. Factors are not downloaded, since
    they start anew.

    **Server**: time and memory are linear in the clients' factors, and one weight at a time is a matrix.

    The base has to be of floats (not quantised). On a base of bfloat16 what is folded is rounded to it, once and not in
    each round; the part that is lost is warned of. Optimizer moments that are kept (``keep_optimizer_state``) are those
    of the factors of the round before.

    Args:
        ranks: r_k of clients by their ids; the others have the backbone's own.
        alphas: Alpha of clients by their ids; the others have the backbone's own, whatever their rank.
        weights: What a client's weight w_k is proportional to, as in ``WeightedAverage``.
        score: The client metric used by ``validation``, larger is better.

    Raises:
        ValueError: If a rank is below 1, or an alpha is not finite and above 0. When the method is built, if its
            adapter is no plain LoRA, changes the model before it has trained, or a weight under it is quantised or
            tied to another one.

    Example:
        >>> from peft import LoraConfig
        >>> from lit_fed.backbones import SequenceClassifier
        >>> backbone = SequenceClassifier(peft=LoraConfig(r=4, lora_alpha=8, target_modules=["query"]))
        >>> rule = FLoRA()
        >>> rule.setup(backbone)
        >>> sent = [Update(name, Payload(backbone.trainable()), num_samples=1) for name in ("a", "b")]
        >>> change = rule(sent, previous=Payload()).parts["base_change"]
        >>> sorted({tuple(tensor.shape) for tensor in change.tensors.values()})
        [(8, 128), (128, 8)]
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

    def setup(self, backbone: Backbone) -> None:
        """Find the factors, and add the adapters of other ranks and alphas.

        Raises:
            ValueError: If the adapter is no plain LoRA, changes the model before it has trained, so that a client
                that starts anew would add that change again, or a weight under it cannot be changed.
        """
        super().setup(backbone)
        for layer, factors in self.layout.factors(backbone.trainable()).items():
            if bool(factors.a.any()) and bool(factors.b.any()):
                raise ValueError(
                    f"`model.aggregation` {type(self).__name__} expects `model.backbone.peft` to be a LoRA that "
                    f"changes nothing before it has trained, as with `init_lora_weights` true or gaussian, since "
                    f"clients start anew in each round, but B·A of {layer} is not 0"
                )
        self.clients.setup(backbone, type(self).__name__)

    def check_clients(self, ids: Collection[str]) -> None:
        """Those with a rank or an alpha of their own have to be there."""
        self.clients.check(ids)

    def adapter(self, client: Client | None) -> str:
        """That of the client's rank and alpha."""
        return self.clients.adapter(client)

    def __call__(self, updates: Sequence[Update], previous: Payload) -> Payload:
        """The mean of what is no factor, and in the part ``base_change`` the sum of all changes so far.

        Raises:
            ValueError: If there is no update, a factor is missing, what is beside the factors differs between clients
                in name or shape, or something that has no mean differs.
        """
        sent, rest = [], []
        for update in updates:
            layout, payload = self.clients.layout(update.client_id), update.payload
            layout.require(payload.tensors, f"the upload of client {update.client_id!r}")
            sent.append(layout.factors(payload.tensors))
            others = layout.others([*payload.tensors, *payload.strings])
            rest.append(replace(update, payload=payload.select(others)))
        mean = super().__call__(rest, previous)
        change = self.grow(previous, sent, self.weights(updates), stacked, kept={})
        return mean.with_parts({BASE_CHANGE: change})

    @property
    def basis(self) -> Basis:
        """None of the round before: clients start anew."""
        return "new"

    def receives(self, names: Sequence[str], client: Client | None) -> Collection[str]:
        """What is no factor."""
        return self.layout.others(names)

    def keeps(self, names: Sequence[str], client: Client | None) -> Collection[str]:
        """No factor: a client's change is in the base."""
        return self.layout.others(names)

    def update_norm(self, upload: Payload, broadcast: Payload) -> float | None:
        """‖s·B·A‖ over all weights and the change of what is no factor, together: a client starts from B = 0.

        s is the server's, also where clients have ranks and alphas of their own.
        """
        factors = self.layout.factors(upload.tensors).values()
        rest = norm_of_change(upload, broadcast) or 0.0
        return math.hypot(rest, *(Product.sum([f], [1.0]).norm() for f in factors))
