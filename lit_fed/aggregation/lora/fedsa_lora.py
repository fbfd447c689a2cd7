"""FedSA-LoRA: the factors A are shared, each client keeps its own B."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from lit_fed.aggregation.lora.changes import Changes
from lit_fed.aggregation.lora.frozen_weights import FrozenWeights
from lit_fed.aggregation.lora.rule import LoRARule
from lit_fed.aggregation.weighting import Weighting
from lit_fed.client import Client
from lit_fed.payload import Payload

if TYPE_CHECKING:
    from lit_fed.backbones import Backbone

Head = Literal["frozen", "shared", "private"]
"""What becomes of the weights beside the factors."""


class FedSALoRA(LoRARule):
    r"""Federated share-A LoRA: clients train A and B and send A.

    .. math:: A = \sum_k w_k A_k, \qquad \text{client } k \text{ has } s B_k A

    Guo et al., "Selective Aggregation for Low-Rank Adaptation in Federated Learning", ICLR 2025, §3.3,
    https://arxiv.org/abs/2410.01463. A learns what is common, B what is a client's own, and stays with it as its
    private state. So there is no common model: evaluations report the clients' own models
    (``clients/<metric>/…``), and nothing is logged as ``server/lora_distance``, since the server has no products. A
    client that has never trained has the B that the backbone was built with, 0. Bytes: A alone each way.

    Args:
        head: What else the backbone trains, such as a classifier's head. ``shared``: it is averaged as A is.
            ``private``: it stays with its client as B does. ``frozen``: it is as the backbone was built, which suits
            a head that has been trained before; a run that goes on, or is loaded, with another one is refused.
        weights: What a client's weight w_k is proportional to, as in ``WeightedAverage``.
        score: The client metric used by ``validation``, larger is better.

    Raises:
        ValueError: If ``head`` is something else.

    Example:
        >>> import peft
        >>> from lit_fed.backbones import SequenceClassifier
        >>> rule = FedSALoRA(head="private")
        >>> rule.setup(SequenceClassifier(peft=peft.LoraConfig(r=4, target_modules=["query"])))
        >>> query = "base_model.model.bert.encoder.layer.0.attention.self.query"
        >>> rule.receives([f"{query}.lora_A.weight", f"{query}.lora_B.weight", "head"], None)
        ['base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.weight']
    """

    has_global_model = False

    def __init__(
        self, head: Head = "shared", weights: Weighting = "size", score: str = "val/accuracy"
    ) -> None:
        super().__init__(weights, score)
        if head not in ("frozen", "shared", "private"):
            raise ValueError(
                f"`model.aggregation.head` is expected to be frozen, shared or private, but got {head!r}"
            )
        self.head = head
        self._frozen: FrozenWeights | None = None

    def setup(self, backbone: Backbone) -> None:
        """Find the factors; see :class:`~lit_fed.aggregation.lora.rule.LoRARule`."""
        super().setup(backbone)
        held = backbone.trainable()
        if (others := self.layout.others(held)) and self.head == "frozen":
            self._frozen = FrozenWeights("head", {name: held[name] for name in others})

    def trains(self, names: Sequence[str], client: Client | None) -> list[str]:
        """A, B and, unless it is frozen, the head."""
        return [name for name in names if self.head != "frozen" or name in self.layout.names]

    def sends(self, names: Sequence[str], client: Client) -> list[str]:
        """A and, where it is shared, the head."""
        return self._shared(names)

    def receives(self, names: Sequence[str], client: Client | None) -> list[str]:
        """A and, where it is shared, the head."""
        return self._shared(names)

    def changes(self) -> Changes | None:
        """None: the server has no B."""
        return None

    def state(self) -> Payload:
        """A digest of a frozen head, which is in no broadcast."""
        return Payload() if self._frozen is None else self._frozen.state()

    def load_state(self, state: Payload) -> None:
        """Compare a frozen head with that of the run.

        Raises:
            ValueError: If it is another one.
        """
        if self._frozen is None:
            super().load_state(state)
        else:
            self._frozen.require(state, type(self).__name__)

    def _shared(self, names: Sequence[str]) -> list[str]:
        kept = self.layout.b_names
        if self.head != "shared":
            kept = kept | set(self.layout.others(names))
        return [name for name in names if name not in kept]
