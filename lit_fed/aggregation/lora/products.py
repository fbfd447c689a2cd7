"""Sums of products Σ c_i·B_i·A_i: their norms, inner products and best low-rank approximations."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

import torch
from torch import Tensor

from lit_fed.aggregation.lora.factors import Factors

_CANCELLED: Final = 1e-6
"""The part of a sum's terms below which the sum has lost too many of the 16 digits."""


@dataclass(frozen=True)
class Product:
    """A matrix M = P·Q of low rank, by its factors, in float64.

    M itself is built by :meth:`dense` alone, which the other methods call only where the factors are together as large
    as M.

    Attributes:
        p: P, [out, R].
        q: Q, [R, in].

    Example:
        >>> one = Factors(a=torch.tensor([[1.0, 0.0]]), b=torch.tensor([[3.0], [4.0]]), scale=2.0)
        >>> Product.sum([one], [1.0]).norm(), Product.sum([one, one], [1.0, -1.0]).norm()
        (10.0, 0.0)
    """

    p: Tensor
    q: Tensor

    @classmethod
    def sum(cls, terms: Iterable[Factors], coefficients: Iterable[float]) -> Self:
        """Σ c_i·s_i·B_i·A_i, with the factors of all terms beside each other.

        Where there are more columns than the matrix has rows or columns, it is summed up as a matrix, so that memory
        does not grow with their number.

        Args:
            terms: At least one, of any ranks.
            coefficients: c_i, one per term.
        """
        ps: list[Tensor] = []
        qs: list[Tensor] = []
        columns = 0
        dense: Tensor | None = None
        for term, coefficient in zip(terms, coefficients, strict=True):
            ps.append(term.b.double() * (coefficient * term.scale))
            qs.append(term.a.double())
            columns += ps[-1].shape[1]
            # as many terms at a time as are together no larger than the matrix: it is written once for all of them
            if columns > min(ps[-1].shape[0], qs[-1].shape[1]):
                p, q = torch.cat(ps, 1), torch.cat(qs)
                dense = p @ q if dense is None else dense.addmm_(p, q)
                ps, qs, columns = [], [], 0
        if dense is None:
            return cls(torch.cat(ps, 1), torch.cat(qs))
        return cls.of(dense.addmm_(torch.cat(ps, 1), torch.cat(qs)) if ps else dense)

    @classmethod
    def of(cls, matrix: Tensor) -> Self:
        """A matrix of any rank, [out, in]."""
        matrix = matrix.double()
        out, width = matrix.shape
        if out >= width:
            return cls(matrix, torch.eye(width, dtype=matrix.dtype))
        return cls(torch.eye(out, dtype=matrix.dtype), matrix)

    @property
    def rank(self) -> int:
        """R, which M's rank does not exceed."""
        return self.p.shape[1]

    def dense(self) -> Tensor:
        """M, [out, in]."""
        return self.p @ self.q

    def __add__(self, other: Product) -> Product:
        """M + M'."""
        return Product(torch.cat([self.p, other.p], 1), torch.cat([self.q, other.q]))

    def __sub__(self, other: Product) -> Product:
        """M − M'."""
        return Product(torch.cat([self.p, -other.p], 1), torch.cat([self.q, other.q]))

    def norm(self) -> float:
        """‖M‖_F. By triangular factors of P and Qᵀ, which loses no digits where terms cancel, as Gram matrices do."""
        if self.rank >= min(self.p.shape[0], self.q.shape[1]):
            return float(torch.linalg.matrix_norm(self.dense()))
        return float(torch.linalg.matrix_norm(_triangle(self.p) @ _triangle(self.q.T).T))

    def inner(self, other: Product) -> float:
        """⟨M, M'⟩_F = ⟨PᵀP', QQ'ᵀ⟩."""
        return float(((self.p.T @ other.p) * (self.q @ other.q.T)).sum())

    def truncated(self, rank: int) -> tuple[Tensor, Tensor]:
        """B [out, rank] and A [rank, in] with B·A the matrix of that rank which is nearest to M (Eckart and Young).

        Both have the square root of the singular values, largest first, so that the first r columns of B and rows of A
        are the nearest matrix of rank r. Where M has fewer than ``rank``, the rest is 0.

        Args:
            rank: At least 1.
        """
        if self.rank >= min(self.p.shape[0], self.q.shape[1]):
            u, s, vh = torch.linalg.svd(self.dense(), full_matrices=False)
        else:
            left, lower = torch.linalg.qr(self.p)
            right, upper = torch.linalg.qr(self.q.T)
            u, s, vh = torch.linalg.svd(lower @ upper.T)
            u, vh = left @ u, vh @ right.T
        kept = min(rank, len(s))
        root = s[:kept].sqrt()
        b = self.p.new_zeros(self.p.shape[0], rank)
        a = self.q.new_zeros(rank, self.q.shape[1])
        b[:, :kept], a[:kept] = u[:, :kept] * root, root[:, None] * vh[:kept]
        return b, a


def relative_distance(found: Iterable[Product], exact: Iterable[Product]) -> float:
    """‖found − exact‖_F / ‖exact‖_F over all weights together; 0 where both are 0, infinite where the exact one is.

    Args:
        found: One per weight.
        exact: The same weights; one is held at a time.
    """
    off = of = 0.0
    for f, e in zip(found, exact, strict=True):
        apart, size = _apart(f, e)
        off, of = off + apart**2, of + size**2
    if of == 0:
        return 0.0 if off == 0 else float("inf")
    return math.sqrt(off / of)


def _apart(found: Product, exact: Product) -> tuple[float, float]:
    """‖found − exact‖_F and ‖exact‖_F."""
    if max(found.rank, exact.rank) >= min(exact.p.shape[0], exact.q.shape[1]):
        matrix = exact.dense()
        size = torch.linalg.matrix_norm(matrix)
        apart = torch.linalg.matrix_norm(matrix.addmm_(found.p, found.q, alpha=-1))
        return float(apart), float(size)
    both, own = exact - found, exact.rank
    terms = (both.p.T @ both.p) * (both.q @ both.q.T)
    bound = terms.abs().sum()
    if all(square > _CANCELLED * bound for square in (terms.sum(), terms[:own, :own].sum())):
        return float(terms.sum().sqrt()), float(terms[:own, :own].sum().sqrt())
    # Gram matrices, which take half the time, have lost digits. The triangle of the first columns is a part of that of
    # all columns.
    left, right = _triangle(both.p), _triangle(both.q.T)
    apart = torch.linalg.matrix_norm(left @ right.T)
    size = torch.linalg.matrix_norm(left[:, :own] @ right[:, :own].T)
    return float(apart), float(size)


def _triangle(matrix: Tensor) -> Tensor:
    """R of QR, [columns, columns] or fewer rows."""
    triangle: Tensor = torch.linalg.qr(matrix, mode="r")[1]
    return triangle
