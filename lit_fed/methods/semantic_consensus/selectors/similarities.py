"""Similarities of the answers to each prompt, a block of prompts at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from torch.nn.functional import normalize

from lit_fed.methods.semantic_consensus.ballots import Ballots, Floats, PromptBallots
from lit_fed.methods.semantic_consensus.encoders.answer_encoder import AnswerEncoder
from lit_fed.methods.semantic_consensus.numbers import differ, numbers_in
from lit_fed.methods.semantic_consensus.same_answer import normalised
from lit_fed.methods.semantic_consensus.selectors.exact_votes import exact_votes

# Answers whose vectors are in memory at once: 16 MiB of 1,024 dimensions.
_BLOCK: Final = 4096
# Vectors are of single precision.
_ROUNDING: Final = 1e-6


@dataclass(frozen=True)
class SimilarAnswers:
    """The votes on one prompt, and how near their answers are to each other.

    Attributes:
        prompt: The votes, N of them.
        cosines: [N, N], cosine similarities in [-1, 1], 1 on the diagonal.
        apart: [N, N], which answers give different numbers. None: no two do.
    """

    prompt: PromptBallots
    cosines: Floats
    apart: npt.NDArray[np.bool_] | None = None


def similar_answers(
    ballots: Ballots, encoder: AnswerEncoder, block: int = _BLOCK
) -> Iterator[SimilarAnswers]:
    """The similarities of the answers to each prompt in turn.

    Prompts are encoded in blocks, and a block is forgotten before the next one: memory grows with the answers, and
    with the square of the number of clients, of one prompt alone.

    What an encoder cannot tell is decided by the texts. A text of which it has made no vector is like those that an
    exact vote takes for the same, at cosine 1, and like no other. Of answers with different numbers, such as "It is
    12." and "It is 13.", an encoder sees the words that they have in common: their cosine is 0 at most.

    Args:
        ballots: The votes.
        encoder: What makes vectors of answers.
        block: How many answers are encoded at once, those of a prompt always together.
    """
    for prompts in _blocks(ballots.prompts(), block):
        vectors = encoder.encode([answer for prompt in prompts for answer in prompt.answers])
        start = 0
        for prompt in prompts:
            # of length 1 in single precision: a distance of √(2 - 2 cos) would make much of the rounding
            own = normalize(vectors[start : start + len(prompt.answers)].double(), dim=-1)
            start += len(prompt.answers)
            products = own @ own.T
            empty = (products.diagonal() == 0).numpy()
            cosines: Floats = products.clamp(-1, 1).fill_diagonal_(1).numpy()
            if empty.any():
                cosines[(empty[:, None] | empty) & _alike(prompt.answers)] = 1
            if (apart := _apart(prompt.answers)) is not None:
                cosines[apart] = np.minimum(cosines[apart], 0)
            yield SimilarAnswers(prompt, cosines, apart)


def best_answers(scores: Floats, answers: Sequence[str], weights: Floats) -> tuple[str, ...]:
    """The answers of the highest score; of those whose score is as high, the ones that have most of the votes.

    Vectors may be the same of answers that are not, as character n-grams of "A paid B" and "B paid A" are. Votes are
    then counted as an exact vote does.

    Args:
        scores: [N], at least one.
        answers: [N].
        weights: [N], of the votes, above 0.

    Returns:
        The answers, in the order in which they come; several where these have as high a score and as many votes.

    Example:
        >>> import numpy as np
        >>> alike, even = np.array([1.0, 1.0, 1.0]), np.ones(3)
        >>> best_answers(alike, ["A paid B", "B paid A", "B paid A"], even)
        ('B paid A',)
        >>> best_answers(alike[:2], ["A paid B", "B paid A"], even[:2])
        ('A paid B', 'B paid A')
    """
    rounding = _ROUNDING * weights.sum()
    best = (scores >= scores.max() - rounding).nonzero()[0]
    said = tuple(answers[place] for place in best)
    if len({*said}) == 1:  # as almost always
        return said[:1]
    votes = exact_votes(PromptBallots(best, said, weights[best]))
    heaviest = np.isclose(votes.weights, votes.weights.max()).nonzero()[0]
    return tuple(votes.answers[place] for place in heaviest)


def _alike(answers: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which answers an exact vote takes for the same, [N, N]."""
    written = np.array([normalised(answer) for answer in answers], dtype=object)
    alike: npt.NDArray[np.bool_] = written[:, None] == written
    return alike


def _apart(answers: Sequence[str]) -> npt.NDArray[np.bool_] | None:
    """Which answers give different numbers, [N, N]; None where no two do."""
    numbers = {answer: numbers_in(answer) for answer in {*answers}}
    different = {one: place for place, one in enumerate({*numbers.values()})}
    table = np.array([[differ(one, other) for other in different] for one in different])
    if not table.any():
        return None
    places = [different[numbers[answer]] for answer in answers]
    found: npt.NDArray[np.bool_] = table[np.ix_(places, places)]
    return found


def _blocks(prompts: Iterable[PromptBallots], size: int) -> Iterator[list[PromptBallots]]:
    block: list[PromptBallots] = []
    answers = 0
    for prompt in prompts:
        if block and answers + len(prompt.answers) > size:
            yield block
            block, answers = [], 0
        block.append(prompt)
        answers += len(prompt.answers)
    if block:
        yield block
