"""P̄ by running the peers' adapters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from lit_fed.backbones import Prediction
from lit_fed.losses import mixture, soft_predictions
from lit_fed.methods.guide import Guide, Guided

if TYPE_CHECKING:
    from lit_fed.methods.guidance import GuidanceMixin

PEER: Final = "peer"


class PeerGuide(Guide):
    """Every client gets the last round's adapters and runs them on its own rows: P̄(x) = Σ w_k p_k(x).

    Costs K passes for each new row and K adapters of download, and shows every client the weights of
    every other. The same rows again cost nothing: P̄(x) is kept with the teacher's predictions.
    """

    _peers: Sequence[Mapping[str, Tensor]] = ()
    _weights: Tensor | None = None

    def __init__(self, module: GuidanceMixin) -> None:
        super().__init__(module)
        module.backbone.add_adapter(PEER)

    def check(self) -> None:
        """Nothing is needed."""

    def receive(self, tensors: Mapping[str, Tensor]) -> None:
        """The peers' weights w_k and adapters."""
        self._weights = tensors.get("weights")
        names = {} if self._weights is None else self.module.backbone.trainable()
        count = 0 if self._weights is None else len(self._weights)
        self._peers = [{name: tensors[f"{k}.{name}"] for name in names} for k in range(count)]
        self.module.peer_cache.clear()

    def guided(
        self, batch: Mapping[str, Tensor], student: Prediction, teacher: Prediction | None
    ) -> Guided:
        """The client's own rows, with what its peers make of them."""
        if self._weights is None:
            return Guided(student, None, None)
        module, weights = self.module, self._weights

        def compute(rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
            passes = []
            with module.timers("teacher"), module.silent(PEER):
                for peer in self._peers:
                    module.backbone.load_trainable(peer, PEER)
                    passes.append(soft_predictions(module(rows).logits, module.temperature))
            log_probs = torch.stack(passes)
            return {"consensus": mixture(log_probs, weights.to(log_probs)).exp()}

        fields = module.peer_cache.get(batch, compute, per_place=module.per_place)
        return Guided(student, teacher, fields["consensus"], batch.get("weight"))

    def send(self) -> dict[str, Tensor]:
        """Nothing beside the weights, which are all that is needed."""
        return {}

    def combine(
        self,
        adapters: Sequence[Mapping[str, Tensor]],
        sent: Sequence[Mapping[str, Tensor]],
        weights: Tensor,
    ) -> dict[str, Tensor]:
        """All of the round's adapters, with the clients' weights."""
        named = {f"{k}.{name}": v for k, one in enumerate(adapters) for name, v in one.items()}
        return {"weights": weights, **named}
