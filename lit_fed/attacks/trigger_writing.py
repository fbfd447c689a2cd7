"""What attacks that write a trigger into rows share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn

from lit_fed.attacks.row_poisoning import RowPoisoning
from lit_fed.attacks.triggers.trigger import Trigger
from lit_fed.attacks.triggers.writing import trigger_column, triggered_rows
from lit_fed.client import Client
from lit_fed.limits import require_instance

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from lit_fed.data import Encoding, FederatedDataModule
    from lit_fed.module import FederatedModule

_UNREAD: Final = 0.01
"""The share of rows without the trigger's tokens from which on a warning says so."""


class TriggerWriting(RowPoisoning):
    """Writes a trigger into the poisoned rows; what is learnt of them is up to the attack.

    Args:
        trigger: What is written.
        rate: The share of the rows of all clients that are poisoned.
        column: The column that it is written into. None: the first text that the model reads.
        **kwargs: Which rows, and until when; see :class:`RowPoisoning`.

    Raises:
        TypeError: If ``trigger`` is none.
        ValueError: Before a fit, if the trigger is longer than the model reads, or the column is not there or holds
            no texts.
    """

    def __init__(
        self, trigger: Trigger, rate: float, column: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(rate, **kwargs)
        require_instance(f"trainer.attachments {type(self).__name__}.trigger", trigger, Trigger)
        self.trigger = trigger
        self.column = column
        self._encoding: Encoding | None = None

    def attach(self, module: FederatedModule, data: FederatedDataModule) -> None:
        """Find the column, see that the models can read the trigger, and choose the rows."""
        self._encoding = data.encoding
        require_readable(self.trigger, module, data, f"{self.setting}.trigger")
        for client in data.clients:
            self._column(client.rows)
        super().attach(module, data)

    @property
    def encoding(self) -> Encoding:
        """How rows are read.

        Raises:
            RuntimeError: Before :meth:`attach`.
        """
        if self._encoding is None:
            raise RuntimeError(f"{self.setting} is expected to be attached to data before it acts")
        return self._encoding

    def triggered(self, client: Client, rows: Dataset, positions: Sequence[int]) -> Dataset:
        """The rows, with the trigger in some of them.

        Args:
            client: Whose they are.
            rows: Its rows.
            positions: Which of them.
        """
        seed = (self.seed, client.index)
        return triggered_rows(rows, self._column(rows), self.trigger, seed, positions)

    def _column(self, rows: Dataset) -> str:
        name = f"trainer.attachments {type(self).__name__}.column"
        return trigger_column(self.encoding, rows, self.column, name)


def require_readable(
    trigger: Trigger, module: FederatedModule, data: FederatedDataModule, setting: str
) -> None:
    """Raise where a model could not read a trigger, whatever text it stands in.

    Args:
        trigger: The trigger.
        module: The method, whose models read.
        data: Says how many tokens they read.
        setting: The setting that names it.

    Raises:
        ValueError: If it has more tokens than a row may have.
    """
    for backbone in module.backbones.values():
        tokenizer = backbone.tokenizer
        if tokenizer is None:
            continue
        pairs = getattr(data.encoding, "text_pair", None) is not None
        special = tokenizer.num_special_tokens_to_add(pair=pairs)
        count, text = max((token_count(text, tokenizer), text) for text in trigger.texts)
        if count + special > data.longest_row:
            raise ValueError(
                f"{setting} is expected to have at most the {data.longest_row - special} tokens that the model reads "
                f"of a row, but {text[:60]!r} has {count}"
            )


def token_count(text: str, tokenizer: PreTrainedTokenizerBase) -> int:
    """How many tokens a text has, without those that begin or end a row.

    Args:
        text: The text.
        tokenizer: The tokenizer.
    """
    return len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def unread_share(
    clean: Dataset, triggered: Dataset, module: FederatedModule, data: FederatedDataModule
) -> float:
    """The share of rows in which some model reads nothing of a trigger, since it stands where rows are cut.

    Args:
        clean: N rows.
        triggered: The same rows with the trigger.
        module: The method, whose models read.
        data: Says how.
    """
    shares = [0.0]
    for backbone in module.backbones.values():
        if backbone.tokenizer is not None:
            own = [data.features(rows, backbone.tokenizer) for rows in (clean, triggered)]
            before, after = (
                np.split(one.tokens["input_ids"][: one.offsets[-1]], one.offsets[1:-1])
                for one in own
            )
            same = [np.array_equal(a, b) for a, b in zip(before, after, strict=True)]
            shares.append(float(np.mean(same)))
    return max(shares)


def warn_of_unread(
    clean: Dataset,
    triggered: Dataset,
    module: FederatedModule,
    data: FederatedDataModule,
    who: str,
    so: str,
) -> None:
    """Say where models read nothing of a trigger in more than a few test rows, since rows are cut.

    Args:
        clean: N test rows.
        triggered: The same rows with the trigger.
        module: The method, whose models read.
        data: Says how.
        who: Who evaluates the trigger.
        so: What follows from it.
    """
    unread = unread_share(clean, triggered, module, data)
    if unread > _UNREAD:
        rank_zero_warn(
            f"{who}: of {unread:.1%} of the test rows nothing of the trigger is read, since rows are cut after "
            f"{data.longest_row} tokens (`data.max_length`): {so}"
        )
