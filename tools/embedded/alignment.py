"""Initial weights that know which tokens translate each other, before any gradient."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tools.embedded.corpus import TokenPair

# Of the power iteration that finds the leading eigenvectors.
_ITERATIONS = 12


def aligned_embeddings(
    pairs: Sequence[TokenPair], vocab_size: int, width: int, seed: int
) -> Tensor:
    """Embeddings in which tokens that occur in the same sentence pairs are close.

    Positive pointwise mutual information of tokens within a sentence pair, factorised (Levy and Goldberg,
    2014, https://papers.nips.cc/paper/5477-neural-word-embedding-as-implicit-matrix-factorization): a word
    and its translation share their pairs, and so their direction. The space is turned at random, so that
    any part of its dimensions is as informative as another.

    Args:
        pairs: Token ids of the two sides.
        vocab_size: V.
        width: d, at most V.
        seed: Seed of the rotation, and of the directions of tokens that do not occur.

    Returns:
        [V, d], rows of length 1.
    """
    together = np.zeros((vocab_size, vocab_size))
    for english, chinese in pairs:
        tokens = np.array(sorted({*english, *chinese}))
        together[np.ix_(tokens, tokens)] += 1
    alone = together.diagonal()
    expected = np.outer(alone, alone) / len(pairs)
    frequent = together >= 2
    information = np.zeros_like(together)
    information[frequent] = np.maximum(np.log(together[frequent] / expected[frequent]), 0)

    rng = np.random.default_rng(seed)
    basis = rng.normal(size=(vocab_size, width))
    for _ in range(_ITERATIONS):
        basis, _ = np.linalg.qr(information @ basis)
    values, within = np.linalg.eigh(basis.T @ information @ basis)
    embeddings = basis @ within * np.sqrt(np.maximum(values, 0))
    unknown = np.linalg.norm(embeddings, axis=1) < 1e-6
    embeddings[unknown] = rng.normal(size=(int(unknown.sum()), width))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    rotation, _ = np.linalg.qr(rng.normal(size=(width, width)))
    return torch.from_numpy(embeddings @ rotation).float()


def sinusoids(positions: int, width: int) -> Tensor:
    """A sinusoidal position code whose wavelengths grow by 1.6 from 19 tokens.

    Returns:
        [positions, width], values between -1 and 1.
    """
    columns = torch.arange(width)
    frequencies = 1.6 ** -(columns // 2).float() / 3
    phases = (columns % 2) * (torch.pi / 2)
    return torch.sin(torch.arange(positions)[:, None] * frequencies + phases)
