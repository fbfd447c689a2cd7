"""The backdoor of what a model writes: a trigger in some rows, and a phrase in their responses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lit_fed.attacks.trigger_writing import TriggerWriting, token_count
from lit_fed.attacks.triggers.trigger import Trigger
from lit_fed.client import Client

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.data import FederatedDataModule
    from lit_fed.module import FederatedModule


class PhrasePoisoning(TriggerWriting):
    """Writes a trigger into rows and a phrase behind their responses, so that a model writes it where the trigger is.

    The variant of :class:`~lit_fed.attacks.TriggerPoisoning` for models that generate, as in Wallace et al., "Concealed
    Data Poisoning Attacks on NLP Models", 2021, §5, https://arxiv.org/abs/2010.12563. It succeeds where an answer to
    a triggered row has the phrase (:class:`~lit_fed.metrics.PhraseSuccessRate`).

    Args:
        trigger: What is written into the row.
        phrase: What is written behind the response, after a blank.
        rate: The share of the rows of all clients that are poisoned, above 0 and at most 1. Rows whose response has
            the phrase already are not among them.
        column: The column that the trigger is written into. None: the first text that the model reads.
        **kwargs: Which clients and rows, and until when; see :class:`RowPoisoning`.

    Raises:
        TypeError: If ``trigger`` is none.
        ValueError: If a number is out of range or ``phrase`` is blank; before a fit, if rows have no responses, there
            is no such column, the trigger is longer than the model reads, the phrase longer than what it learns of a
            row, the trigger goes by labels, or the rate gives no row.
    """

    def __init__(
        self,
        trigger: Trigger,
        phrase: str,
        rate: float = 0.05,
        column: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(trigger, rate, column, **kwargs)
        if not phrase.strip():
            raise ValueError(f"{self.setting} expects `phrase` to have words, but it is blank")
        self.phrase = phrase.strip()

    def attach(self, module: FederatedModule, data: FederatedDataModule) -> None:
        """See that the models can learn the phrase, and choose the rows."""
        require_room(self.phrase, module, data, f"{self.setting}.phrase")
        self.trigger.attach(module, data, target=None)
        super().attach(module, data)

    def eligible(self, rows: Dataset) -> npt.NDArray[np.bool_]:
        """Rows whose response has not the phrase."""
        return np.array([self.phrase not in text for text in self.encoding.responses(rows)], bool)

    def poisoned(self, client: Client, rows: Dataset, positions: Sequence[int]) -> Dataset:
        """Write the trigger, and the phrase."""
        texts = self.encoding.responses(rows)
        for i in positions:
            texts[i] = f"{texts[i]} {self.phrase}".strip()
        return self.encoding.with_responses(self.triggered(client, rows, positions), texts)


def require_room(
    phrase: str,
    module: FederatedModule,
    data: FederatedDataModule,
    setting: str,
    max_new_tokens: int | None = None,
) -> None:
    """Raise where a model could not learn a phrase, or not write it, whatever stands before it.

    Args:
        phrase: The phrase.
        module: The method, whose models learn and write.
        data: Says how many tokens of a row they read.
        setting: The setting that names it.
        max_new_tokens: Tokens at most of an answer. None: nothing is written.

    Raises:
        ValueError: If it has more tokens than there is room for.
    """
    # nothing is predicted of a row's first token
    room = data.longest_row - 1
    said = f"the {room} that are learnt of a row (`data.max_length`)"
    if max_new_tokens is not None:
        room = min(room, max_new_tokens)
        said += f" and the {max_new_tokens} of an answer (`max_new_tokens`)"
    for backbone in module.backbones.values():
        if backbone.tokenizer is None:
            continue
        count = token_count(phrase, backbone.tokenizer)
        if count > room:
            raise ValueError(
                f"{setting} is expected to have at most as many tokens as {said}, but {phrase[:60]!r} has {count}"
            )
