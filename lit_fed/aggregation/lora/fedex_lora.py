"""FedEx-LoRA: the mean of the factors, and what it lacks of the mean change folded into the base."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lit_fed.aggregation.aggregation import BASE_CHANGE
from lit_fed.aggregation.lora.factors import Factors
from lit_fed.aggregation.lora.folding_rule import FoldingRule
from lit_fed.payload import Payload
from lit_fed.update import Update


class FedExLoRA(FoldingRule):
    r"""The mean of the factors, with the error that it makes added to the frozen base (FedEx-LoRA).

    .. math::
        \bar A = \sum_k w_k A_k, \qquad \bar B = \sum_k w_k B_k, \qquad
        W \leftarrow W + s \Big( \sum_k w_k B_k A_k - \bar B \bar A \Big)

    Singhal et al., "FedEx-LoRA: Exact Aggregation for Federated and Efficient Fine-Tuning of Foundation Models", 2024,
    Eqs. 9 to 11, https://arxiv.org/abs/2410.09432, where clients weigh the same. The residual has the rank
    (K − 1)·r, by which it is computed and sent:

    .. math:: \sum_k w_k B_k A_k - \bar B \bar A = \sum_{k < K} w_k (B_k - \bar B) (A_k - A_K)

    It is 0 bit for bit where all clients send the same. What is no factor, such as a head, is the weighted mean.

    **Exact**: the next global model is the mean of the clients' models, but for roundings.

    **Bytes**: up, a client's factors and head. Down, their means and the sum of all rounds' residuals, so that a client
    that comes late needs nothing else: per weight P [out, R] and Q [R, in], where R grows by (K − 1)·r a round, until
    they would be larger than the weight, and from then on a matrix [out, in]. After a few rounds a download is
    therefore as large as the adapted weights themselves.

    **Server**: time and memory are linear in the clients' factors, and one weight at a time is a matrix.

    All clients have the same rank: factors of different ones have no mean (``FLoRA`` and ``FlexLoRA`` take them). The
    base has to be of floats (not quantised). On a base of bfloat16 what is folded is rounded to it, once and not in
    each round; the part that is lost is warned of.

    Args:
        weights: What a client's weight w_k is proportional to, as in ``WeightedAverage``.
        score: The client metric used by ``validation``, larger is better.

    Raises:
        ValueError: When the method is built, if its adapter is no plain LoRA, or a weight under it is quantised or tied
            to another one.

    Example:
        >>> from peft import LoraConfig
        >>> from lit_fed.backbones import SequenceClassifier
        >>> backbone = SequenceClassifier(peft=LoraConfig(r=4, lora_alpha=8, target_modules=["query"]))
        >>> rule = FedExLoRA()
        >>> rule.setup(backbone)
        >>> sent = [Update(name, Payload(backbone.trainable()), num_samples=1) for name in ("a", "b")]
        >>> change = rule(sent, previous=Payload()).parts["base_change"]
        >>> sorted({tuple(tensor.shape) for tensor in change.tensors.values()})
        [(4, 128), (128, 4)]
    """

    def __call__(self, updates: Sequence[Update], previous: Payload) -> Payload:
        """The means, and in the part ``base_change`` the sum of all residuals so far.

        Raises:
            ValueError: If there is no update, clients hold other tensors, or something that has no mean differs.
        """
        mean = super().__call__(updates, previous)
        sent = [self.layout.factors(update.payload.tensors) for update in updates]
        kept = self.layout.factors(mean.tensors)
        change = self.grow(previous, sent, self.weights(updates), residual, kept)
        return mean.with_parts({BASE_CHANGE: change})


def residual(factors: Sequence[Factors], weights: Sequence[float]) -> list[tuple[Tensor, Tensor]]:
    """s·(Σ w_k B_k A_k − B̄Ā) as a sum of products of K − 1 pairs, in float64.

    Args:
        factors: Of K clients for one weight, of one rank and scale.
        weights: w_k, with the sum 1.

    Returns:
        L [out, r] and R [r, in] of each pair.

    Example:
        >>> ones = Factors(a=torch.ones(1, 2), b=torch.ones(2, 1), scale=2.0)
        >>> zeros = Factors(a=torch.zeros(1, 2), b=torch.zeros(2, 1), scale=2.0)
        >>> [(left, right)] = residual([ones, zeros], [0.5, 0.5])
        >>> left @ right  # 2·(½·1 − ½·½)
        tensor([[0.5000, 0.5000],
                [0.5000, 0.5000]], dtype=torch.float64)
    """
    last = factors[-1]
    mean = torch.zeros_like(last.b, dtype=torch.float64)
    for one, weight in zip(factors, weights, strict=True):
        mean.add_(one.b.double(), alpha=weight)
    return [
        ((one.b.double() - mean) * (weight * one.scale), one.a.double() - last.a.double())
        for one, weight in zip(factors[:-1], weights[:-1], strict=True)
    ]
