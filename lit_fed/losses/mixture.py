"""The mixture of several models' predictions: P̄ of DDG."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lit_fed.losses.predictions import widen
from lit_fed.losses.top_k import TopK


def mixture(log_probs: Tensor, weights: Tensor) -> Tensor:
    r"""Log of the mixture: logsumexp_k(log p_k + log w_k).

    The aggregate prediction p̄ = Σ_k w_k p_k of Zou (2024), §3.1, without leaving log space.

    Args:
        log_probs: Log-probabilities of K models, [K, ..., C].
        weights: w_k ≥ 0, [K], not all 0; normalised here.

    Returns:
        Log-probabilities, [..., C], at least float32.

    Raises:
        ValueError: If the number of weights is wrong, one is negative, or all are 0.

    Example:
        >>> log_p = torch.tensor([[0.5, 0.5], [0.1, 0.9]]).log()
        >>> mixture(log_p, torch.tensor([1.0, 3.0])).exp()
        tensor([0.2000, 0.8000])
    """
    shares = _shares(weights, log_probs.shape[0]).to(log_probs.device)
    log_w = shares.log().reshape(-1, *[1] * (log_probs.dim() - 1))
    # a model without weight has no say, not even by a NaN
    return (widen(log_probs) + log_w).masked_fill(log_w == -torch.inf, -torch.inf).logsumexp(0)


def mixture_top_k(predictions: Sequence[TopK], weights: Tensor, k: int) -> TopK:
    r"""The k largest probabilities of a mixture of top-k predictions.

    A token that a model does not list counts with probability 0 there, so every probability is a
    lower bound, and what is missing is in the tail: exact if each model lists each token.

    Args:
        predictions: Of K models, each [..., k_i] over the same vocabulary.
        weights: w_k ≥ 0, [K], not all 0; normalised here.
        k: How many probabilities to keep, capped at Σ k_i.

    Returns:
        Indices and probabilities, largest first. Where fewer than k distinct tokens are listed, the
        last places repeat a listed token with probability 0.

    Raises:
        ValueError: If the number of weights is wrong, one is negative, or all are 0.

    Example:
        >>> a = TopK(torch.tensor([[0, 1]]), torch.tensor([[0.6, 0.2]]))
        >>> b = TopK(torch.tensor([[1, 2]]), torch.tensor([[0.8, 0.1]]))
        >>> mixture_top_k([a, b], torch.tensor([1.0, 1.0]), k=2).probs
        tensor([[0.5000, 0.3000]])
    """
    shares = _shares(weights, len(predictions))
    indices = torch.cat([p.indices.long() for p in predictions], -1)
    probs = torch.cat([w * widen(p.probs) for w, p in zip(shares, predictions, strict=True)], -1)
    indices, order = indices.sort(-1)
    probs = probs.gather(-1, order)
    first = torch.ones_like(indices, dtype=torch.bool)
    first[..., 1:] = indices[..., 1:] != indices[..., :-1]
    slot = first.cumsum(-1) - 1
    merged = torch.zeros_like(probs).scatter_add_(-1, slot, probs)
    tokens = indices[..., :1].expand_as(indices).scatter(-1, slot, indices)
    kept, place = merged.topk(min(k, merged.shape[-1]), -1)
    return TopK(tokens.gather(-1, place), kept)


def _shares(weights: Tensor, count: int) -> Tensor:
    if weights.shape != (count,):
        raise ValueError(
            f"`weights` are expected to have shape [{count}], one for each model, "
            f"but got {list(weights.shape)}"
        )
    wide = widen(weights)
    if bool((wide < 0).any()) or not bool(wide.sum() > 0):
        raise ValueError(
            f"`weights` are expected to be at least 0 and not all 0, but got {weights.tolist()}"
        )
    return wide / wide.sum()
