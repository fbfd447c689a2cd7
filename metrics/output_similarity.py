"""How far a model's outputs agree with reference outputs, example by example."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def sentence_cosine(preds: Tensor, reference: Tensor) -> Tensor:
    """Cosine between the embeddings of outputs and of reference outputs.

    Args:
        preds: Sentence embeddings of the model's outputs, [N, d].
        reference: Those of the reference outputs, [N, d].

    Returns:
        Cosines in [-1, 1], [N], float32 or the wider dtype given; 0 for a zero vector, such as the
        embedding of an empty output.

    Raises:
        ValueError: If the shapes differ or are not [N, d].

    Example:
        >>> e = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
        >>> sentence_cosine(e, torch.tensor([[2.0, 0.0], [1.0, -1.0], [1.0, 0.0]]))
        tensor([1., 0., 0.])
    """
    preds, reference = _pair(preds, reference, "[examples, width]")
    return functional.cosine_similarity(preds, reference, dim=-1).clamp(-1, 1)


def jensen_shannon_similarity(preds: Tensor, reference: Tensor) -> Tensor:
    r"""One minus the Jensen-Shannon divergence in units of its largest value, ln 2.

    .. math:: 1 - \frac{1}{2 \ln 2}\left[KL(p \| m) + KL(q \| m)\right], \quad m = (p + q) / 2

    Lin, "Divergence measures based on the Shannon entropy" (1991),
    https://doi.org/10.1109/18.61115.

    Args:
        preds: Probabilities, [N, C].
        reference: Reference probabilities, [N, C].

    Returns:
        Values in [0, 1], [N]: 1 for equal distributions, 0 for disjoint ones.

    Raises:
        ValueError: If the shapes differ or are not [N, C], or a row is no distribution (logits,
            say): an entry is negative, or the sum is further than 0.01 from 1, which leaves room
            for probabilities in half precision.

    Example:
        >>> p = torch.tensor([[0.5, 0.5], [1.0, 0.0]])
        >>> jensen_shannon_similarity(p, torch.tensor([[0.5, 0.5], [0.0, 1.0]]))
        tensor([1., 0.])
    """
    preds, reference = _pair(preds, reference, "[examples, classes]")
    for name, rows in (("preds", preds), ("reference", reference)):
        if not bool(((rows >= 0).all(-1) & ((rows.sum(-1) - 1).abs() < 0.01)).all()):
            raise ValueError(
                f"`{name}` is expected to hold probabilities, each row of which sums to 1, "
                f"but its sums run from {rows.sum(-1).min():g} to {rows.sum(-1).max():g} "
                f"and its entries from {rows.min():g}"
            )
    # half of the least number is 0, and its logarithm no number
    middle = ((preds + reference) / 2).clamp(min=torch.finfo(preds.dtype).tiny)
    divergence = torch.zeros_like(middle)
    for p in (preds, reference):
        divergence = divergence + torch.xlogy(p, p) - torch.xlogy(p, middle)
    return (1 - divergence.sum(-1) / (2 * math.log(2))).clamp(0, 1)


def _pair(preds: Tensor, reference: Tensor, shape: str) -> tuple[Tensor, Tensor]:
    """Both on one device in at least float32, if they have one shape of two dimensions."""
    if preds.ndim != 2 or preds.shape != reference.shape:
        raise ValueError(
            f"`preds` and `reference` are expected to have one shape {shape}, "
            f"but have {list(preds.shape)} and {list(reference.shape)}"
        )
    dtype = torch.promote_types(torch.promote_types(preds.dtype, reference.dtype), torch.float32)
    return preds.to(dtype), reference.to(preds.device, dtype)
