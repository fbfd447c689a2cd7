"""Backbone encoder: the mean of the token states of the run's own frozen backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from lit_fed.backbones import Backbone
from lit_fed.backbones.length_sorted import in_length_sorted_batches
from lit_fed.backbones.padding import undisturbed
from lit_fed.limits import require_at_least
from lit_fed.methods.semantic_consensus.encoders.calibrated_encoder import CalibratedEncoder
from lit_fed.methods.semantic_consensus.encoders.pooling import mean_of_tokens
from lit_fed.methods.semantic_consensus.shared_base import have_one_body


class BackboneEncoder(CalibratedEncoder):
    """The run's backbone without its adapters, as it was loaded: no second model is in memory.

    The vectors of a language model all point one way, so that distances are small; its threshold is calibrated and
    small as well. Vectors of different models cannot be compared: a run with several is refused, but for backbones with
    the same frozen weights below their heads, such as those of one folder with different adapters.

    Args:
        batch_size: Texts at once, those of similar length together.

    Raises:
        ValueError: If ``batch_size`` is below 1.
    """

    _backbone: Backbone | None = None

    def __init__(self, batch_size: int = 32) -> None:
        self.batch_size = require_at_least("model.selector.encoder.batch_size", batch_size, 1)

    def setup(self, backbones: Sequence[Backbone]) -> None:
        """Receive the run's backbone.

        Raises:
            ValueError: If there is none, its base cannot be had without adapters, or another one has another base.
        """
        for backbone in backbones:
            with backbone.using():
                # Refuses a backbone without a frozen base.
                pass
        if not backbones or not all(have_one_body(backbones[0], one) for one in backbones[1:]):
            names = ", ".join(backbone.model.config.name_or_path for backbone in backbones)
            raise ValueError(
                f"`encoder` BackboneEncoder is expected where all clients have one backbone, since vectors of "
                f"different models cannot be compared, but the run has {len(backbones)} ({names}): use "
                f"SentenceTransformerEncoder or HashedNgramEncoder"
            )
        self._backbone = backbones[0]
        self.__dict__.pop("threshold", None)

    def _embed(self, texts: list[str]) -> Tensor:
        backbone = self._backbone
        if backbone is None:
            raise RuntimeError(
                "BackboneEncoder expects setup() with a backbone before the first text"
            )
        # Without the head, whose logits over a vocabulary would be most of the memory.
        body = backbone.model.get_base_model().base_model
        device = next(body.parameters()).device

        def run(batch: Mapping[str, Tensor]) -> Tensor:
            given = {name: field.to(device) for name, field in batch.items()}
            return mean_of_tokens(body(**given).last_hidden_state.float(), given["attention_mask"])

        with undisturbed(backbone), backbone.using():
            return in_length_sorted_batches(
                texts, backbone.tokenizer, backbone.max_tokens, self.batch_size, run
            )
