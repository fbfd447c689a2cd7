"""Ballots of tests, and an encoder whose vectors they choose."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lit_fed.methods.semantic_consensus import AnswerEncoder, Ballots


def ballots(
    answers: Sequence[Sequence[str | None]], weights: Sequence[Sequence[float]] | None = None
) -> Ballots:
    shape = len(answers), len(answers[0])
    given = torch.ones(shape) if weights is None else torch.tensor(weights)
    clients = tuple(f"client{k}" for k in range(len(answers)))
    return Ballots(clients, tuple(map(tuple, answers)), given.double())


class GivenVectors(AnswerEncoder):
    """Each text's vector as a test gives it."""

    threshold = 0.3

    def __init__(self, vectors: Mapping[str, Sequence[float]]) -> None:
        self.vectors = vectors
        self.encoded: list[list[str]] = []

    def _embed(self, texts: list[str]) -> Tensor:
        self.encoded.append(texts)
        return torch.tensor([list(self.vectors[text]) for text in texts]).reshape(len(texts), -1)


def _named(number: int) -> str:
    """A number in letters: answers with different digits are never taken to say the same."""
    return "".join("abcdefghij"[int(digit)] for digit in str(number))


def random_answers(
    clients: int, prompts: int, seed: int, missing: float = 0.1
) -> tuple[GivenVectors, Ballots]:
    """Answers about four meanings in 16 dimensions, the texts all different, and random weights."""
    generator = torch.Generator().manual_seed(seed)
    meanings = torch.randn(prompts, 4, 16, generator=generator)
    vectors: dict[str, list[float]] = {}
    answers: list[list[str | None]] = []
    for k in range(clients):
        row: list[str | None] = []
        for u in range(prompts):
            meaning = int(torch.multinomial(torch.tensor([6.0, 2, 1, 1]), 1, generator=generator))
            text = f"answer {_named(meaning)} of client {_named(k)} to prompt {_named(u)}"
            vectors[text] = (
                meanings[u, meaning] + 0.5 * torch.randn(16, generator=generator)
            ).tolist()
            row.append(None if torch.rand((), generator=generator) < missing else text)
        answers.append(row)
    weights = torch.rand(clients, prompts, generator=generator) + 0.1
    return GivenVectors(vectors), ballots(answers, weights.tolist())
