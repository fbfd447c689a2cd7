import pytest
import torch
from torch import Tensor

from lit_fed.methods.semantic_consensus import Ballots

ONES = torch.ones(2, 2, dtype=torch.float64)


def test_no_vote_without_an_answer_or_a_weight() -> None:
    answers = (("yes", None, "", "yes"), (" \n", "no", "no", "no"))
    weights = torch.tensor([[2.0, 2.0, 2.0, 0.0], [3.0, 3.0, 0.0, 3.0]])
    ballots = Ballots(("a", "b"), answers, weights)
    assert ballots.votes.tolist() == [[2, 0, 0, 0], [0, 3, 0, 3]]
    assert ballots.votes.dtype == torch.float64
    prompts = list(ballots.prompts())
    assert [p.answers for p in prompts] == [("yes",), ("no",), (), ("no",)]
    assert [p.clients.tolist() for p in prompts] == [[0], [1], [], [1]]
    assert [p.weights.tolist() for p in prompts] == [[2], [3], [], [3]]


@pytest.mark.parametrize(
    ("clients", "answers", "weights", "line"),
    [
        (
            (),
            (),
            torch.ones(0, 0),
            "`clients` is expected to be at least one client's id, but got none",
        ),
        (("a", "a"), (("x", "y"),) * 2, ONES, r"each id once, but \['a'\] come twice"),
        (("a", "b"), (("x", "y"),), ONES, "those of 2 clients, but got 1"),
        (("a", "b"), (("x", "y"), ("z",)), ONES, "but client 'b' has 1 and client 'a' 2"),
        (("a", "b"), (("x", "y"),) * 2, ONES[:1], r"\[2, 2\], but got \[1, 2\]"),
        (("a", "b"), (("x", "y"),) * 2, -ONES, "client 'a' has -1.0 for prompt 0"),
        (
            ("a", "b"),
            (("x", "y"),) * 2,
            ONES.where(ONES.triu() > 0, torch.nan),
            "client 'b' has nan for prompt 0",
        ),
        (("a", "b"), (("x", "y"),) * 2, ONES / 0, "client 'a' has inf for prompt 0"),
    ],
)
def test_no_table_of_votes(
    clients: tuple[str, ...], answers: tuple[tuple[str, ...], ...], weights: Tensor, line: str
) -> None:
    with pytest.raises(ValueError, match=line):
        Ballots(clients, answers, weights)
