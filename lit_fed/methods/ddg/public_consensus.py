"""Consensus on the public set: P̄ of its rows, and the server's distillation from it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from lit_fed.aggregation import Aggregation
from lit_fed.backbones import CausalLM, Prediction
from lit_fed.configuration_error import ConfigurationError
from lit_fed.limits import require_at_least, require_none_or_at_least, require_positive
from lit_fed.losses import TopK, kl_distill_from_probs, masked_mean
from lit_fed.methods.ddg.consensus import Batch, Consensus, Guidance, Passes
from lit_fed.methods.ddg.public_predictions import (
    ClassPredictions,
    PublicPredictions,
    TokenPredictions,
    places_of,
)
from lit_fed.methods.teachers import silent
from lit_fed.payload import Payload
from lit_fed.specification import Specification, TensorSpecification

if TYPE_CHECKING:
    from datasets import Dataset


class PublicConsensus(Consensus):
    """Clients send softmax(z_k(U)/T) in half precision, and learn from the mixture on public batches.

    This takes ``|U|·C·2`` bytes each way; for a language model the top k of every place, and all other tokens
    together as one more, softened by T as :class:`~lit_fed.losses.TopK` says. How much of P̄ the k tokens
    hold, the mean over the places of a step's public batch, is logged as ``train/consensus_mass``.

    Args:
        top_k: Tokens of a language model's predictions that are sent for each place.
        batch_size: Rows of a public batch. None: as many as in a private one.
        server_steps: Steps by which the server distils P̄ into θ_g on the public set (FedDF, Lin et
            al., 2020, https://arxiv.org/abs/2006.07242). 0: none.
        server_lr: Learning rate of these steps, by AdamW.

    Raises:
        ValueError: If a number is out of range.
    """

    on_private: ClassVar[bool] = False
    _received: PublicPredictions | None = None
    _batches: Iterator[dict[str, Tensor]] | None = None
    _places: tuple[Dataset, Any, Tensor] | None = None

    def __init__(
        self,
        top_k: int = 32,
        batch_size: int | None = 8,
        server_steps: int = 0,
        server_lr: float = 1e-3,
    ) -> None:
        self.top_k = require_at_least("model.consensus.top_k", top_k, 1)
        self.batch_size = require_none_or_at_least("model.consensus.batch_size", batch_size, 1)
        self.server_steps = require_at_least("model.consensus.server_steps", server_steps, 0)
        self.server_lr = require_positive("model.consensus.server_lr", server_lr)
        self.on_server = self.server_steps > 0

    @property
    def needs_whole_weights(self) -> bool:
        """The server distils into all of θ_g."""
        return self.on_server

    def check(self, passes: Passes, rule: Aggregation) -> None:
        """There has to be a public set."""
        super().check(passes, rule)
        _public(passes)

    def receive(self, passes: Passes, broadcast: Payload) -> None:
        """P̄[U]."""
        self._received, self._batches = PublicPredictions.read(broadcast.tensors), None

    def guidance(
        self, passes: Passes, batch: Batch, student: Prediction, teacher: Prediction | None
    ) -> Guidance:
        """The next public batch, with passes of its own."""
        if self._received is None:
            return Guidance(student)
        if self._batches is None:
            self._batches = self.batches(passes)
        public = next(self._batches)
        own: Prediction = passes(public)
        consensus = self._received.of(public["index"], own.mask)
        if isinstance(consensus, TopK) and own.mask.any():
            passes.log("train/consensus_mass", masked_mean(1 - consensus.tail, own.mask))
        with passes.timers("teacher"):
            taught = passes.teacher(public, public=True)
        return Guidance(own, taught, consensus)

    def batches(self, passes: Passes) -> Iterator[dict[str, Tensor]]:
        """Public batches without end, each epoch in an order of its own.

        Orders follow from the seed that torch was given last, which in a federation stands for the
        round and the client; nothing is drawn from the global generators.
        """
        draw = random.Random(f"public {torch.initial_seed()}")
        while True:
            yield from passes.batches(_public(passes), draw.getrandbits(31), self.batch_size)

    def expected(self, passes: Passes) -> Specification:
        """q_k in the shapes of the public set: of its rows or, for a language model, of its places."""
        rows, half = len(_public(passes)), torch.float16
        if not isinstance(passes.backbone, CausalLM):
            classes = passes.backbone.num_labels or "classes"
            return Specification({"probs": TensorSpecification((rows, classes), half, 0, 1)})
        vocabulary = passes.backbone.model.get_output_embeddings().weight.shape[0]
        places = ("places", min(self.top_k, vocabulary))
        return Specification(
            {
                "lengths": TensorSpecification((rows,), torch.int32, least=0),
                "indices": TensorSpecification(places, torch.int32, least=0, most=vocabulary - 1),
                "probs": TensorSpecification(places, half, least=0, most=1),
            }
        )

    def check_sent(self, passes: Passes, sent: Payload) -> None:
        """A language model's predictions have to be about the places that the server knows."""
        lengths = sent.tensors.get("lengths")
        if lengths is None:
            return
        rows, tokenizer = _public(passes), passes.backbone.tokenizer
        if self._places is None or self._places[0] is not rows or self._places[1] is not tokenizer:
            self._places = (rows, tokenizer, places_of(passes.batches(rows)))
        known = self._places[2]
        if not torch.equal(lengths, known) or len(sent.tensors["indices"]) != int(known.sum()):
            raise ValueError(
                f"predictions are expected for the {int(known.sum())} places of the public set, each row's own, "
                f"but came for {int(lengths.sum())}, or for other rows: tokenizers or `data.max_length` differ"
            )

    def send(self, passes: Passes) -> Payload:
        """q_k = softmax(z_k(U)/T)."""
        with silent(passes.backbone):
            predictions = ((b["index"], passes(b)) for b in passes.batches(_public(passes)))
            batches = ((index, p.mask, p.logits) for index, p in predictions)
            if isinstance(passes.backbone, CausalLM):
                made: PublicPredictions = TokenPredictions.of_model(
                    batches, passes.temperature, self.top_k
                )
            else:
                made = ClassPredictions.of_model(batches, passes.temperature)
        return Payload(made.tensors())

    def combine(
        self,
        passes: Passes,
        uploads: Sequence[Payload],
        sent: Sequence[Payload],
        weights: Tensor,
    ) -> Payload:
        """P̄ = Σ w_k q_k."""
        if isinstance(passes.backbone, CausalLM):
            tokens = [TokenPredictions(**one.tensors) for one in sent]
            return Payload(TokenPredictions.mixed(tokens, weights).tensors())
        classes = [ClassPredictions(**one.tensors) for one in sent]
        return Payload(ClassPredictions.mixed(classes, weights).tensors())

    def distil(self, passes: Passes, average: Payload, consensus: Payload) -> Payload:
        """θ_g after ``server_steps`` steps of KD(P̄ → p_g) on the public set."""
        target = PublicPredictions.read(consensus.tensors)
        if not self.server_steps or target is None:
            return average
        backbone = passes.backbone
        backbone.load_trainable(average.tensors)
        parameters = backbone.trainable()
        optimizer = torch.optim.AdamW(parameters.values(), lr=self.server_lr)
        batches = self.batches(passes)
        backbone.eval()
        with torch.enable_grad():
            for _ in range(self.server_steps):
                public = next(batches)
                student: Prediction = passes(public)
                probs = target.of(public["index"], student.mask)
                loss = kl_distill_from_probs(
                    student.logits, probs, student.mask, passes.temperature
                )
                loss.backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
        return Payload({**average.tensors, **parameters})


def _public(passes: Passes) -> Dataset:
    public = passes.data.public
    if public is None:
        raise ConfigurationError(
            "`data.public` or `data.public_size` is expected where `model.consensus` is "
            "PublicConsensus, but there is no public set; ClassConsensus does without"
        )
    return public
