"""Changes of the weights that LoRA's products are added to, without the matrices where that can be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
import torch
from scipy.sparse.linalg import svds
from torch import Tensor

from lit_fed.aggregation.aggregation import Basis
from lit_fed.aggregation.lora.factors import Factors, LoRALayout
from lit_fed.aggregation.lora.products import Product
from lit_fed.aggregation.lora.rule import require_both_train
from lit_fed.aggregation.robust.changes import (
    TOO_LARGE,
    Changes,
    CoordinateRule,
    Geometry,
    unit_noise,
)
from lit_fed.aggregation.robust.coordinates import CoordinateChanges
from lit_fed.payload import Payload
from lit_fed.update import Update

if TYPE_CHECKING:
    from lit_fed.backbones import Backbone

# How many times the rank a matrix is wide where its singular values are not all computed.
_LARGE: Final = 16

# Values of all clients' changes that are dense at a time.
_AT_A_TIME: Final = 2**22


class Products(Geometry):
    r"""Δ_k = s·B_k·A_k − s·B_g·A_g of every weight that LoRA changes, and θ_k − θ_g of the other tensors.

    Each product is first brought to balanced factors, both with the square root of its singular values: a client can
    make rows of A as large as it likes where columns of B are 0, which changes no weight, and would leave no digit of
    the norm. What is computed after that, norms, inner products and sums, is of these factors alone. What the rule
    chooses is summed up as products and brought back to the adapter's rank by a truncated singular value
    decomposition, as FlexLoRA does (Bai et al., 2024, https://arxiv.org/abs/2402.11505), also where one client is
    chosen: a mean of the chosen factors could be made anything by a client that sends B·R and R⁻¹·A, whose product
    looks like that of the others. Both factors get the square root of the singular values, and are turned by
    the rotation that brings them nearest to the factors before, so that they do not depend on how a decomposition is
    computed, and moments and changes that clients remember still fit as far as they can. Where the sum has a lower rank
    than the adapter, rows of A before take the place of what is missing, with zeros in B, so that all of the rank goes
    on learning.

    Rules of coordinates and noise build one weight after the other as a matrix [out, in].
    """

    basis: ClassVar[Basis] = "near"

    def __init__(self) -> None:
        self._layout = LoRALayout({})

    def setup(self, backbone: Backbone, rule: str) -> None:
        """Find the factors.

        Raises:
            ValueError: If the adapter is no plain LoRA, trains one of the factors alone, or a scale is not above 0.
        """
        try:
            self._layout = LoRALayout.of(backbone, rule)
        except ValueError as error:
            raise ValueError(
                f"{error}; `model.aggregation.geometry` lit_fed.aggregation.robust.Coordinates takes any adapter"
            ) from error
        require_both_train(self._layout, backbone.trainable(), rule)
        for layer, names in self._layout.weights.items():
            if not names.scale > 0:
                raise ValueError(
                    f"`model.aggregation` {rule} expects LoRA's products to be scaled by a number above 0, but "
                    f"that of {layer} is {names.scale:g}"
                )

    def changes(self, updates: Sequence[Update], previous: Payload) -> ProductChanges:
        """The changes of the weights, and of what is no factor."""
        return ProductChanges(updates, previous, self._layout)


class ProductChanges(Changes):
    """The changes of the products, and of the other tensors as coordinates.

    Args:
        updates: At least one.
        previous: The broadcast before.
        layout: Which tensors are factors.

    Raises:
        ValueError: If the clients or the broadcast hold other tensors than the first client.
    """

    def __init__(self, updates: Sequence[Update], previous: Payload, layout: LoRALayout) -> None:
        self.others = CoordinateChanges(updates, previous, without=layout.names)
        self.layout = layout
        self.names = list(updates[0].payload.tensors)
        self.dtypes = {name: previous.tensors[name].dtype for name in self.names}
        self.before = layout.factors(previous.tensors)
        self.after = [layout.factors(update.payload.tensors) for update in updates]

    def squared_norms(self) -> Tensor:
        """‖Δ_k‖², [K]."""
        total = self.others.squared_norms()
        for before, after in self._layers():
            norms = [_change(one, before).norm() for one in after]
            total += torch.tensor(norms, dtype=torch.float64).square()
        return total

    def inner_products(self) -> Tensor:
        """⟨Δ_j, Δ_k⟩, [K, K]."""
        total = self.others.inner_products()
        for before, after in self._layers():
            total += _inner_products([_reduced(_change(one, before)) for one in after])
        return total

    def combined(
        self,
        coefficients: Tensor,
        noise: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Payload:
        """s·B_g·A_g + Σ c_k Δ_k, as (1 − Σ c_k) s·B_g·A_g + Σ c_k s·B_k·A_k, and the other tensors."""
        rest = 1 - float(coefficients.sum())
        weights = [rest, *coefficients.tolist()]
        tensors = dict(self.others.combined(coefficients, noise, generator).tensors)
        for layer, (before, after) in zip(self.before, self._layers(), strict=True):
            terms = [(f, c) for f, c in zip([before, *after], weights, strict=True) if c]
            product = Product.sum([f for f, _ in terms], [c for _, c in terms])
            if noise:
                dense = product.dense()
                dense += noise * unit_noise(dense, generator)
                product = nearest(dense, before.a.shape[0])
            tensors |= self._factors(layer, product)
        return self._payload(tensors)

    def combined_by_coordinate(self, rule: CoordinateRule) -> tuple[Payload, Tensor]:
        """s·B_g·A_g + rule(Δ_1, …), entry by entry, and the other tensors."""
        tensors, shares, size = self.others.by_coordinate(rule)
        for layer, (before, after) in zip(self.before, self._layers(), strict=True):
            dense = before.b @ before.a
            changes = [_change(one, before) for one in after]
            step = max(1, _AT_A_TIME // (len(after) * dense.shape[1]))
            for start in range(0, len(dense), step):
                rows = slice(start, start + step)
                change = torch.stack([(one.p[rows] @ one.q).reshape(-1) for one in changes])
                value, counted = rule(change)
                dense[rows] += value.view(-1, dense.shape[1])
                shares += counted
                size += change.shape[1]
            tensors |= self._factors(layer, nearest(dense, before.a.shape[0]))
        return self._payload(tensors), shares / max(size, 1)

    def _layers(self) -> Iterator[tuple[Factors, list[Factors]]]:
        """Of every weight the factors before, and those of the clients, all of them balanced."""
        for layer, before in self.before.items():
            yield _balanced(before), [_balanced(factors[layer]) for factors in self.after]

    def _factors(self, layer: str, product: Product) -> dict[str, Tensor]:
        """The factors of a weight's change, by their names."""
        before, names = self.before[layer], self.layout.weights[layer]
        b, a = product.truncated(before.a.shape[0])
        singular = b.square().sum(0)
        size = max(len(b), a.shape[1])
        gone = singular <= singular.max() * size * torch.finfo(singular.dtype).eps
        b, a = b / before.scale**0.5, a / before.scale**0.5
        b[:, gone], a[gone] = 0.0, before.a[gone].double()
        # the orthogonal Procrustes problem
        u, _, vh = torch.linalg.svd(b.T @ before.b.double() + a @ before.a.double().T)
        turn = u @ vh
        return {
            names.a: (turn.T @ a).to(before.a.dtype),
            names.b: (b @ turn).to(before.b.dtype),
        }

    def _payload(self, tensors: dict[str, Tensor]) -> Payload:
        strings = self.others.updates[0].payload.strings
        return Payload({name: tensors[name] for name in self.names}, strings)


def nearest(matrix: Tensor, rank: int) -> Product:
    """The matrix of a rank that is nearest to a dense one (Eckart and Young), or the dense one where that is small.

    Of a large matrix the largest singular values alone are computed, by Lanczos' method to full precision, since the
    decomposition of all of it would take minutes a weight.

    Args:
        matrix: [out, in], in float64.
        rank: At least 1.
    """
    if min(matrix.shape) < _LARGE * rank or not bool(matrix.any()):
        return Product.of(matrix)
    # a start of its own, so that the result depends on the matrix alone
    start = np.random.default_rng(0).standard_normal(min(matrix.shape))
    size = float(matrix.abs().max())  # squares of very small numbers would be 0
    u, s, vh = svds((matrix / size).numpy(), k=rank, v0=start)
    return Product(torch.from_numpy(u * (s * size)), torch.from_numpy(vh.copy()))


def _balanced(factors: Factors) -> Factors:
    """The same s·B·A with s = 1 and factors that have the square root of its singular values each, in float64."""
    reduced = _reduced(Product.sum([factors], [1.0]))
    return Factors(reduced.q, reduced.p, 1.0)


def _reduced(product: Product) -> Product:
    """The same matrix, as wide, by factors that have the square root of its singular values each.

    Gram matrices of them lose no digits where the terms of the matrix cancel each other.

    Raises:
        ValueError: If the matrix is too large for float64.
    """
    try:
        return Product(*product.truncated(product.rank))
    except torch.linalg.LinAlgError:  # of what is not finite
        raise ValueError(TOO_LARGE) from None


def _change(after: Factors, before: Factors) -> Product:
    """B_k·A_k − B_g·A_g of balanced factors as (B_k − B_g)·A_k + B_g·(A_k − A_g), which is 0 where both are one."""
    b, a = after.b - before.b, after.a - before.a
    return Product(torch.cat([b, before.b], 1), torch.cat([after.a, a]))


def _inner_products(changes: Sequence[Product]) -> Tensor:
    """⟨Δ_j, Δ_k⟩ of one weight, [K, K], by ⟨P_j·Q_j, P_k·Q_k⟩ = ⟨P_jᵀP_k, Q_jQ_kᵀ⟩, for one client at a time."""
    count, rank = len(changes), changes[0].rank
    p = torch.cat([one.p for one in changes], 1)
    q = torch.cat([one.q for one in changes])
    inner = torch.zeros(count, count, dtype=torch.float64)
    for number, one in enumerate(changes):
        rest = number * rank  # those before are known
        products = (one.p.T @ p[:, rest:]) * (one.q @ q[rest:].T)
        inner[number, number:] = products.view(rank, -1, rank).sum((0, 2))
    return inner.triu() + inner.triu(1).T
