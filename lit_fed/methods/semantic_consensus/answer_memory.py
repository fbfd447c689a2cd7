"""Answer memory: what each client has answered last, as the server keeps it between rounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from lit_fed.methods.semantic_consensus.exchange import Answers, Texts
from lit_fed.methods.semantic_consensus.prompts import DIGEST, is_of_others
from lit_fed.payload import Payload

_CLIENTS: Final = "clients"
_TEXTS: Final = "texts"
_CONFIDENCE: Final = "confidence"


class AnswerMemory:
    """Each client's last answer to each of U prompts, and how sure it was.

    Args:
        count: U.
        digest: Of the prompts.

    Example:
        >>> memory = AnswerMemory(2, "1f")
        >>> memory.take("a", [1], Answers(("no",), None))
        >>> memory.texts("a"), AnswerMemory.read(2, "1f", memory.payload()).texts("a")
        ((None, 'no'), (None, 'no'))
        >>> AnswerMemory.read(2, "2e", memory.payload()).texts("a")
        (None, None)
    """

    def __init__(self, count: int, digest: str) -> None:
        self.count = count
        self.digest = digest
        self._texts: dict[str, list[str | None]] = {}
        self._confidence: dict[str, Tensor] = {}

    def texts(self, client: str, places: Sequence[int] | None = None) -> Texts:
        """What a client has answered last.

        Args:
            client: Its id.
            places: To these prompts. None: to all, [U].
        """
        held = self._texts.get(client, [None] * self.count)
        return tuple(held if places is None else [held[place] for place in places])

    def confidence(self, client: str) -> Tensor:
        """How sure it was, [U]; 1 where clients do not say it, and where it has not answered."""
        return self._confidence.get(client, torch.ones(self.count))

    def nbytes_of_all(self, client: str) -> int:
        """Bytes of an upload with what a client has answered last to all prompts.

        Args:
            client: Its id.
        """
        sure = self._confidence.get(client)
        return Answers(self.texts(client), sure).payload(None, self.digest).nbytes

    def take(self, client: str, places: Sequence[int], answers: Answers) -> None:
        """Keep new answers.

        Args:
            client: Who gives them.
            places: The prompts that they are about, [M].
            answers: The answers.
        """
        held = self._texts.setdefault(client, [None] * self.count)
        for place, text in zip(places, answers.texts, strict=True):
            held[place] = text
        if answers.confidence is not None:
            sure = self._confidence.setdefault(client, torch.ones(self.count))
            sure[list(places)] = answers.confidence.float()

    def payload(self) -> Payload:
        """All of it; read again by :meth:`read`."""
        texts = [text or "" for held in self._texts.values() for text in held]
        sure = [self.confidence(c).half() for c in self._texts] if self._confidence else []
        tensors = {_CONFIDENCE: torch.stack(sure)} if sure else {}
        strings = {_CLIENTS: list(self._texts), _TEXTS: texts, DIGEST: [self.digest]}
        return Payload(tensors, strings)

    @classmethod
    def read(cls, count: int, digest: str, payload: Payload | None) -> AnswerMemory:
        """What :meth:`payload` gave; of nothing, and of answers to other prompts, an empty one."""
        memory = cls(count, digest)
        if not payload or is_of_others(payload, digest):
            return memory
        texts = payload.strings[_TEXTS]
        for number, client in enumerate(payload.strings[_CLIENTS]):
            own = texts[number * count : (number + 1) * count]
            memory._texts[client] = [text or None for text in own]
            if _CONFIDENCE in payload.tensors:
                memory._confidence[client] = payload.tensors[_CONFIDENCE][number].float()
        return memory
