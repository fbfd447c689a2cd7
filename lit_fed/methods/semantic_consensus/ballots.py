"""Ballots: what the clients say on the public set in one round."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PromptBallots:
    """The votes on one prompt: of those clients alone that answered and have a weight.

    Attributes:
        clients: Which clients have voted, by their index, ascending, [N].
        answers: Their answers, [N].
        weights: The weights of their votes, above 0, [N].
    """

    clients: Integers
    answers: tuple[str, ...]
    weights: Floats


@dataclass(frozen=True)
class Ballots:
    """The clients' answers to each prompt of the public set, and the weight of each as a vote.

    There is **no vote** where a client has no answer (None), where the answer is empty or of blanks alone, and
    where its weight is 0.

    Args:
        clients: The K clients' ids, each once.
        answers: [K][U], bounded texts (see ``bounded``), or None where a client has no answer.
        weights: [K, U], finite and at least 0, in float64.

    Raises:
        ValueError: If there is no client, an id comes twice, a client answers another number of prompts, or the
            weights are of another shape, negative, NaN or infinite.

    Example:
        >>> ballots = Ballots(("a", "b"), (("yes", " "), ("no", "no")), torch.ones(2, 2, dtype=torch.float64))
        >>> [list(prompt.answers) for prompt in ballots.prompts()]
        [['yes', 'no'], ['no']]
    """

    clients: tuple[str, ...]
    answers: tuple[tuple[str | None, ...], ...]
    weights: Tensor

    def __post_init__(self) -> None:
        """Refuse what is no table of votes."""
        _check_clients(self.clients, self.answers)
        _check_weights(self.clients, self.num_prompts, self.weights)

    @property
    def num_prompts(self) -> int:
        """U, the prompts of the public set."""
        return len(self.answers[0])

    @cached_property
    def votes(self) -> Tensor:
        """The weights, 0 where there is no vote, [K, U] in float64."""
        said = [[text is not None and bool(text.strip()) for text in row] for row in self.answers]
        shape = self.weights.shape
        return self.weights.double() * torch.tensor(said, dtype=torch.bool).reshape(shape)

    def prompts(self) -> Iterator[PromptBallots]:
        """The votes on each prompt in turn."""
        votes = self.votes.numpy()
        for place in range(self.num_prompts):
            voting = votes[:, place].nonzero()[0]
            said = tuple(str(self.answers[client][place]) for client in voting)
            yield PromptBallots(voting, said, votes[voting, place])


def _check_clients(clients: Sequence[str], answers: Sequence[Sequence[str | None]]) -> None:
    if not clients:
        raise ValueError("`clients` is expected to be at least one client's id, but got none")
    if twice := sorted(client for client, times in Counter(clients).items() if times > 1):
        raise ValueError(f"`clients` is expected to have each id once, but {twice} come twice")
    if len(answers) != len(clients):
        raise ValueError(
            f"`answers` is expected to be those of {len(clients)} clients, but got {len(answers)}"
        )
    for client, row in zip(clients, answers, strict=True):
        if len(row) != len(answers[0]):
            raise ValueError(
                f"`answers` is expected to be one a prompt from each client, but client {client!r} has {len(row)} "
                f"and client {clients[0]!r} {len(answers[0])}"
            )


def _check_weights(clients: Sequence[str], prompts: int, weights: Tensor) -> None:
    expected = (len(clients), prompts)
    if tuple(weights.shape) != expected:
        raise ValueError(
            f"`weights` is expected to be of shape [clients, prompts], {list(expected)}, but got {list(weights.shape)}"
        )
    if len(wrong := (~(weights.isfinite() & (weights >= 0))).nonzero()):
        client, prompt = wrong[0].tolist()
        raise ValueError(
            f"`weights` is expected to be finite and at least 0, but client {clients[client]!r} has "
            f"{weights[client, prompt].item()} for prompt {prompt}"
        )
