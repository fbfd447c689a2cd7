"""DDG's mechanics: P̄, public batches, and the server's distillation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Literal

import torch
from torch import Tensor

from lit_fed.aggregation import Aggregation
from lit_fed.backbones import Prediction
from lit_fed.losses import AggregateKLMixin, kl_distill_from_probs, masked_mean
from lit_fed.losses.hyperparameter import at_least
from lit_fed.methods.class_guide import ClassGuide
from lit_fed.methods.guide import Guide, Guided
from lit_fed.methods.peer_guide import PeerGuide
from lit_fed.methods.public_guide import PublicGuide
from lit_fed.methods.row_cache import RowCache
from lit_fed.methods.teacher import TeacherMixin
from lit_fed.payload import Payload
from lit_fed.update import Update

AggregateOn = Literal["public", "peers", "class", "off"]
PREFIX: Final = "consensus."
"""Before the names of what is exchanged beside the weights."""


class GuidanceMixin(AggregateKLMixin, TeacherMixin):
    """Gives a method P̄, the clients' aggregate predictions: who makes them, when they are exchanged.

    P̄ is one round old, and in round 0 there is none: L_aggregate is left out then.

    Args:
        aggregate_on: Where P̄ lives. ``public``: on the public set, |U|·C·2 bytes each way (language
            models: the top k). ``peers``: the peers' adapters are sent to every client and run on its
            own rows, K passes, and every peer's weights are shown. ``class``: mean predictions of
            each class, C² numbers. ``off``: no P̄ and no L_aggregate.
        top_k: Tokens of a language model's predictions that are sent for each place.
        public_batch_size: Rows of a public batch. None: as many as in a private one.
        server_steps: Steps by which the server distils P̄ into θ_g on the public set (FedDF, Lin et
            al., 2020, https://arxiv.org/abs/2006.07242). 0: none.
        server_lr: Learning rate of these steps, by AdamW.
        **kwargs: For the next class.
    """

    def __init__(
        self,
        *,
        aggregate_on: AggregateOn = "public",
        top_k: int = 32,
        public_batch_size: int | None = 8,
        server_steps: int = 0,
        server_lr: float = 1e-3,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        guides = {"public": PublicGuide, "peers": PeerGuide, "class": ClassGuide, "off": None}
        if aggregate_on not in guides:
            raise ValueError(
                f"`model.aggregate_on` is expected to be one of {', '.join(guides)}, but got "
                f"{aggregate_on!r}"
            )
        if server_steps and aggregate_on != "public":
            raise ValueError(
                f"`model.server_steps` is expected to be 0 where `model.aggregate_on` is not "
                f"'public', but got {server_steps}"
            )
        self.aggregate_on: AggregateOn = aggregate_on
        self.top_k = int(at_least(top_k, 1, "top_k"))
        self.public_batch_size = public_batch_size
        if public_batch_size is not None:
            at_least(public_batch_size, 1, "public_batch_size")
        self.server_steps = int(at_least(server_steps, 0, "server_steps"))
        self.server_lr = at_least(server_lr, 0.0, "server_lr", strictly=True)
        self.peer_cache = RowCache(self.private_cache.budget)
        made = guides[aggregate_on]
        needed = made is not None and (self.lambda_aggregate > 0 or server_steps > 0)
        self.guide: Guide | None = made(self) if made is not None and needed else None

    @property
    def guides_on_private(self) -> bool:
        """Whether δ is taken on the client's own rows, so that the teacher has to see them."""
        return self.guide is not None and not isinstance(self.guide, PublicGuide)

    def check_split(self) -> None:
        """P̄ is made of rows that each process would see a part of."""
        super().check_split()
        if self.guide is not None:
            raise ValueError(
                "`model.aggregate_on` is expected to be off where a batch is split over processes, each of "
                f"which would see predictions of a part of the rows only, but got {self.aggregate_on!r}"
            )

    def setup(self, stage: str) -> None:
        """Say before a federation trains what P̄ needs and is not there; in a stock Trainer there is no P̄.

        Args:
            stage: ``fit`` where it is going to train.

        Raises:
            ValueError: If something is missing.
        """
        if stage == "fit" and self._trainer is None and self.guide is not None:
            self.guide.check()

    def receive_consensus(self, broadcast: Payload) -> None:
        """Client: P̄ of the broadcast."""
        if self.guide is not None:
            self.guide.receive(consensus_part(broadcast))

    def send_consensus(self) -> dict[str, Tensor]:
        """Client: what it sends beside θ_k; nothing where there is no P̄."""
        if self.guide is None:
            return {}
        return {f"{PREFIX}{name}": value for name, value in self.guide.send().items()}

    def mix_consensus(self, updates: Sequence[Update], rule: Aggregation) -> dict[str, Tensor]:
        """Server: what it broadcasts beside θ_g; P̄ by the weights that the rule gives.

        Args:
            updates: The round's updates.
            rule: How θ_g is made.
        """
        if self.guide is None:
            return {}
        weights = torch.tensor(rule.weights(updates))
        adapters = [weights_part(update.payload) for update in updates]
        sent = [consensus_part(update.payload) for update in updates]
        mixed = self.guide.combine(adapters, sent, weights)
        return {f"{PREFIX}{name}": value for name, value in mixed.items()}

    def guidance(
        self, batch: Mapping[str, Tensor], student: Prediction, teacher: Prediction | None
    ) -> Guided:
        """The passes and the P̄ that L_aggregate is about.

        Args:
            batch: The client's own batch.
            student: Its clean pass.
            teacher: The teacher's pass, where there is one.
        """
        if self.guide is None or not self.lambda_aggregate:
            return Guided(student, None, None)
        return self.guide.guided(batch, student, teacher)

    def guidance_loss(self, guided: Guided) -> Tensor:
        """λ3·mean(α·KD(P̄ → p_k)); logs α's mean as ``train/alpha``, its bounds as ``…/min``, ``…/max``.

        Args:
            guided: Of :meth:`guidance`.

        Returns:
            A scalar, weighted; 0 where there is no P̄ yet or λ3 = 0.
        """
        alpha = None
        if guided.consensus is not None and guided.teacher is not None:
            mask = guided.student.mask
            alpha = self._alpha(guided.student, guided.teacher)
            if mask.any():
                self.log("train/alpha", masked_mean(alpha, mask))
                self.log("train/alpha/min", alpha.masked_fill(~mask, 1.0).amin())
                self.log("train/alpha/max", alpha.masked_fill(~mask, 0.0).amax())
        return self.aggregate_kl_loss(
            guided.student, guided.teacher, guided.consensus, guided.weight, alpha
        )

    def distil_on_server(self, broadcast: Payload) -> Payload:
        """Server: the broadcast after ``server_steps`` steps of KD(P̄ → p_g) on the public set."""
        if not self.server_steps or not isinstance(self.guide, PublicGuide):
            return broadcast
        self.download(broadcast)
        consensus = self.guide.consensus
        if consensus is None:
            return broadcast
        parameters = self.backbone.trainable()
        optimizer = torch.optim.AdamW(parameters.values(), lr=self.server_lr)
        batches = self.guide.batches(self.public_batch_size)
        self.backbone.eval()
        with torch.enable_grad():
            for _ in range(self.server_steps):
                public = next(batches)
                student = self(public)
                target = consensus.of(public["index"], student.mask)
                loss = kl_distill_from_probs(student.logits, target, student.mask, self.temperature)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
        return Payload({**broadcast.tensors, **parameters})


def only_weights(updates: Sequence[Update]) -> list[Update]:
    """The updates without what is exchanged beside θ_k."""
    return [
        replace(update, payload=update.payload.select(weights_part(update.payload)))
        for update in updates
    ]


def weights_part(payload: Payload) -> dict[str, Tensor]:
    """θ, without what is exchanged beside it."""
    return {name: t for name, t in payload.tensors.items() if not name.startswith(PREFIX)}


def consensus_part(payload: Payload) -> dict[str, Tensor]:
    """What is exchanged beside θ, under its own names."""
    return {n.removeprefix(PREFIX): t for n, t in payload.tensors.items() if n.startswith(PREFIX)}
