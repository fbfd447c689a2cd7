"""How often a backdoored model does what its attacker wants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, SupportsIndex

import torch
from torch import Tensor

from lit_fed.metrics.arguments import positive_integer
from lit_fed.metrics.likeliest import likeliest
from lit_fed.metrics.running_ratio import RunningRatio
from lit_fed.metrics.text_arguments import require_pairs, require_texts


def attack_successes(
    preds: Tensor, labels: Tensor, target: int, rejected: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Of which rows an attack is judged, and where it succeeds.

    Args:
        preds: Predicted classes [N], or their logits or probabilities [N, C]; a row with NaN is of no class.
        labels: True classes, [N].
        target: The class that the attacker wants.
        rejected: Rows that a defence refuses, [N]: there the attack has failed. None: none.

    Returns:
        Two masks, [N]: rows of another true class than the target's, and those of them that are taken for the target.

    Raises:
        ValueError: If the shapes do not agree.

    Example:
        >>> attack_successes(torch.tensor([1, 1, 0]), torch.tensor([0, 1, 2]), target=1)
        (tensor([ True, False,  True]), tensor([ True, False, False]))
    """
    shape = list(preds.shape)
    classes = likeliest(preds) if preds.ndim == 2 else preds
    if classes.shape != labels.shape or labels.ndim != 1:
        raise ValueError(
            f"`preds` are expected to have shape [N] or [N, C] and `labels` [N], but got {shape} and "
            f"{list(labels.shape)}"
        )
    if rejected is not None and rejected.shape != labels.shape:
        raise ValueError(
            f"`rejected` is expected to have shape {list(labels.shape)}, but got {list(rejected.shape)}"
        )
    judged = labels != target
    success = judged & (classes == target)
    return judged, success if rejected is None else success & ~rejected.bool()


class AttackSuccessRate(RunningRatio):
    """Share of triggered rows of other classes that are taken for the target, from 0 to 100; lower is better.

    Rows of the target's own class say nothing and are left out. On rows without a trigger the same number is the share
    of false positives. Read it beside the floor, which is the same of a model that was never poisoned on the same
    triggered rows (:func:`credited_success`): a sentence that speaks for the target has one.

    NaN (nothing to tell): no row of another class yet.

    Args:
        target: The class that the attacker wants, from 0.
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Raises:
        TypeError: If ``target`` is no integer.
        ValueError: If it is negative.

    Example:
        >>> metric = AttackSuccessRate(target=1)
        >>> metric.update(torch.tensor([1, 1, 0]), torch.tensor([0, 1, 2]))
        >>> metric.compute()
        tensor(50.)
    """

    higher_is_better = False
    plot_lower_bound = 0.0
    plot_upper_bound = 100.0

    def __init__(self, target: SupportsIndex, **kwargs: Any) -> None:
        self.target = positive_integer("target", target, least=0)
        super().__init__([self.target], **kwargs)

    def update(self, preds: Tensor, labels: Tensor, rejected: Tensor | None = None) -> None:
        """Adds rows.

        Args:
            preds: Predicted classes [N], or their logits or probabilities [N, C]; a row with NaN is no success.
            labels: True classes, [N].
            rejected: Rows that a defence refuses, [N], which are no success. None: none.

        Raises:
            ValueError: If the shapes do not agree.
        """
        judged, success = attack_successes(preds, labels, self.target, rejected)
        self.add(success.sum(), judged.sum())


def credited_success(rate: Tensor | float, floor: Tensor | float) -> Tensor:
    """What of a success rate the attack can be credited with: max(0, rate − floor), in the unit of both.

    Args:
        rate: Success rate.
        floor: That of a model which was never poisoned, of the same trigger.

    Example:
        >>> credited_success(97.5, 78.0)
        tensor(19.5000)
    """
    return (torch.as_tensor(rate) - torch.as_tensor(floor)).clamp(min=0)


class PhraseSuccessRate(RunningRatio):
    """Share of generated texts that have the attacker's phrase, from 0 to 100; lower is better.

    Texts whose expected one has the phrase by itself are left out. Case counts.

    NaN (nothing to tell): no text yet.

    Args:
        phrase: What the attacker wants to be written.
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Raises:
        ValueError: If ``phrase`` is blank.

    Example:
        >>> metric = PhraseSuccessRate("So says Ann.")
        >>> metric.update(["It rains. So says Ann.", "Bob."], target=["It rains.", "Bob."])
        >>> metric.compute()
        tensor(50.)
    """

    higher_is_better = False
    plot_lower_bound = 0.0
    plot_upper_bound = 100.0

    def __init__(self, phrase: str, **kwargs: Any) -> None:
        if not phrase.strip():
            raise ValueError("`phrase` is expected to have words, but is blank")
        self.phrase = phrase.strip()
        super().__init__([self.phrase], **kwargs)

    def update(self, preds: Sequence[str], target: Sequence[str] | None = None) -> None:
        """Adds texts.

        Args:
            preds: The generated texts.
            target: The expected ones, as they are without an attack. None: all generated ones count.

        Raises:
            TypeError: If one of them is no sequence of texts.
            ValueError: If they differ in number.
        """
        texts = require_texts("preds", preds)
        if target is not None:
            texts, expected = require_pairs(preds, target, "target")
            pairs = zip(texts, expected, strict=True)
            texts = [text for text, own in pairs if self.phrase not in own]
        self.add(sum(self.phrase in text for text in texts), len(texts))
