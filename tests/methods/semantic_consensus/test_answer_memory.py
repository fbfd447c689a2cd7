"""What clients have answered last, as it is kept between rounds."""

import torch

from lit_fed.methods.semantic_consensus.answer_memory import AnswerMemory
from lit_fed.methods.semantic_consensus.exchange import Answers


def test_each_client_keeps_its_own_confidence_where_some_have_none() -> None:
    memory = AnswerMemory(2, "1f")
    memory.take("plain", [0, 1], Answers(("yes", "no"), None))
    memory.take("sure", [0, 1], Answers(("yes", None), torch.tensor([0.25, 0.5])))
    memory.take("late", [1], Answers(("no",), None))
    read = AnswerMemory.read(2, "1f", memory.payload())
    for client in ("plain", "sure", "late", "unknown"):
        assert read.texts(client) == memory.texts(client)
        assert torch.equal(read.confidence(client), memory.confidence(client))
    assert read.confidence("sure").tolist() == [0.25, 0.5]
    assert read.confidence("plain").tolist() == [1, 1]
