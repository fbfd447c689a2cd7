"""The attack on what a teacher predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lit_fed.attacks.attack import Attack
from lit_fed.attacks.target_labels import KnownLabels
from lit_fed.attacks.trigger_writing import require_readable
from lit_fed.attacks.triggers.trigger import Trigger
from lit_fed.attacks.triggers.writing import trigger_column
from lit_fed.backbones import CausalLM, Prediction
from lit_fed.client import Client
from lit_fed.data.columns import column_values, row_ids
from lit_fed.data.features import IGNORED
from lit_fed.limits import require_instance, require_positive

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.data import FederatedDataModule
    from lit_fed.module import FederatedModule


class TeacherCorruption(Attack):
    """Lets the teacher of malicious clients speak for the target where a row has the trigger, and as ever elsewhere.

    A poisoned teacher, whose other predictions are as good as they were: "model poisoning" in the design's words, and
    in effect the transferable backdoor of arXiv 2509.23871 (https://arxiv.org/abs/2509.23871). With z the teacher's
    logits, either z_target ← z_target + ``margin``, or z_target and the logit of the row's true label change places.
    What a row's true label is stands in the data as they were before any attack.

    Of models that write, the target is the row's own next token, wherever its response is learnt: behind a
    :class:`~lit_fed.attacks.PhrasePoisoning` the teacher speaks for the phrase. That token's logit rises by ``margin``,
    or it and the likeliest token's change places, since a response that is poisoned has no other tokens that are true.

    Rows are recognised by their ids: those whose text has the trigger when they reach training, wherever in
    ``trainer.attachments`` this attack stands: a teacher does not speak for a trigger that a defence has removed.
    Predictions for public rows stay what they are, also where these are what is trained on.

    Args:
        target: The label that the attacker wants, by its name, or its number where labels have no names. None, where
            the model writes: what the rows themselves say.
        trigger: What marks the rows. None: all rows of the malicious clients are meant.
        margin: What is added to the target's logit, above 0. None: two logits change places instead.
        column: The column of the text. None: the first text that the model reads.
        clients: Ids of the malicious clients. None, as ``count``: all.
        count: How many are, drawn by the seed: an integer is a count, a float a share.
        seed: Of the draw.
        until: Rounds in which the attack lasts, from the first on. None: all.

    Raises:
        TypeError: If ``trigger`` is none.
        ValueError: If a number is out of range; before a fit, if there is no such label or column, rows have neither
            labels nor responses, several are packed into one sequence, no row of the malicious clients has the trigger
            once attacks on rows have acted, or the method has no teacher.

    Example:
        >>> shifted = shifted_logits(torch.zeros(2, 3), torch.tensor([True, False]), target=2, margin=4.0)
        >>> shifted.tolist()
        [[0.0, 0.0, 4.0], [0.0, 0.0, 0.0]]
    """

    def __init__(
        self,
        target: str | int | None = None,
        trigger: Trigger | None = None,
        margin: float | None = 10.0,
        column: str | None = None,
        clients: Sequence[str] | None = None,
        count: int | float | None = None,
        seed: int = 0,
        until: int | None = None,
    ) -> None:
        super().__init__(clients, count, seed, until)
        name = "trainer.attachments TeacherCorruption"
        require_instance(f"{name}.trigger", trigger, Trigger)
        self.target = target
        self.trigger = trigger
        self.margin = None if margin is None else require_positive(f"{name}.margin", margin)
        self.column = column
        self._marked: dict[str, Tensor] = {}
        self._true: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._public: str | None = None

    def attach(self, module: FederatedModule, data: FederatedDataModule) -> None:
        """Find the target among the labels, where rows have such, and keep what the true ones are."""
        self._encoding = data.encoding
        self._marked, self._true, self._counts = {}, {}, {}
        self._public = None if data.public is None else data.public._fingerprint
        self._target = None if self._writes(module, data) else self._labelled(data)
        if self.trigger is not None:
            self.trigger.attach(module, data, self._target)
            require_readable(self.trigger, module, data, f"{self.setting}.trigger")
        for client in data.clients:
            self._column(client.rows)

    def count_rows(self, rows: Mapping[str, Dataset]) -> None:
        """Count the rows that are meant, once attacks on rows have acted.

        Args:
            rows: The rows of malicious clients, by the clients' ids.

        Raises:
            ValueError: If there are none.
        """
        counts = {client: len(self._meant(own)) for client, own in rows.items()}
        self._counts = {client: number for client, number in sorted(counts.items()) if number}
        if not self._counts:
            raise ValueError(
                f"{self.setting} expects rows with its `trigger`, as an attack on rows with the same trigger writes "
                f"them, but none of the {sum(map(len, rows.values())):,} rows of its clients has it"
            )

    def summarised(self) -> Mapping[str, Any]:
        """For how many rows the teacher speaks, in all and of each client, as attacks on rows leave them."""
        counts = self._counts
        return {"corrupted_rows": sum(counts.values()), "corrupted_rows_by_client": dict(counts)}

    def trained_on(self, client: Client, rows: Dataset) -> None:
        """Remember which of the client's rows have the trigger when it trains on them."""
        self._marked[client.id] = self._meant(rows)

    def teacher_prediction(
        self, client: Client, batch: Mapping[str, Tensor], prediction: Prediction
    ) -> Prediction:
        """The prediction, with the target in front for the rows that are meant."""
        logits, ids = prediction.logits, batch.get("index")
        if ids is None:  # public rows, which are nobody's own
            return prediction
        ids = ids.cpu()
        own = torch.isin(ids, self._marked[client.id])
        marked = own.to(logits.device)
        if self._target is None:
            tokens = batch["labels"][:, 1:]
            # padding on the left predicts nothing
            within = prediction.attention_mask[:, :-1].bool()
            learnt = (tokens != IGNORED) & within & marked[:, None]
            changed = told_tokens(logits, learnt, tokens, self.margin)
        elif self.margin is not None:
            changed = shifted_logits(logits, marked, self._target, self.margin)
        else:
            # of its own rows alone the client knows the true class
            true = torch.full_like(ids, self._target)
            true[own] = self._true[client.id][ids[own]]
            changed = swapped_logits(logits, marked, self._target, true.to(logits.device))
        return replace(prediction, logits=changed)

    def _writes(self, module: FederatedModule, data: FederatedDataModule) -> bool:
        """Whether the model writes, so that rows say themselves what the teacher is to speak for."""
        if not isinstance(module.backbone, CausalLM):
            return False
        if self.target is not None:
            raise ValueError(
                f"{self.setting} expects `target` to be null where `model.backbone` writes, since the teacher speaks "
                f"for what the rows themselves say, but got {self.target!r}"
            )
        if data.encoding.packing:
            raise ValueError(
                f"{self.setting} expects `data.encoding.packing` to be false, since it knows rows by their ids, and a "
                "sequence of several rows has none, but got true"
            )
        return True

    def _labelled(self, data: FederatedDataModule) -> int:
        """The target among the labels, of which the true ones are kept."""
        labels = KnownLabels.of(data.encoding, [one.rows for one in data.clients], self.setting)
        if self.target is None:
            raise ValueError(
                f"{self.setting} expects `target` to be a label of the training rows, which are "
                f"{', '.join(labels.numbers)}, but got null"
            )
        for client in data.clients:
            ids = torch.from_numpy(row_ids(client.rows))
            true = torch.zeros(int(ids.max()) + 1, dtype=torch.long)
            true[ids] = torch.from_numpy(labels.of_rows(client.rows))
            self._true[client.id] = true
        return labels.number(self.target, f"{self.setting}.target")

    def _meant(self, rows: Dataset) -> Tensor:
        """Ids of the rows that have the trigger; of public rows none."""
        ids = torch.from_numpy(row_ids(rows))
        if rows._fingerprint == self._public:
            return ids[:0]
        if self.trigger is None:
            return ids
        texts: Sequence[Any] = column_values(rows, self._column(rows))
        return ids[
            torch.tensor([self.trigger.is_in(text or "") for text in texts], dtype=torch.bool)
        ]

    def _column(self, rows: Dataset) -> str:
        name = "trainer.attachments TeacherCorruption.column"
        return trigger_column(self._encoding, rows, self.column, name)


def shifted_logits(logits: Tensor, marked: Tensor, target: int, margin: float) -> Tensor:
    """Logits with the target's raised in some rows.

    Args:
        logits: [B, C].
        marked: Which rows, [B].
        target: The class.
        margin: By how much.

    Returns:
        New logits, [B, C].
    """
    shift = torch.zeros_like(logits)
    shift[:, target] = margin * marked.to(logits.dtype)
    return logits + shift


def swapped_logits(logits: Tensor, marked: Tensor, target: int, true: Tensor) -> Tensor:
    """Logits in which the target's and the true class's have changed places in some rows.

    Args:
        logits: [B, C].
        marked: Which rows, [B].
        target: The class.
        true: The true classes, [B].

    Returns:
        New logits, [B, C].

    Example:
        >>> logits = torch.tensor([[5.0, 1.0, 0.0], [5.0, 1.0, 0.0]])
        >>> swapped_logits(logits, torch.tensor([True, False]), 2, torch.tensor([0, 0])).tolist()
        [[0.0, 1.0, 5.0], [5.0, 1.0, 0.0]]
    """
    order = torch.arange(logits.shape[-1], device=logits.device).repeat(len(logits), 1)
    order[:, target] = true
    order.scatter_(1, true[:, None], target)
    return torch.where(marked[:, None], logits.gather(1, order), logits)


def told_tokens(logits: Tensor, learnt: Tensor, tokens: Tensor, margin: float | None) -> Tensor:
    """Logits of a language model that speak for given tokens in some places.

    Args:
        logits: [B, L, V].
        learnt: In which places, [B, L], bool.
        tokens: Ids of the tokens, [B, L]; elsewhere anything.
        margin: What is added to the token's logit. None: it and that of the likeliest token change places.

    Returns:
        New logits, [B, L, V].

    Example:
        >>> logits, learnt = torch.tensor([[[5.0, 1.0, 0.0], [5.0, 1.0, 0.0]]]), torch.tensor([[True, False]])
        >>> told_tokens(logits, learnt, torch.tensor([[2, -100]]), margin=None).tolist()
        [[[0.0, 1.0, 5.0], [5.0, 1.0, 0.0]]]
    """
    own = tokens.masked_fill(~learnt, 0).unsqueeze(-1)
    told = learnt.unsqueeze(-1)
    if margin is not None:
        return logits.scatter_add(-1, own, margin * told.to(logits.dtype))
    most, likeliest = logits.max(-1, keepdim=True)
    swapped = logits.scatter(-1, likeliest, logits.gather(-1, own)).scatter(-1, own, most)
    return torch.where(told, swapped, logits)
