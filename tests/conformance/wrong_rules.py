"""What public implementations of LoRA's aggregation do, in a few lines each, and right rules beside them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lit_fed.conformance import LoRARound

A, B = ".lora_A.weight", ".lora_B.weight"


def mean(
    given: LoRARound, names: list[str], weights: list[float] | None = None
) -> dict[str, Tensor]:
    """The weighted mean of each tensor."""
    by = list(given.weights) if weights is None else weights
    return {
        n: sum(w * u[n].double() for w, u in zip(by, given.updates, strict=True)) for n in names
    }


def products(given: LoRARound, scales: list[float]) -> dict[str, Tensor]:
    """Σ w s B A as [out, in], by the layer."""
    return {
        layer: sum(
            w * s * (u[layer + B].double() @ u[layer + A].double())
            for w, s, u in zip(given.weights, scales, given.updates, strict=True)
        )
        for layer in given.layers
    }


def stored(given: LoRARound, changes: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Changes in the shapes of the weights."""
    return {f"{n}.weight": c.T if n in given.transposed else c for n, c in changes.items()}


# ---------------------------------------------------------------- right ones


def naive(given: LoRARound) -> dict[str, Tensor]:
    """The usual mean of the factors."""
    return mean(given, list(given.updates[0]))


def exact(given: LoRARound) -> dict[str, Tensor]:
    return stored(given, products(given, list(given.scales))) | mean(given, given.others)


def residual(given: LoRARound) -> dict[str, Tensor]:
    """FedEx-LoRA."""
    means = naive(given)
    changes = {
        layer: change - given.scale * means[layer + B] @ means[layer + A]
        for layer, change in products(given, list(given.scales)).items()
    }
    return means | stored(given, changes)


def truncated(given: LoRARound) -> dict[str, Tensor]:
    """FlexLoRA."""
    factors = {}
    for layer, change in products(given, list(given.scales)).items():
        u, s, vh = torch.linalg.svd(change)
        r = given.rank
        factors[layer + B] = u[:, :r] * s[:r] / given.scale
        factors[layer + A] = vh[:r]
    return factors | mean(given, given.others)


RIGHT = {"exact": exact, "residual": residual, "truncated": truncated, "naive": naive}

# ---------------------------------------------------------------- wrong ones


def first_client_times_its_weight(given: LoRARound) -> dict[str, Tensor]:
    """FLoRA's baseline of clients of one rank."""
    return {name: given.weights[0] * tensor for name, tensor in given.updates[0].items()}


def first_client(given: LoRARound) -> dict[str, Tensor]:
    return dict(given.updates[0])


def unweighted(given: LoRARound) -> dict[str, Tensor]:
    """FedEx-LoRA's and LoRA-FAIR's means."""
    even = [1 / len(given.updates)] * len(given.updates)
    return mean(given, list(given.updates[0]), even)


def transposed_residual(given: LoRARound) -> dict[str, Tensor]:
    """FedEx-LoRA's residual on the square query and value of RoBERTa."""
    returned = residual(given)
    return {
        n: t.T if n.removesuffix(".weight") in given.layers and t.shape[0] == t.shape[1] else t
        for n, t in returned.items()
    }


def padded_with_zeros(given: LoRARound) -> dict[str, Tensor]:
    """HetLoRA's mean of factors of different ranks."""
    rank = given.rank

    def pad(name: str, tensor: Tensor) -> Tensor:
        if name.endswith(A):
            return torch.nn.functional.pad(tensor.double(), (0, 0, 0, rank - tensor.shape[0]))
        if name.endswith(B):
            return torch.nn.functional.pad(tensor.double(), (0, rank - tensor.shape[1]))
        return tensor.double()

    return {
        n: sum(w * pad(n, u[n]) for w, u in zip(given.weights, given.updates, strict=True))
        for n in given.updates[0]
    }


def one_scale_for_all(given: LoRARound) -> dict[str, Tensor]:
    """Alpha / r is forgotten: all products have the global scale."""
    scales = [given.scale] * len(given.scales)
    return stored(given, products(given, scales)) | mean(given, given.others)


