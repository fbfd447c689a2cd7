"""FFA-LoRA: the factors A are frozen, so that the mean of the factors B is the mean of the changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lit_fed.aggregation.lora.frozen_weights import FrozenWeights
from lit_fed.aggregation.lora.rule import LoRARule
from lit_fed.client import Client
from lit_fed.payload import Payload

if TYPE_CHECKING:
    from lit_fed.backbones import Backbone


class FFALoRA(LoRARule):
    r"""Federated freeze-A LoRA: all clients have the A that the backbone was built with, and train B.

    .. math:: \sum_k w_k s B_k A = s \Big(\sum_k w_k B_k\Big) A

    Sun et al., "Improving LoRA in Privacy-preserving Federated Learning", ICLR 2024, §4,
    https://arxiv.org/abs/2403.12313. What the server makes of LoRA is exact. B and whatever else is trained, such as a
    head, travel both ways; A never does, so that a LoRA of square weights costs half the bytes each way. It assumes
    that A is the same everywhere: processes build it from the same ``seed_everything``, and a run that goes on, or is
    loaded, with another A is refused.

    Args:
        weights: What a client's weight w_k is proportional to, as in ``WeightedAverage``.
        score: The client metric used by ``validation``, larger is better.

    Example:
        >>> import peft
        >>> from lit_fed.backbones import SequenceClassifier
        >>> rule = FFALoRA()
        >>> rule.setup(SequenceClassifier(peft=peft.LoraConfig(r=4, target_modules=["query"])))
        >>> query = "base_model.model.bert.encoder.layer.0.attention.self.query"
        >>> rule.trains([f"{query}.lora_A.weight", f"{query}.lora_B.weight", "head"], None)
        ['base_model.model.bert.encoder.layer.0.attention.self.query.lora_B.weight', 'head']
    """

    _frozen: FrozenWeights

    def setup(self, backbone: Backbone) -> None:
        """Find the factors; see :class:`~lit_fed.aggregation.lora.rule.LoRARule`."""
        super().setup(backbone)
        held = backbone.trainable()
        self._frozen = FrozenWeights("A", {n: held[n] for n in self.layout.a_names})

    def trains(self, names: Sequence[str], client: Client | None) -> list[str]:
        """All but A."""
        return [name for name in names if name not in self.layout.a_names]

    def receives(self, names: Sequence[str], client: Client | None) -> list[str]:
        """All but A."""
        return [name for name in names if name not in self.layout.a_names]

    def state(self) -> Payload:
        """A digest of A, which is in no broadcast."""
        return self._frozen.state()

    def load_state(self, state: Payload) -> None:
        """Compare A with that of the run.

        Raises:
            ValueError: If it is another one.
        """
        self._frozen.require(state, type(self).__name__)
