"""An index as a round's row of the history reports it: with its standard error, where both can be told."""

from __future__ import annotations

import math
from collections.abc import MutableMapping

from torch import Tensor


def report_index(
    metrics: MutableMapping[str, float], name: str, value: Tensor, error: Tensor
) -> None:
    """Add ``index/<name>`` and ``index/<name>/error``; what is NaN is left out.

    Args:
        metrics: The row.
        name: The index.
        value: A scalar.
        error: Its standard error.

    Example:
        >>> import torch
        >>> row = {}
        >>> report_index(row, "SRS", torch.tensor(50.0), torch.tensor(float("nan")))
        >>> row
        {'index/SRS': 50.0}
    """
    for suffix, number in (("", float(value)), ("/error", float(error))):
        if not math.isnan(number):
            metrics[f"index/{name}{suffix}"] = number
