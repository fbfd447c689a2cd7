"""Accuracy in multiple choice: whether the right choice is the likeliest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, SupportsIndex

from torch import Tensor

from lit_fed.metrics.arguments import index_within
from lit_fed.metrics.likeliest import likeliest
from lit_fed.metrics.running_ratio import RunningRatio


def likeliest_choice(log_likelihood: Tensor, lengths: Tensor | None = None) -> int:
    """The choice whose log-likelihood, or log-likelihood for each unit of its length, is greatest.

    Args:
        log_likelihood: Of each choice after the question, in nats, [C].
        lengths: The lengths of the choices, above 0, [C]. None: they do not count.

    Returns:
        Its position; of equal ones the first, and −1 if one of them is NaN, so that none can be told.

    Raises:
        ValueError: If there is no choice, the shapes differ, or a length is not above 0.

    Example:
        >>> import torch
        >>> nats = torch.tensor([-6.0, -8.0])
        >>> likeliest_choice(nats), likeliest_choice(nats, lengths=torch.tensor([3, 8]))
        (0, 1)
    """
    if log_likelihood.ndim != 1 or not len(log_likelihood):
        raise ValueError(
            f"`log_likelihood` is expected to have shape [choices], but has {list(log_likelihood.shape)}"
        )
    if lengths is None:
        return int(likeliest(log_likelihood))
    if lengths.shape != log_likelihood.shape or not bool((lengths > 0).all()):
        raise ValueError(
            f"`lengths` are expected to be above 0, one for each of {len(log_likelihood)} choices, "
            f"but are {lengths.tolist()}"
        )
    return int(likeliest(log_likelihood / lengths))


class MultipleChoiceAccuracy(RunningRatio):
    """Share of questions whose right choice is the likeliest, as it is and by length, from 0 to 100; higher is better.

    The likelihood of a choice is that of its tokens after the question. Long choices are less likely than short
    ones; so it is reported as well with each log-likelihood divided by the choice's characters, as by Gao et al., "A
    framework for few-shot language model evaluation" (``acc`` and ``acc_norm``), https://doi.org/10.5281/zenodo.5371628.

    A question of which a log-likelihood is NaN is answered wrongly. NaN (nothing to tell): no question yet.

    Args:
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Returns of ``compute``:
        A dict of scalars: ``choice_accuracy`` and ``choice_accuracy_normalized``.

    Example:
        >>> import torch
        >>> metric = MultipleChoiceAccuracy()
        >>> metric.update([torch.tensor([-6.0, -8.0])], [torch.tensor([3, 8])], answer=[1])
        >>> {name: value.item() for name, value in metric.compute().items()}
        {'choice_accuracy': 0.0, 'choice_accuracy_normalized': 100.0}
    """

    higher_is_better = True
    plot_lower_bound = 0.0
    plot_upper_bound = 100.0

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(size=2, **kwargs)

    def update(
        self,
        log_likelihood: Sequence[Tensor],
        lengths: Sequence[Tensor],
        answer: Sequence[SupportsIndex],
    ) -> None:
        """Adds questions.

        Args:
            log_likelihood: Of each question's choices, in nats, [C]; questions may have different numbers of them.
            lengths: Of each question's choices, in characters, [C].
            answer: The position of each question's right choice, from 0.

        Raises:
            TypeError: If an answer is no integer.
            ValueError: If they differ in number, a shape differs, or an answer is no choice.
        """
        if not len(log_likelihood) == len(lengths) == len(answer):
            raise ValueError(
                "`log_likelihood`, `lengths` and `answer` are expected to have an entry for each question, "
                f"but have {len(log_likelihood)}, {len(lengths)} and {len(answer)}"
            )
        for scores, sizes, right in zip(log_likelihood, lengths, answer, strict=True):
            wanted = index_within("answer", right, 0, len(scores))
            chosen = likeliest_choice(scores), likeliest_choice(scores, sizes.to(scores.device))
            self.add([choice == wanted for choice in chosen], [1, 1])

    def compute(self) -> dict[str, Tensor]:
        """The two shares by name, scalars."""
        raw, normalized = self.ratio()
        return {"choice_accuracy": raw, "choice_accuracy_normalized": normalized}
