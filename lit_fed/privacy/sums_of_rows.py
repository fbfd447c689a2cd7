"""Whether a loss is a sum of parts of which each depends on one row of the batch, as far as its graph tells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from torch import Tensor

from lit_fed.losses import CountedMean

_LINEAR: Final = frozenset(
    {
        "AddBackward0",
        "CatBackward0",
        "CloneBackward0",
        "DivBackward0",
        "ExpandBackward0",
        "MeanBackward0",
        "MulBackward0",
        "NegBackward0",
        "ReshapeAliasBackward0",
        "RsubBackward0",
        "SelectBackward0",
        "SqueezeBackward0",
        "StackBackward0",
        "SubBackward0",
        "SumBackward0",
        "ToCopyBackward0",
        "UnbindBackward0",
        "UnsqueezeBackward0",
        "ViewBackward0",
    }
)
"""Operations after which a sum of rows' parts is one still, as long as no two things with a gradient are multiplied."""


def require_sum_of_rows(loss: Tensor, means: Sequence[CountedMean], method: str) -> None:
    """Check that nothing but masked means has a gradient in a loss, and that they are only added up and scaled.

    Constants by which terms are scaled are taken for what they are: that they do not come from other rows, no graph
    can tell.

    Args:
        loss: A scalar.
        means: The masked means that were taken while it was computed, within
            :func:`~lit_fed.losses.sums_over_rows`.
        method: The name of the method, for errors.

    Raises:
        ValueError: If something else has a gradient in it, or something else is done with them.

    Example:
        >>> import torch
        >>> from lit_fed.losses import counted_means, masked_mean
        >>> values = torch.tensor([1.0, 3.0], requires_grad=True)
        >>> with counted_means() as means:
        ...     mean = masked_mean(values)
        >>> require_sum_of_rows(mean + 0.5 * mean, means, "FedAvg")
        >>> require_sum_of_rows(mean + values.square().sum(), means, "FedAvg")
        Traceback (most recent call last):
        ...
        ValueError: `trainer.privacy` expects a loss of which every term with a gradient is a masked mean over the rows
        of the batch (lit_fed.losses.masked_mean), since each row's gradient is bounded by itself, but in that of
        FedAvg there is PowBackward0
    """
    nodes = {mean.value.grad_fn for mean in means}
    seen: set[Any] = set()
    ahead: list[Any] = [loss.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen or node in nodes:
            continue
        seen.add(node)
        following = [one for one, _ in node.next_functions if one is not None]
        kind = type(node).__name__
        product = kind in ("MulBackward0", "DivBackward0") and len(following) > 1
        if kind not in _LINEAR or product:
            what = f"a {'product' if kind[0] == 'M' else 'quotient'} of two" if product else kind
            raise ValueError(
                "`trainer.privacy` expects a loss of which every term with a gradient is a masked mean over the rows "
                "of the batch (lit_fed.losses.masked_mean), since each row's gradient is bounded by itself, but in "
                f"that of {method} there is {what}"
            )
        ahead.extend(following)
