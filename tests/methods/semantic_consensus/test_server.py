"""The server's votes beside rounds: prompts that are not asked, and what clients have answered before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from lit_fed.methods.semantic_consensus import (
    EqualWeight,
    EveryPrompt,
    MajorityVote,
    MostDisagreed,
)
from lit_fed.methods.semantic_consensus.exchange import Answers, Labels
from lit_fed.methods.semantic_consensus.schedule import ConsensusSchedule
from lit_fed.methods.semantic_consensus.server import ConsensusServer
from lit_fed.update import Update


def voted(
    server: ConsensusServer,
    answers: Mapping[str, Sequence[str | None]],
    places: Sequence[int],
    before: Labels | None,
) -> Labels:
    """A consensus of what clients answer to some of four prompts."""
    updates = [
        Update(id, Answers(tuple(texts), None).payload(None, "digest"), 1)
        for id, texts in answers.items()
    ]
    return server.vote(
        updates,
        places,
        valid=lambda texts: texts,
        names=("yes", "no"),
        references=(None,) * 4,
        digest="1f",
        before=before,
        seed=0,
    )


def asking_few() -> ConsensusServer:
    schedule = ConsensusSchedule(1, 1, None)
    return ConsensusServer(MajorityVote(), EqualWeight(), MostDisagreed(1), schedule, True)


def test_prompts_that_are_not_asked_keep_their_labels_whoever_is_in_the_round() -> None:
    server = asking_few()
    all_say = ["yes", "no", "yes", None]
    first = voted(server, {"a": all_say, "b": all_say, "c": [*all_say[:3], "no"]}, range(4), None)
    assert first.texts == ("yes", "no", "yes", "no")
    # clients that are new have no answers to the others
    new = voted(server, {"d": ["no"], "e": ["no"]}, [2], first)
    assert new.texts == ("yes", "no", "no", "no")
    assert torch.equal(new.confidence, torch.ones(4))
    assert server.metrics["server/abstain_rate"] == 0
    assert server.metrics["server/confidence"] == 1
    assert server.metrics["server/effective_labels"] < 2
    assert server.metrics["server/churn"] == 0.25
    # and one that has answered them before does not decide alone
    alone = voted(server, {"a": ["yes"], "d": ["no"]}, [3], new)
    assert alone.texts == ("yes", "no", "no", None)
    assert alone.confidence.tolist() == [1, 1, 1, 0]


def test_a_round_that_keeps_no_answers_leaves_none_of_before() -> None:
    """Later rounds would take them for the last ones, to prompts that they do not ask again."""
    keeping = asking_few()
    voted(keeping, {"a": ["yes"] * 4, "b": ["yes"] * 4}, range(4), None)
    assert keeping.progress.answers
    schedule = ConsensusSchedule(1, 1, None)
    plain = ConsensusServer(MajorityVote(), EqualWeight(), EveryPrompt(), schedule, False)
    plain.progress = keeping.progress
    voted(plain, {"a": ["no"] * 4, "b": ["no"] * 4}, range(4), None)
    assert not plain.progress.answers
