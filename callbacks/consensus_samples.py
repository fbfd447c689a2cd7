"""A few public prompts with what each client answers and what the consensus makes of it, in TensorBoard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torch import Tensor

from lit_fed.callbacks.harmless_text import table_cell
from lit_fed.callbacks.published_text import PublishedText
from lit_fed.limits import require_at_least
from lit_fed.methods.semantic_consensus.prompts import public_rows

if TYPE_CHECKING:
    from lit_fed.federation.federation_view import FederationView
    from lit_fed.module import FederatedModule
    from lit_fed.update import Update


class Votes(Protocol):
    """What clients answer to U prompts.

    Attributes:
        clients: The K clients' ids.
        answers: [K][U], None where a client has no answer.
    """

    clients: tuple[str, ...]
    answers: tuple[tuple[str | None, ...], ...]


class Verdict(Protocol):
    """What is made of them.

    Attributes:
        labels: [U], None where the consensus abstains.
        confidence: [U], in [0, 1].
    """

    labels: tuple[str | None, ...]
    confidence: Tensor


@runtime_checkable
class Voting(Protocol):
    """The server's side of a consensus of answers, as :class:`~lit_fed.SemanticConsensus` has it.

    Attributes:
        ballots: The votes of the last consensus; None before.
        consensus: What was made of them.
    """

    ballots: Votes | None
    consensus: Verdict | None


class ConsensusSamples(PublishedText):
    """Shows public prompts, the clients' answers and the consensus in TensorBoard's text tab, as ``consensus``.

    A table after each round in which clients have answered: a row a prompt with the label and its confidence, or that
    the consensus abstains, and what each client answers. Answers come from others: they are cut, and characters that
    are not seen, Markdown and HTML are escaped, so that they are shown and do nothing.

    Args:
        prompts: How many prompts, the first of the public set.
        clients: Answers of how many clients, the first.
        max_characters: Characters of a prompt or an answer that are shown.

    Raises:
        TypeError: When a fit starts, if the method has no consensus of answers.
        ValueError: If a number is below 1.
    """

    tag = "consensus"

    def __init__(self, prompts: int = 8, clients: int = 10, max_characters: int = 300) -> None:
        super().__init__()
        name = type(self).__name__
        self.prompts = require_at_least(f"{name}.prompts", prompts, 1)
        self.clients = require_at_least(f"{name}.clients", clients, 1)
        self.max_characters = require_at_least(f"{name}.max_characters", max_characters, 1)
        self._seen: Verdict | None = None

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        """Take the last table back; say now where there is nothing to show."""
        super().on_fit_start(trainer, module)
        self._seen = self._server(module).consensus

    def on_aggregate_end(
        self, trainer: FederationView, module: FederatedModule, updates: Sequence[Update]
    ) -> None:
        """Take the round's answers, if there are any."""
        server = self._server(module)
        votes, verdict = server.ballots, server.consensus
        if votes is None or verdict is None or verdict is self._seen:
            return
        self._seen, public = verdict, public_rows(trainer.datamodule)
        shown = public.select(range(min(self.prompts, len(public))))
        asked = trainer.datamodule.encoding.inputs(shown)
        self.take(trainer.current_round + 1, self._markdown(asked, votes, verdict))

    def _server(self, module: Any) -> Voting:
        server = getattr(module, "server", None)
        if not isinstance(server, Voting):
            raise TypeError(
                f"`{type(self).__name__}` expects a method whose clients answer public prompts, such as "
                f"SemanticConsensus, but got {type(module).__name__}"
            )
        return server

    def _markdown(self, prompts: Sequence[str], votes: Votes, verdict: Verdict) -> str:
        clients = votes.clients[: self.clients]
        lines = [["prompt", "consensus", "confidence", *map(self._cell, clients)]]
        lines += [["---"] * len(lines[0])]
        for place, prompt in enumerate(prompts):
            label = verdict.labels[place]
            sure = "" if label is None else f"{float(verdict.confidence[place]):.2f}"
            said = [votes.answers[number][place] for number in range(len(clients))]
            lines.append(
                [
                    self._cell(prompt),
                    "*abstains*" if label is None else self._cell(label),
                    sure,
                    *("*none*" if one is None else self._cell(one) for one in said),
                ]
            )
        text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        more, others = len(verdict.labels) - len(prompts), len(votes.clients) - len(clients)
        left = [f"{more} more prompts"] * (more > 0) + [f"{others} more clients"] * (others > 0)
        return f"{text}\n\nand {' and '.join(left)}" if left else text

    def _cell(self, text: str) -> str:
        return table_cell(text, self.max_characters)
