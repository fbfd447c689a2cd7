"""How far the consensus has come: what answers have spent, and which losses end the warm-up."""

import math

import pytest
import torch

from lit_fed import Payload
from lit_fed.methods.semantic_consensus.progress import LOSS, Progress
from lit_fed.update import Update


def test_answers_count_at_the_epsilon_at_which_they_were_given() -> None:
    progress = Progress().after([], False, 20, epsilon=0.5).after([], False, 10, epsilon=2.0)
    progress = progress.after([], False, None, epsilon=4.0)
    assert Progress.read(progress.payload()) == progress
    assert progress.epsilon == 20 * 0.5 + 10 * 2.0
    assert (progress.made, progress.rounds) == (2, 3)
    open_ = progress.after([], False, 1)
    assert open_.epsilon == Progress.read(open_.payload()).epsilon == math.inf
    assert Progress().epsilon == 0


def test_answers_of_an_unknown_epsilon_count_as_without_noise() -> None:
    held = Payload({"counts": torch.tensor([4, 2, 40, 1]), "losses": torch.zeros(0)})
    read = Progress.read(held)
    assert (read.rounds, read.made, read.first, read.epsilon) == (4, 2, 1, math.inf)
    none = Payload({"counts": torch.tensor([4, 0, 0, -1]), "losses": torch.zeros(0)})
    assert Progress.read(none) == Progress(rounds=4)


def test_nothing_is_the_beginning() -> None:
    assert Progress.read(Payload()) == Progress()


def test_a_round_in_which_nobody_trains_has_no_loss() -> None:
    told = Update("a", Payload(), 1, metrics={LOSS: 0.5})
    progress = Progress().after([told], True, None).after([], True, None)
    assert (progress.rounds, progress.losses) == (2, (0.5,))
    with pytest.raises(ValueError, match=r"`model\.warmup_rounds` is expected to be a number"):
        progress.after([Update("a", Payload(), 1)], True, None)
