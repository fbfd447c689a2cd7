"""The client's side of a consensus: the labels that it learns from, and what it answers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from lit_fed.backbones import BlackBox
from lit_fed.data.columns import select_rows
from lit_fed.methods.semantic_consensus.answers.public_answers import PublicAnswers
from lit_fed.methods.semantic_consensus.broadcast import Broadcast
from lit_fed.methods.semantic_consensus.exchange import Answers, Labels, Texts
from lit_fed.methods.semantic_consensus.prompts import (
    DIGEST,
    asked_digest,
    is_of_others,
    prompt_digest,
    public_rows,
)
from lit_fed.payload import Payload

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.module import FederatedModule

_LABELS: Final = "labels"
_SENT: Final = "sent"


class ConsensusClient:
    """What a client has of the consensus, and keeps from round to round.

    Args:
        answers: How it answers and learns.
        with_confidence: Whether it sends how sure it is.
        only_changed: Whether it sends what has changed alone.
        batch_size: Rows of a public batch. None: as many as in one of its own.

    Attributes:
        labels: The labels that it learns from; None before the first consensus.
    """

    def __init__(
        self,
        answers: PublicAnswers,
        with_confidence: bool,
        only_changed: bool,
        batch_size: int | None,
    ) -> None:
        self.answers = answers
        self.with_confidence = with_confidence
        self.only_changed = only_changed
        self.batch_size = batch_size
        self.forget()

    def forget(self) -> None:
        """Be a client that has nothing yet."""
        self.labels: Labels | None = None
        self._broadcast = Broadcast()
        self._sent: Texts | None = None

    def receive(self, broadcast: Broadcast) -> None:
        """Take a broadcast; without labels the ones that are there stay."""
        self._broadcast = broadcast
        if broadcast.labels is not None:
            self.labels = broadcast.labels

    def asked(self, module: FederatedModule) -> list[int] | None:
        """The prompts to be answered at the end of the round. None: no answer is asked for."""
        if self._broadcast.bits is None:
            return None
        return self._broadcast.asked(len(public_rows(module.data)))

    def asked_digest(self, module: FederatedModule) -> str:
        """What its upload says of what it answers: of the prompts that are asked for, and of the round.

        Args:
            module: The method, which acts as the client.
        """
        bits, client = self._broadcast.bits, module.client
        none = torch.zeros(0, dtype=torch.uint8)
        in_round = 0 if client is None else client.round
        return asked_digest(prompt_digest(module.data), none if bits is None else bits, in_round)

    def batches(self, module: FederatedModule) -> Iterator[dict[str, Tensor]]:
        """Batches of labelled public rows without end, each epoch in an order of its own; none without labels.

        Each has a field ``confidence`` [B]. Orders follow from the seed that torch was given last, which stands for
        the round and the client; nothing is drawn from the global generators.

        Args:
            module: The method, which acts as the client.

        Raises:
            ValueError: If the labels are about another number of prompts than the client has.
        """
        labels = self.labels
        if labels is None:
            return
        public, places = public_rows(module.data), labels.places
        if len(public) != len(labels.texts):
            raise ValueError(
                f"labels are expected for the {len(public)} prompts of `data.public`, but came for {len(labels.texts)}"
            )
        texts = [str(labels.texts[place]) for place in places]
        rows = self.answers.learnable(module, select_rows(public, places), texts)
        if rows is None:
            return
        draw = random.Random(f"public {torch.initial_seed()}")
        while True:
            for batch in module.batches(rows, draw.getrandbits(31), self.batch_size):
                confidence = labels.confidence[batch["index"].cpu()].to(module.device)
                labelled = self.answers.with_labels(module, batch, labels.texts)
                yield {**labelled, "confidence": confidence}

    def upload(self, module: FederatedModule) -> Payload:
        """The answers that are asked for, or nothing.

        Args:
            module: The method, which acts as the client.
        """
        places = self.asked(module)
        if places is None:
            return Payload()
        answers = self._answers(module, places)
        if not isinstance(module.backbone, BlackBox):
            answers = self.answers.sent(module, answers)
        count = len(public_rows(module.data))
        held = list(self._sent or (None,) * count)
        changed = None
        if self.only_changed:  # all of it, as long as it has sent nothing
            changed = [
                self._sent is None or held[p] != text
                for p, text in zip(places, answers.texts, strict=True)
            ]
        for place, text in zip(places, answers.texts, strict=True):
            held[place] = text
        self._sent = tuple(held)
        return answers.payload(changed, self.asked_digest(module))

    def learn_from_own(self, module: FederatedModule) -> None:
        """Take its own answers to the prompts that are asked for as labels.

        Args:
            module: The method, which acts as the client.
        """
        if (places := self.asked(module)) is None:
            return
        answers = self._answers(module, places, sure=True)
        count = len(public_rows(module.data))
        texts: list[str | None] = [None] * count
        confidence = torch.zeros(count)
        for number, place in enumerate(places):
            texts[place] = answers.texts[number]
            if answers.confidence is not None and texts[place] is not None:
                confidence[place] = answers.confidence[number]
        labels = Labels.of(tuple(texts), confidence)
        before = self.labels
        if before is not None and len(before.texts) == count:
            # those that are not asked for keep theirs
            labels = labels.at(places, before)
        self.labels = labels

    def state(self, digest: str | None) -> dict[str, Payload]:
        """What stays with the client, as parts of its private state.

        Args:
            digest: Of the prompts that it is about. None: it is not known, as where there is no data.
        """
        parts, about = {}, {} if digest is None else {DIGEST: [digest]}
        if self.labels is not None:
            held = self.labels.payload()
            parts[_LABELS] = Payload(held.tensors, {**held.strings, **about})
        if self._sent is not None and self.only_changed:
            parts[_SENT] = Payload(strings={_SENT: [text or "" for text in self._sent], **about})
        return parts

    def load_state(self, state: Payload, digest: str | None) -> None:
        """Take back what :meth:`state` gave, but for what is about other prompts.

        Args:
            state: The private state.
            digest: Of the prompts that there are. None: it is not known.
        """
        held = {n: part for n, part in state.parts.items() if not is_of_others(part, digest)}
        self.labels = Labels.read(held.get(_LABELS))
        sent = held.get(_SENT)
        self._sent = None if sent is None else tuple(text or None for text in sent.strings[_SENT])

    def _answers(self, module: FederatedModule, places: list[int], sure: bool = False) -> Answers:
        public = public_rows(module.data)
        rows = public if len(places) == len(public) else select_rows(public, places)
        with module.timers("answers"):
            if isinstance(module.backbone, BlackBox):
                return self._asked(module, rows)
            return self.answers.answer(module, rows, sure or self.with_confidence)

    def _asked(self, module: FederatedModule, rows: Dataset) -> Answers:
        """What a black box answers; how many votes it loses, and why, is among the client's metrics."""
        answers = self.answers.asked(module, rows)
        module.log("answers/missing", float(answers.texts.count(None)))
        for name, count in self.answers.failed(module, answers.texts).items():
            module.log(f"answers/{name}", count)
        return answers
