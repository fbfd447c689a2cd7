"""A text that a callback makes of a round and shows in TensorBoard's text tab."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from lit_fed.callbacks.curves import tensorboard_writers
from lit_fed.callbacks.federated_callback import FederatedCallback

if TYPE_CHECKING:
    from lit_fed.federation.federation_view import FederationView
    from lit_fed.module import FederatedModule


class PublishedText(FederatedCallback):
    """Publishes the text of a round once, also where the run is broken off before: it is part of the checkpoint.

    Attributes:
        tag: The text's name in TensorBoard.
    """

    tag: ClassVar[str]

    def __init__(self) -> None:
        self._round = 0
        self._text = ""
        self._loaded: dict[str, Any] = {}

    def take(self, round_: int, text: str) -> None:
        """Keep a round's text until the round is reported.

        Args:
            round_: The round, counted from 1.
            text: Markdown.
        """
        self._round, self._text = round_, text

    def state_dict(self) -> dict[str, Any]:
        """The last text, which may not have been published when the run is broken off."""
        return {"round": self._round, "text": self._text} if self._round else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave, at the start of the fit."""
        self._loaded = state_dict

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        """Take the last text back."""
        kept, self._loaded = self._loaded, {}
        self.take(kept.get("round", 0), kept.get("text", ""))

    def on_round_report(
        self, trainer: FederationView, module: FederatedModule, metrics: Mapping[str, float]
    ) -> None:
        """Publish the round's text."""
        for writer in tensorboard_writers(trainer) if self._round == trainer.current_round else ():
            writer.add_text(self.tag, self._text, self._round)
