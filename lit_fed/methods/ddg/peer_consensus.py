"""Consensus of peers: P̄ by running the other clients' adapters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor

from lit_fed.backbones import Backbone, CausalLM, Prediction
from lit_fed.limits import require_non_negative
from lit_fed.losses import mixture, soft_predictions
from lit_fed.methods.ddg.consensus import Batch, Consensus, Guidance, Passes
from lit_fed.methods.teachers import RowCache, silent
from lit_fed.payload import Payload
from lit_fed.specification import Specification

PEER: Final = "peer"
"""Name of the adapter that plays one peer after the other."""


class PeerConsensus(Consensus):
    """Every client gets the last round's adapters and runs them on its own rows: P̄(x) = Σ w_k p_k(x).

    Costs K passes for each new row and K adapters of download, and shows every client the weights of
    every other. The same rows again cost nothing: P̄(x) is kept for the round.

    Args:
        cache_mb: Megabytes for P̄ of this round's rows; what does not fit is computed again. 0: none is
            kept.
    """

    _peers: Sequence[Mapping[str, Tensor]] = ()
    _weights: Tensor | None = None

    def __init__(self, cache_mb: float = 1024.0) -> None:
        self._cache = RowCache(
            int(require_non_negative("model.consensus.cache_mb", cache_mb) * 2**20)
        )

    def attach(self, backbone: Backbone) -> None:
        """Add the adapter that the peers' values are loaded into."""
        backbone.add_adapter(PEER)

    @property
    def needs_whole_weights(self) -> bool:
        """A peer's pass takes all of its weights."""
        return True

    def receive(self, passes: Passes, broadcast: Payload) -> None:
        """The peers' weights w_k and adapters."""
        tensors = broadcast.tensors
        self._weights = tensors.get("weights")
        names = {} if self._weights is None else passes.backbone.trainable()
        count = 0 if self._weights is None else len(self._weights)
        self._peers = [{name: tensors[f"{k}.{name}"] for name in names} for k in range(count)]
        self._cache.clear()

    def guidance(
        self, passes: Passes, batch: Batch, student: Prediction, teacher: Prediction | None
    ) -> Guidance:
        """The client's own rows, with what its peers make of them."""
        if self._weights is None:
            return Guidance(student)
        backbone, weights = passes.backbone, self._weights

        def compute(rows: Batch) -> dict[str, Tensor]:
            predictions = []
            with passes.timers("teacher"), silent(backbone, PEER):
                for peer in self._peers:
                    backbone.load_trainable(peer, PEER)
                    logits = passes(rows).logits
                    predictions.append(soft_predictions(logits, passes.temperature))
            log_probs = torch.stack(predictions)
            return {"consensus": mixture(log_probs, weights.to(log_probs)).exp()}

        per_place = ("consensus",) if isinstance(backbone, CausalLM) else ()
        fields = self._cache.get(batch, compute, per_place=per_place)
        return Guidance(student, teacher, fields["consensus"], batch.get("weight"))

    def expected(self, passes: Passes) -> Specification:
        """Nothing beside the weights."""
        return Specification()

    def send(self, passes: Passes) -> Payload:
        """Nothing beside the weights, which are all that is needed."""
        return Payload()

    def combine(
        self,
        passes: Passes,
        uploads: Sequence[Payload],
        sent: Sequence[Payload],
        weights: Tensor,
    ) -> Payload:
        """``weights`` of the round's clients, and of client k the adapter's tensors as ``{k}.{name}``."""
        named = {
            f"{k}.{name}": v for k, one in enumerate(uploads) for name, v in one.tensors.items()
        }
        return Payload({"weights": weights, **named})
