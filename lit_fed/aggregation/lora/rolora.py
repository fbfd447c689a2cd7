"""RoLoRA: the rounds train B and A in turn, so that the mean of what is trained is the mean of the changes."""

from __future__ import annotations

from collections.abc import Sequence

from lit_fed.aggregation.lora.rule import LoRARule
from lit_fed.client import Client
from lit_fed.payload import Payload
from lit_fed.update import Update


class RoLoRA(LoRARule):
    r"""Robust federated LoRA by alternating minimisation: B in the first round, A in the second, and so on.

    .. math::
        \sum_k w_k s B_k A = s \Big(\sum_k w_k B_k\Big) A \quad\text{or}\quad
        \sum_k w_k s B A_k = s B \Big(\sum_k w_k A_k\Big)

    Chen et al., "Robust Federated Finetuning of LLMs via Alternating Optimization of LoRA", 2024, Algorithm 1,
    https://arxiv.org/abs/2409.02346. Since one factor is frozen, and the same everywhere, what the server makes of LoRA
    is exact. B is first: it is built as 0, and with it the gradient of A. It is the federation's round that counts,
    whichever clients take part and whatever the task, so that all clients of a round train the same factor. What else
    is trained, such as a head, trains in every round. Bytes: up, the factor of the round; down, both, since a client
    may have missed rounds.

    Args:
        weights: What a client's weight w_k is proportional to, as in ``WeightedAverage``.
        score: The client metric used by ``validation``, larger is better.

    Example:
        >>> import peft
        >>> from lit_fed.backbones import SequenceClassifier
        >>> rule = RoLoRA()
        >>> rule.setup(SequenceClassifier(peft=peft.LoraConfig(r=4, target_modules=["query"])))
        >>> query = "base_model.model.bert.encoder.layer.0.attention.self.query"
        >>> names = [f"{query}.lora_A.weight", f"{query}.lora_B.weight"]
        >>> [rule.trains(names, Client("a", 0, 9, round=r, rounds=0, steps=0))[0][-13:] for r in (0, 1)]
        ['lora_B.weight', 'lora_A.weight']
    """

    def __call__(self, updates: Sequence[Update], previous: Payload) -> Payload:
        """Average what the round has trained; the other factor stays as it was.

        Raises:
            ValueError: As :class:`~lit_fed.aggregation.WeightedAverage`.
        """
        mean = super().__call__(updates, previous)
        return Payload({**previous.tensors, **mean.tensors}, mean.strings)

    def trains(self, names: Sequence[str], client: Client | None) -> list[str]:
        """B and the rest in rounds 0, 2, …, A and the rest in the others; over all rounds, everything."""
        still: frozenset[str] = frozenset()
        if client is not None:
            still = self.layout.b_names if client.round % 2 else self.layout.a_names
        return [name for name in names if name not in still]
