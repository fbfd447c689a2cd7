"""What crosses the wire is read as it was written."""

import torch

from lit_fed.methods.semantic_consensus.exchange import Answers, Labels


def test_labels_keep_their_own_confidence_where_others_abstain() -> None:
    labels = Labels.of((None, "a", None, "b"), torch.tensor([0.0, 0.25, 0.0, 1.0]))
    sent = labels.payload()
    assert sent.tensors["confidence"].tolist() == [0.25, 1.0]  # nothing of those without a label
    read = Labels.read(sent)
    assert read is not None
    assert read.texts == labels.texts
    assert torch.equal(read.confidence, labels.confidence)


def test_answers_that_have_changed_are_put_in_their_places() -> None:
    answers = Answers(("a", None, "c", "d"), torch.tensor([1.0, 0.0, 0.5, 0.25]))
    before = ("a", "b", None, "x")
    sent = answers.payload([False, True, True, True], "digest")
    assert sent.strings["texts"] == ("", "c", "d")
    read = Answers.read(sent, before)
    assert read.texts == answers.texts
    assert answers.confidence is not None
    assert read.confidence is not None
    assert torch.equal(read.confidence.float(), answers.confidence)
