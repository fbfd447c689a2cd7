"""Semantic consensus (FedCoFiT): clients exchange what they answer to public prompts, and no weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from lit_fed.backbones import Backbone
from lit_fed.client import Client
from lit_fed.configuration_error import ConfigurationError
from lit_fed.limits import require_instance, require_none_or_at_least
from lit_fed.losses import PseudoLabelMixin, cross_entropy, over_public_rows
from lit_fed.methods.semantic_consensus.answers.label_answers import LabelAnswers
from lit_fed.methods.semantic_consensus.answers.public_answers import PublicAnswers
from lit_fed.methods.semantic_consensus.answers.text_answers import TextAnswers
from lit_fed.methods.semantic_consensus.broadcast import Broadcast, about, for_client
from lit_fed.methods.semantic_consensus.checks import check_choice, check_noise, check_votes
from lit_fed.methods.semantic_consensus.client import ConsensusClient
from lit_fed.methods.semantic_consensus.client_group import ClientGroup
from lit_fed.methods.semantic_consensus.exchange import (
    Answers,
    Labels,
    Texts,
    require_digest,
)
from lit_fed.methods.semantic_consensus.own_models import OwnModelsMixin
from lit_fed.methods.semantic_consensus.progress import Progress
from lit_fed.methods.semantic_consensus.prompt_choice import EveryPrompt, PromptChoice
from lit_fed.methods.semantic_consensus.prompts import (
    digest_of,
    prompt_digest,
    public_rows,
    require_prompts,
)
from lit_fed.methods.semantic_consensus.schedule import ConsensusSchedule
from lit_fed.methods.semantic_consensus.selectors.cluster_medoid import ClusterMedoid
from lit_fed.methods.semantic_consensus.selectors.majority_vote import MajorityVote
from lit_fed.methods.semantic_consensus.selectors.selector import Selector
from lit_fed.methods.semantic_consensus.server import ConsensusServer
from lit_fed.methods.semantic_consensus.vote_weights import SizeWeight, VoteWeight
from lit_fed.payload import Payload
from lit_fed.specification import Specification
from lit_fed.update import Update

if TYPE_CHECKING:
    from datasets import Dataset


class SemanticConsensus(PseudoLabelMixin, OwnModelsMixin):
    r"""Semantic consensus (FedCoFiT): federation by what models say.

    A client trains its own model on its own rows (x, y) and on the public prompts u that have a label

    .. math:: L = \mathrm{CE}(x, y) + \eta \cdot \mathrm{mean}_u \, c_u \, \mathrm{CE}(u, \hat y_u).

    Means are over rows, and of language models over the tokens of all labels, so that a long one counts for more.

    After a warm-up, and every b rounds from then on, it answers the public prompts and uploads these texts alone; the
    server makes of them one label :math:`\hat y_u` a prompt with a confidence :math:`c_u`, or none where there is no
    strict majority. No weights are exchanged: there is no global model, and clients may have different ones.

    A batch of labelled public rows comes beside each batch of a client's own, so that a client takes as many steps as
    without them. Of what the public rows say themselves nothing is learnt.

    Abourayya et al., "Beyond Parameter Aggregation: Semantic Consensus for Federated Fine-Tuning of LLMs" (2026),
    https://arxiv.org/abs/2605.11857; for labels the same authors' "Little is Enough" (2025),
    https://arxiv.org/abs/2310.05696.

    Args:
        backbone: The model of all clients that ``clients`` does not name. None: that of the first group; without
            groups the embedded classifier.
        clients: Groups of clients with a backbone of their own, or with a black box, which answers and trains nothing.
        selector: Makes one label of the answers to a prompt. None: the exact vote of labels, of texts the medoid of the
            strongest cluster.
        vote_weight: How much an answer counts as a vote. None: as much as the client has rows.
        answers: How prompts are answered. None: by labels where ``backbone`` classifies, else by texts.
        prompt_choice: Which prompts are asked. None: every one.
        warmup_rounds: Rounds of local training before the first answers, at least 1. None: until the mean validation
            loss of the clients stops falling, at least 3; see :class:`ConsensusSchedule`.
        consensus_every: b, every how many rounds clients answer from then on.
        consensus_rounds: How often in all. 1: labels are made once. 0: each client stays alone. None: to the end.
        only_changed: Whether a client sends those answers alone that differ from what it has sent last.
        public_batch_size: Public rows beside each batch of a client's own. None: as many as in it.
        self_training: Whether each client learns from its own answers instead, which nobody gets to know.
        **kwargs: Of the loss term, the clients' models, the optimizer and its warm-up.

    Raises:
        TypeError: If a part is of another class.
        ValueError: If a number is out of range, a client is in two groups, or prompts are chosen by a confidence that
            there is not.

    Attributes:
        server: The server's side, with the votes and the consensus that it has made last.
    """

    def __init__(
        self,
        backbone: Backbone | None = None,
        clients: list[ClientGroup] | None = None,
        *,
        selector: Selector | None = None,
        vote_weight: VoteWeight | None = None,
        answers: PublicAnswers | None = None,
        prompt_choice: PromptChoice | None = None,
        warmup_rounds: int | None = None,
        consensus_every: int = 2,
        consensus_rounds: int | None = None,
        only_changed: bool = True,
        public_batch_size: int | None = None,
        self_training: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(backbone=backbone, clients=clients, **kwargs)
        require_instance("model.selector", selector, Selector)
        require_instance("model.vote_weight", vote_weight, VoteWeight)
        require_instance("model.answers", answers, PublicAnswers)
        require_instance("model.prompt_choice", prompt_choice, PromptChoice)
        require_none_or_at_least("model.public_batch_size", public_batch_size, 1)
        schedule = ConsensusSchedule(warmup_rounds, consensus_every, consensus_rounds)
        self.needs_client_validation = schedule.needs_losses
        self.warmup_rounds, self.consensus_every = warmup_rounds, consensus_every
        self.consensus_rounds, self.only_changed = consensus_rounds, only_changed
        self.public_batch_size, self.self_training = public_batch_size, self_training
        by_kind = LabelAnswers if self.backbone.classifies else TextAnswers
        self.answers = by_kind() if answers is None else answers
        self.generates = self.answers.generates and consensus_rounds != 0
        vote = MajorityVote if self.answers.are_few else ClusterMedoid
        self.selector = vote() if selector is None else selector
        self.vote_weight = SizeWeight() if vote_weight is None else vote_weight
        self.prompt_choice = EveryPrompt() if prompt_choice is None else prompt_choice
        check_choice(self.prompt_choice, self.selector, self_training)
        keeps = only_changed or self.prompt_choice.leaves_out
        self.server = ConsensusServer(
            self.selector, self.vote_weight, self.prompt_choice, schedule, keeps
        )
        self.own = ConsensusClient(
            self.answers, self.vote_weight.by_confidence, only_changed, public_batch_size
        )
        self._broadcast = Broadcast()
        self._public: Iterator[dict[str, Tensor]] | None = None
        self._unreachable: list[str] = []
        self._judged: dict[tuple[Backbone, str], Mapping[str, float]] = {}

    # ---------------------------------------------------------------- who it is

    def setup(self, stage: str) -> None:
        """Say before a federation trains what cannot be answered.

        Args:
            stage: ``fit`` where it is going to train.

        Raises:
            ConfigurationError: If there is no public set, models do not answer in this way, or the warm-up goes by a
                training that no client does.
            ValueError: If an encoder does not fit the backbones.
        """
        super().setup(stage)
        if stage == "fit" and self._trainer is None and self.consensus_rounds != 0:
            self.answers.check(self, require_prompts(self.data))
            trains = any(self.models.trains(client.id) for client in self.data.clients)
            if self.warmup_rounds is None and not trains:
                raise ConfigurationError(
                    "`model.warmup_rounds` is expected to be a number where all clients are black boxes, which train "
                    "nothing and have no validation loss that could stop falling, but got null"
                )
            response = self.answers.response(self)
            check_noise(self.selector.response, response)
            self._unreachable = check_votes(
                self.vote_weight, response is not None, self.black_boxes
            )
            self.selector.setup(list(self.backbones.values()))

    def check_rounds(self, rounds: int) -> None:
        """Refuse a warm-up that is longer than the run."""
        super().check_rounds(rounds)
        self.server.schedule.check_rounds(rounds)

    def on_fit_end(self) -> None:
        """Say that clients have never been asked, where they were to be."""
        super().on_fit_end()
        if self._trainer is None:
            done = self.server.progress
            self.server.schedule.warn_of_none(done.rounds, done.first)

    def on_fit_start(self) -> None:
        """Say of a run that goes on which black boxes do not answer now: that costs no more than their votes.

        Raises:
            ConfigurationError: If its next round asks for answers that other settings now forbid.
        """
        super().on_fit_start()
        if self._trainer is None and self._broadcast.bits is not None:
            self.server.schedule.check_asked(self.server.progress.made)
        while self._unreachable:
            rank_zero_warn(f"{self._unreachable.pop()}; the run goes on without its answers")

    def act_as(self, client: Client | None) -> None:
        """Be a client, with its backbone and optimizer, or the server; whoever it is has nothing yet."""
        super().act_as(client)
        if client is None:
            self._judged = {}
        self.own.forget()
        self.server.progress, self.server.metrics = Progress(), {}
        self._broadcast = Broadcast()
        self._public = None

    @property
    def _digest(self) -> str | None:
        """Of the public prompts; None where there is no data, or no public set."""
        return digest_of(self.datamodule)

    # ---------------------------------------------------------------- a client's round

    def download(self, broadcast: Payload) -> None:
        """Client: the labels, and the prompts that it has to answer."""
        self._broadcast = Broadcast.read(self._about_prompts(broadcast))
        self.own.receive(self._broadcast)

    def start_stage(self, stage: str) -> None:
        """Client: begin with the labelled public rows anew."""
        self._public = None

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """L = CE(x, y) + η · mean c·CE(u, ŷ)."""
        student, public = self(batch), self._next_public()
        return self.total_loss(
            cross_entropy(student.logits, student.targets, student.mask, batch.get("weight")),
            consensus=torch.zeros(()) if public is None else self._consensus_loss(public),
        )

    def _next_public(self) -> dict[str, Tensor] | None:
        """The next batch of labelled public rows; None where there is no label."""
        if self._public is None:
            self._public = self.own.batches(self) if self.eta else iter(())
        return next(self._public, None)

    def _consensus_loss(self, public: dict[str, Tensor]) -> Tensor:
        with over_public_rows():
            said = self(public)
            return self.pseudo_label_loss(
                said.logits, said.targets, said.mask, public["confidence"]
            )

    def upload(self) -> Payload:
        """Client: its answers, where it is asked."""
        if self.self_training:
            if self.stages:
                self.own.learn_from_own(self)
            return Payload()
        return self.own.upload(self)

    def answer_metrics(self, rows: Dataset) -> Mapping[str, float]:
        """Client: how good the answers of a black box are, which is asked once for all of its clients in a row."""
        asked = self.backbone, rows._fingerprint
        if asked not in self._judged:
            self._judged[asked] = self.answers.judged(self, rows)
        return self._judged[asked]

    def private_state(self) -> Payload:
        """Client: what it trains, its labels and what it has answered."""
        return super().private_state().with_parts(self.own.state(self._digest))

    def load_private_state(self, state: Payload) -> None:
        """Client: take them back."""
        super().load_private_state(state)
        self.own.load_state(state, self._digest)

    # ---------------------------------------------------------------- the server's

    def initial_broadcast(self) -> Payload:
        """Server: the prompts of round 0, where there is no warm-up.

        Raises:
            ConfigurationError: If a black box does not answer: a run does not begin without it.
        """
        if self._unreachable:
            said, self._unreachable = self._unreachable[0], []
            raise ConfigurationError(said)
        return self._next(None, ())

    def broadcast_to(self, client: Client, broadcast: Payload) -> Payload:
        """Server: what the client has not got yet."""
        learns = self.models.trains(client.id)
        return for_client(self._about_prompts(broadcast), client.id, learns)

    def _about_prompts(self, broadcast: Payload) -> Payload:
        """A broadcast without what is about the prompts of a run that has gone on with others."""
        digest = self._digest
        return about(broadcast, digest, len(public_rows(self.data)) if digest else 0)

    def expected_upload(self) -> Specification:
        """Server: the answers that it has asked for."""
        asked = None if self.self_training else self.own.asked(self)
        if asked is None:
            return Specification()
        return Answers.expected(len(asked), self.only_changed, self.vote_weight.by_confidence)

    def check_update(self, update: Update) -> None:
        """Server: refuse answers to what is not asked in this round, or another number of them than the client says."""
        if update.payload:
            require_digest(update.payload, self.own.asked_digest(self), update.client_id)
            Answers.read(update.payload, (None,) * len(self.own.asked(self) or ()))

    def aggregate(self, updates: Sequence[Update]) -> Payload:
        """Server: labels of the answers, where it has asked, and whom it asks next."""
        labels, received = self._broadcast.labels, {*self._broadcast.received}
        received |= {update.client_id for update in updates}
        places = self.own.asked(self)
        if places is not None and not self.self_training:
            labels, received = self._voted(updates, places), set()
        trained = [update for update in updates if self.models.trains(update.client_id)]
        # what a client learns from its own answers does not leave it
        response = None if self.self_training else self.answers.response(self)
        epsilon = None if response is None else response.epsilon
        self.server.advance(trained, None if places is None else len(places), epsilon)
        if self.server.progress.has_noise:
            self.server.metrics["server/epsilon"] = self.server.progress.epsilon
        return self._next(labels, sorted(received))

    def _voted(self, updates: Sequence[Update], places: Sequence[int]) -> Labels:
        return self.server.vote(
            updates,
            places,
            valid=partial(self.answers.valid, self),
            names=self.answers.names(self),
            references=self._references(),
            digest=prompt_digest(self.data),
            before=self._broadcast.labels,
            seed=_seed(),
        )

    def _references(self) -> Texts:
        said = self.answers.references(self, public_rows(self.data))
        silent = self.data.public_unanswered
        return tuple(None if place in silent else text for place, text in enumerate(said))

    def _next(self, labels: Labels | None, received: Sequence[str]) -> Payload:
        public = self.data.public if self.consensus_rounds != 0 else None
        return self.server.broadcast(len(public or ()), labels, received, self._digest, _seed())

    def server_metrics(self) -> dict[str, float]:
        """Server: the report of the consensus, in rounds that have one, as ``server/…``."""
        return self.server.metrics

    def server_state(self) -> Payload:
        """Server: how far it is, and what clients have answered last."""
        return self.server.progress.payload()

    def load_server_state(self, state: Payload) -> None:
        """Server: take it back."""
        self.server.progress = Progress.read(state)


def _seed() -> int:
    """A seed that follows from that of the round, by which torch is seeded."""
    return int(torch.randint(2**31, ()))
