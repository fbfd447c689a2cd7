"""Soft consensus: clients with models of their own exchange soft predictions, the reference beside hard labels."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from lit_fed.backbones import Backbone
from lit_fed.client import Client
from lit_fed.configuration_error import ConfigurationError
from lit_fed.limits import require_none_or_at_least, require_share
from lit_fed.losses import (
    cross_entropy,
    mixture,
    over_public_rows,
    soft_cross_entropy,
    soft_predictions,
)
from lit_fed.methods.semantic_consensus.checks import check_as_many_labels
from lit_fed.methods.semantic_consensus.client_group import ClientGroup
from lit_fed.methods.semantic_consensus.own_models import OwnModelsMixin
from lit_fed.methods.semantic_consensus.progress import Progress
from lit_fed.methods.semantic_consensus.prompts import (
    DIGEST,
    digest_of,
    is_of_others,
    prompt_digest,
    public_rows,
    require_prompts,
)
from lit_fed.methods.semantic_consensus.schedule import ConsensusSchedule
from lit_fed.methods.teachers import silent
from lit_fed.payload import Payload
from lit_fed.specification import Specification, TensorSpecification
from lit_fed.update import Update

_PROBS: Final = "probs"
_ASKED: Final = "asked"
_RECEIVED: Final = "received"
"""The ids of clients that have the mean predictions."""


class SoftConsensus(OwnModelsMixin):
    r"""Classifiers that learn from the mean of their soft predictions on the public set.

    .. math:: L = \mathrm{CE}(x, y) + \eta \cdot \mathrm{CE}(u, \bar P_u), \qquad
        \bar P_u = \sum_k w_k \, \mathrm{softmax}(z_k(u))

    After FedMD: Li and Wang, "FedMD: Heterogenous Federated Learning via Model Distillation" (2019),
    https://arxiv.org/abs/1910.03581, on the public rows' predictions alone, without their labels, and weighted by the
    clients' sizes. It is what :class:`~lit_fed.SemanticConsensus` is compared with: ``|U|·C·2`` bytes each way instead
    of a text a prompt, and no abstention.

    Args:
        backbone: The model of all clients that ``clients`` does not name; see :class:`OwnModelsMixin`.
        clients: Groups of clients with a backbone of their own.
        warmup_rounds: As of :class:`~lit_fed.SemanticConsensus`.
        consensus_every: As there.
        consensus_rounds: As there.
        eta: η in [0, 1], the weight of the public rows.
        public_batch_size: Public rows beside each batch of a client's own. None: as many as in it.
        **kwargs: Of the clients' models, the optimizer and its warm-up.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        backbone: Backbone | None = None,
        clients: list[ClientGroup] | None = None,
        *,
        warmup_rounds: int | None = None,
        consensus_every: int = 2,
        consensus_rounds: int | None = None,
        eta: float = 1.0,
        public_batch_size: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backbone=backbone, clients=clients, **kwargs)
        self.warmup_rounds, self.consensus_every = warmup_rounds, consensus_every
        self.consensus_rounds = consensus_rounds
        self.eta = require_share("model.eta", eta)
        self.public_batch_size = require_none_or_at_least(
            "model.public_batch_size", public_batch_size, 1
        )
        self.schedule = ConsensusSchedule(warmup_rounds, consensus_every, consensus_rounds)
        self.needs_client_validation = self.schedule.needs_losses
        self._forget()

    def _forget(self) -> None:
        self._progress, self._broadcast = Progress(), Payload()
        self._probs: Tensor | None = None
        self._public: Iterator[dict[str, Tensor]] | None = None

    def setup(self, stage: str) -> None:
        """Refuse models that do not classify, and a federation without public rows.

        Args:
            stage: ``fit`` where it is going to train.

        Raises:
            ConfigurationError: If there is such a model, models have different numbers of labels, or there is no
                public set.
        """
        super().setup(stage)
        if stage == "fit" and self._trainer is None and self.consensus_rounds != 0:
            require_prompts(self.data)
            for name, box in self.black_boxes.items():
                raise ConfigurationError(
                    f"`model` SoftConsensus expects `model.{name}` to give probabilities, but got a black box, {box!r}"
                )
            for name, backbone in self.backbones.items():
                if not backbone.classifies:
                    raise ConfigurationError(
                        f"`model` SoftConsensus expects `model.{name}` to be one that classifies, such as "
                        f"SequenceClassifier, but got {type(backbone).__name__}"
                    )
            check_as_many_labels("`model` SoftConsensus", self.backbones)

    def check_rounds(self, rounds: int) -> None:
        """Refuse a warm-up that is longer than the run."""
        super().check_rounds(rounds)
        self.schedule.check_rounds(rounds)

    def on_fit_start(self) -> None:
        """Refuse a run that goes on where its next round asks for predictions that other settings now forbid."""
        super().on_fit_start()
        if self._trainer is None and _ASKED in self._broadcast.tensors:
            self.schedule.check_asked(self._progress.made)

    def on_fit_end(self) -> None:
        """Say that clients have never been asked, where they were to be."""
        super().on_fit_end()
        if self._trainer is None:
            self.schedule.warn_of_none(self._progress.rounds, self._progress.first)

    def act_as(self, client: Client | None) -> None:
        """Be a client or the server, which has nothing yet."""
        super().act_as(client)
        self._forget()

    def download(self, broadcast: Payload) -> None:
        """Client: the mean predictions, if it has not got them, and whether it is to send its own."""
        self._broadcast = broadcast
        self._probs = broadcast.tensors.get(_PROBS, self._probs)

    def private_state(self) -> Payload:
        """Client: what it trains, and the mean predictions that it has got."""
        state = super().private_state()
        if self._probs is None:
            return state
        about = {} if self._digest is None else {DIGEST: [self._digest]}
        return state.with_parts({_PROBS: Payload({_PROBS: self._probs}, about)})

    def load_private_state(self, state: Payload) -> None:
        """Client: take them back, but for predictions about other public rows."""
        super().load_private_state(state)
        held = state.parts.get(_PROBS)
        if held is not None and not is_of_others(held, self._digest):
            self._probs = held.tensors[_PROBS]

    @property
    def _digest(self) -> str | None:
        """Of the public rows; None where there is no data, or no public set."""
        return digest_of(self.datamodule)

    def start_stage(self, stage: str) -> None:
        """Client: begin with the public rows anew."""
        self._public = None

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """L = CE(x, y) + η · CE(u, P̄)."""
        student, loss = self(batch), torch.zeros(())
        if self.eta and (probs := self._probs) is not None:
            if self._public is None:
                self._public = self._batches()
            public = next(self._public)
            target = probs[public["index"].cpu()].to(self.device)
            with over_public_rows():
                loss = self.eta * soft_cross_entropy(self(public).logits, target)
        task = cross_entropy(student.logits, student.targets, student.mask, batch.get("weight"))
        return self.total_loss(task, consensus=loss)

    def _batches(self) -> Iterator[dict[str, Tensor]]:
        draw = random.Random(f"public {torch.initial_seed()}")
        while True:
            rows = public_rows(self.data)
            yield from self.batches(rows, draw.getrandbits(31), self.public_batch_size)

    @torch.no_grad()
    def upload(self) -> Payload:
        """Client: softmax(z(U)), where it is asked."""
        if _ASKED not in self._broadcast.tensors:
            return Payload()
        with silent(self.backbone):
            passes = [self(batch).logits for batch in self.batches(public_rows(self.data))]
        return Payload({_PROBS: soft_predictions(torch.cat(passes)).exp().half()})

    def expected_upload(self) -> Specification:
        """Server: the predictions that it has asked for."""
        if _ASKED not in self._broadcast.tensors:
            return Specification()
        shape = (len(public_rows(self.data)), self.backbone.num_labels or "classes")
        return Specification({_PROBS: TensorSpecification(shape, torch.float16, 0, 1)})

    def initial_broadcast(self) -> Payload:
        """Server: whether clients send predictions in round 0 already."""
        return self._next(None)

    def broadcast_to(self, client: Client, broadcast: Payload) -> Payload:
        """Server: what the client has not got yet."""
        tensors = dict(broadcast.tensors)
        if client.id in broadcast.strings.get(_RECEIVED, ()) or is_of_others(
            broadcast, self._digest
        ):
            tensors.pop(_PROBS, None)
        return Payload(tensors)

    def aggregate(self, updates: Sequence[Update]) -> Payload:
        """Server: P̄ = Σ w_k softmax(z_k), where clients have sent predictions."""
        asked, before = _ASKED in self._broadcast.tensors, self._broadcast
        if asked:
            sent = [update.payload.tensors[_PROBS].float().log() for update in updates]
            sizes = torch.tensor([float(update.num_samples) for update in updates])
            probs: Tensor | None = mixture(torch.stack(sent), sizes / sizes.sum()).exp().half()
            received: set[str] = set()
        else:
            probs = None if is_of_others(before, self._digest) else before.tensors.get(_PROBS)
            received = {*before.strings.get(_RECEIVED, ()), *(one.client_id for one in updates)}
        answered = len(probs) if asked and probs is not None else None
        self._progress = self._progress.after(updates, self.schedule.needs_losses, answered)
        return self._next(probs, received)

    def _next(self, probs: Tensor | None, received: Collection[str] = ()) -> Payload:
        done, tensors, strings = self._progress, dict[str, Tensor](), dict[str, list[str]]()
        if self.schedule.is_due(done.rounds, done.first, done.made, done.losses):
            tensors[_ASKED] = torch.tensor([True])
        if probs is not None:
            tensors[_PROBS] = probs
            strings = {DIGEST: [prompt_digest(self.data)], _RECEIVED: sorted(received)}
        return Payload(tensors, strings)

    def server_state(self) -> Payload:
        """Server: how far it is."""
        return self._progress.payload()

    def load_server_state(self, state: Payload) -> None:
        """Server: take it back."""
        self._progress = Progress.read(state)