def never_the_root_of_the_rank(given: LoRARound) -> dict[str, Tensor]:
    """Alpha / r in a rank-stabilised LoRA."""
    ranks = [u[given.layers[0] + A].shape[0] for u in given.updates]
    scales = [alpha / r for alpha, r in zip(given.alphas, ranks, strict=True)]
    return stored(given, products(given, scales)) | mean(given, given.others)


def as_if_all_were_linear(given: LoRARound) -> dict[str, Tensor]:
    """Changes of GPT-2's Conv1D as [out, in]."""
    changes = {f"{n}.weight": c for n, c in products(given, list(given.scales)).items()}
    return changes | mean(given, given.others)


def as_if_all_square_were_linear(given: LoRARound) -> dict[str, Tensor]:
    """The same where the shapes do not tell."""
    changes = products(given, list(given.scales))
    right = stored(given, changes)
    return {
        **right,
        **{f"{n}.weight": c for n, c in changes.items() if c.shape[0] == c.shape[1]},
        **mean(given, given.others),
    }


def swapped_factors(given: LoRARound) -> dict[str, Tensor]:
    """Aᵀ is taken for B where the matrices are not square."""
    returned = exact(given)
    return {n: t.T if t.ndim > 1 and t.shape[0] != t.shape[1] else t for n, t in returned.items()}


def first_head(given: LoRARound) -> dict[str, Tensor]:
    """Of what is no factor, the first client's."""
    return exact(given) | {n: given.updates[0][n] for n in given.others}


def no_head(given: LoRARound) -> dict[str, Tensor]:
    return stored(given, products(given, list(given.scales)))


def without_clients_of_zeros(given: LoRARound) -> dict[str, Tensor]:
    """The mean over those that have changed something."""
    moved = [any(bool(t.any()) for t in u.values()) for u in given.updates]
    total = sum(w for w, there in zip(given.weights, moved, strict=True) if there)
    weights = [w / total * there for w, there in zip(given.weights, moved, strict=True)]
    changes = {
        layer: sum(
            w * s * (u[layer + B].double() @ u[layer + A].double())
            for w, s, u in zip(weights, given.scales, given.updates, strict=True)
        )
        for layer in given.layers
    }
    return stored(given, changes) | mean(given, given.others, weights)


def scaled_twice(given: LoRARound) -> dict[str, Tensor]:
    """Factors that have the scale already are multiplied by it again."""
    return {
        n: t * given.scale if n.endswith(B) else t
        for n, t in mean(given, list(given.updates[0])).items()
    }


def the_last_layer_everywhere(given: LoRARound) -> dict[str, Tensor]:
    """A loop's variable that outlives it: all layers of one shape get the last one's change."""
    changes = products(given, list(given.scales))
    last = {tuple(change.shape): change for change in changes.values()}
    return stored(given, {n: last[tuple(c.shape)] for n, c in changes.items()}) | mean(
        given, given.others
    )


def in_numpy(given: LoRARound) -> dict[str, Tensor]:
    """NumPy, as many servers have it, knows no bfloat16."""
    return {
        n: torch.from_numpy(
            sum(w * u[n].numpy() for w, u in zip(given.weights, given.updates, strict=True))
        )
        for n in given.updates[0]
    }


# By the rule: the case that names its fault.
WRONG = {
    scaled_twice: "one client",
    first_client_times_its_weight: "equal clients",
    unweighted: "weights 3 : 1",
    first_client: "order of clients",
    transposed_residual: "square matrices",
    swapped_factors: "non-square matrices",
    as_if_all_were_linear: "transposed layers",
    as_if_all_square_were_linear: "transposed layers",
    the_last_layer_everywhere: "several target modules",
    padded_with_zeros: "mixed ranks",
    one_scale_for_all: "mixed alpha",
    never_the_root_of_the_rank: "rank-stabilised",
    first_head: "a head",
    no_head: "a head",
    in_numpy: "bfloat16",
    without_clients_of_zeros: "a client of zeros",
}
