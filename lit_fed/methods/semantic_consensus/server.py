"""The server's side of a consensus: when clients are asked, and what becomes of their answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from lit_fed.methods.semantic_consensus.answer_memory import AnswerMemory
from lit_fed.methods.semantic_consensus.ballots import Ballots
from lit_fed.methods.semantic_consensus.broadcast import Broadcast
from lit_fed.methods.semantic_consensus.consensus import Consensus
from lit_fed.methods.semantic_consensus.exchange import Answers, Labels, Texts
from lit_fed.methods.semantic_consensus.label_report import label_report
from lit_fed.methods.semantic_consensus.progress import Progress
from lit_fed.methods.semantic_consensus.prompt_choice import PromptChoice
from lit_fed.methods.semantic_consensus.report import of_labels
from lit_fed.methods.semantic_consensus.schedule import ConsensusSchedule
from lit_fed.methods.semantic_consensus.selectors.selector import Selector
from lit_fed.methods.semantic_consensus.vote_weights import VoteWeight
from lit_fed.payload import Payload
from lit_fed.update import Update


class ConsensusServer:
    """Makes the votes, the labels and the next broadcast.

    Args:
        selector: Makes one label of the answers to a prompt.
        vote_weight: How much each answer counts.
        prompt_choice: Which prompts are asked.
        schedule: In which rounds.
        keeps_answers: Whether clients send changes alone, or some prompts are left out, so that what they have
            answered before is kept.

    Attributes:
        progress: What it keeps between rounds.
        ballots: The votes of the last consensus made here; None before.
        consensus: What was made of them; of prompts that were not asked it has the labels of before.
        metrics: What is logged of it.
    """

    def __init__(
        self,
        selector: Selector,
        vote_weight: VoteWeight,
        prompt_choice: PromptChoice,
        schedule: ConsensusSchedule,
        keeps_answers: bool,
    ) -> None:
        self.selector = selector
        self.vote_weight = vote_weight
        self.prompt_choice = prompt_choice
        self.schedule = schedule
        self.keeps_answers = keeps_answers
        self.progress = Progress()
        self.ballots: Ballots | None = None
        self.consensus: Consensus | None = None
        self.metrics: dict[str, float] = {}

    def vote(
        self,
        updates: Sequence[Update],
        places: Sequence[int],
        valid: Callable[[Texts], Texts],
        names: Sequence[str],
        references: Texts,
        digest: str,
        before: Labels | None,
        seed: int,
    ) -> Labels:
        """Labels of what the round's clients answer now; of prompts that they are not asked they stay as they were.

        What these clients have answered last to other prompts takes part in the vote, from which a selector may learn
        how reliable each is. It makes no label: those who are not in the round have no vote in it.

        Where answers are kept, ``bytes_saved`` is how many bytes more the clients would have sent with their answers to
        all prompts; of those that they are not asked it takes the last. It is below 0 where almost all have changed,
        since a bit for each prompt says which.

        Args:
            updates: The clients' updates, [K].
            places: The prompts that they were asked, [M].
            valid: Leaves out answers that cannot be one.
            names: All different answers, where there are a few alone.
            references: What the U public rows say themselves.
            digest: Of the prompts.
            before: The labels of the last consensus.
            seed: Of a selector that draws.
        """
        memory = AnswerMemory.read(len(references), digest, self.progress.answers)
        saved = 0
        for update in updates:
            sent = Answers.read(update.payload, memory.texts(update.client_id, places))
            memory.take(update.client_id, places, Answers(valid(sent.texts), sent.confidence))
            saved += memory.nbytes_of_all(update.client_id) - update.payload.nbytes
        said = {update.client_id: memory.texts(update.client_id) for update in updates}
        sizes = torch.tensor([update.num_samples for update in updates])
        weights = self.vote_weight(sizes, torch.stack([memory.confidence(id) for id in said]))
        self.ballots = Ballots(tuple(said), tuple(said.values()), weights)
        consensus = self.selector(self.ballots, seed)
        labels = Labels.of(consensus.labels, consensus.confidence)
        if before is not None and len(places) < len(references):
            labels = labels.at(places, before)
            own = of_labels(labels.texts, labels.confidence.tolist())
            consensus = Consensus(
                labels.texts, labels.confidence.double(), {**consensus.metrics, **own}
            )
        self.consensus = consensus
        report = label_report(
            labels.texts, None if before is None else before.texts, references, said, names
        )
        metrics = {**consensus.metrics, **report}
        if self.keeps_answers:
            metrics["bytes_saved"] = float(saved)
        self.metrics = {
            f"server/{name}": value for name, value in metrics.items() if value == value
        }
        # what has been answered before clients sent all of it is none of their last answers
        kept = memory.payload() if self.keeps_answers else Payload()
        self.progress = replace(self.progress, answers=kept)
        return labels

    def advance(
        self, trained: Sequence[Update], answered: int | None, epsilon: float | None
    ) -> None:
        """One round further; see :meth:`Progress.after`."""
        self.progress = self.progress.after(trained, self.schedule.needs_losses, answered, epsilon)

    def broadcast(
        self,
        count: int,
        labels: Labels | None,
        received: Sequence[str],
        digest: str | None,
        seed: int,
    ) -> Payload:
        """What clients download next.

        Args:
            count: U.
            labels: The labels.
            received: Who has them.
            digest: Of the prompts. None: there are none.
            seed: Of the choice of prompts.
        """
        progress, asked = self.progress, None
        if self.schedule.is_due(progress.rounds, progress.first, progress.made, progress.losses):
            asked = self.prompt_choice(count, None if labels is None else labels.confidence, seed)
        return Broadcast.of(labels, asked, received, digest).payload()
