"""Soft predictions on the public set by row id, as they cross the wire: q_k and P̄."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from lit_fed.configuration_error import ConfigurationError
from lit_fed.data.features import IGNORED
from lit_fed.losses import TopK, mixture, mixture_top_k, soft_predictions, top_k

# A batch's row ids [B], mask [B] or [B, L-1], and logits [B, C] or [B, L-1, V].
Predicted = tuple[Tensor, Tensor, Tensor]


def places_of(batches: Iterable[Mapping[str, Tensor]]) -> Tensor:
    """How many places with a loss a language model has in each row, in the rows' order, [|U|] in int32.

    Args:
        batches: Batches of the public set in any order.
    """
    counts: dict[int, int] = {}
    for batch in batches:
        labels = batch.get("labels")
        taken = batch["attention_mask"] > 0 if labels is None else labels != IGNORED
        places = taken[:, 1:].sum(-1).tolist()
        counts |= dict(zip(batch["index"].tolist(), places, strict=True))
    return torch.tensor([counts[row] for row in sorted(counts)], dtype=torch.int32)


class PublicPredictions(ABC):
    """One model's, or the clients' aggregate, soft predictions at the method's temperature."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """What is sent."""

    @abstractmethod
    def of(self, index: Tensor, mask: Tensor) -> Tensor | TopK:
        """The predictions for the rows of a batch.

        Args:
            index: Row ids, [B].
            mask: Where the batch's loss is taken, [B] or [B, L-1].
        """

    @staticmethod
    def read(tensors: Mapping[str, Tensor]) -> PublicPredictions | None:
        """What :meth:`tensors` gave; None of nothing."""
        if not tensors:
            return None
        return TokenPredictions(**tensors) if "indices" in tensors else ClassPredictions(**tensors)


class ClassPredictions(PublicPredictions):
    """Probabilities of a classifier, in |U|·C·2 bytes: row i is about sample i.

    Args:
        probs: [|U|, C], float16.
    """

    def __init__(self, probs: Tensor) -> None:
        self.probs = probs

    def tensors(self) -> dict[str, Tensor]:
        """``probs``, [|U|, C], float16."""
        return {"probs": self.probs}

    def of(self, index: Tensor, mask: Tensor) -> Tensor:
        """[B, C]."""
        return self.probs[index.cpu()].to(index.device)

    @classmethod
    def of_model(cls, batches: Iterable[Predicted], temperature: float) -> ClassPredictions:
        """What a model predicts, of all batches of the public set in any order."""
        index, _, logits = (torch.cat(parts) for parts in zip(*batches, strict=True))
        probs = soft_predictions(logits, temperature).exp()
        return cls(probs[index.argsort()].half().cpu())

    @classmethod
    def mixed(cls, sent: Sequence[ClassPredictions], weights: Tensor) -> ClassPredictions:
        """P̄ = Σ w_k q_k, with weights [K]."""
        log_probs = torch.stack([one.probs.float().log() for one in sent])
        return cls(mixture(log_probs, weights).exp().half())


class TokenPredictions(PublicPredictions):
    """The top k of a language model at every place with a loss; the rest is one lump, the tail, and softened so.

    Sample i has ``lengths[i]`` places, N in all: (4 + 2)·k·N + 4·|U| bytes.

    Args:
        lengths: [|U|], int32.
        indices: Token ids, [N, k], int32.
        probs: [N, k], float16; what is missing to 1 is the tail's mass.
    """

    def __init__(self, lengths: Tensor, indices: Tensor, probs: Tensor) -> None:
        self.lengths = lengths
        self.indices = indices
        self.probs = probs
        self._ends = lengths.long().cumsum(0)

    def tensors(self) -> dict[str, Tensor]:
        """``lengths`` [|U|] and ``indices`` [N, k] in int32, ``probs`` [N, k] in float16."""
        return {"lengths": self.lengths, "indices": self.indices, "probs": self.probs}

    def of(self, index: Tensor, mask: Tensor) -> TopK:
        """[B, L-1, k], 0 where there is no loss.

        Raises:
            ConfigurationError: If the rows' places are not those that were predicted.
        """
        rows = index.cpu()
        expected = self.lengths[rows].long()
        if not torch.equal(mask.sum(-1).cpu(), expected):
            raise ConfigurationError(
                f"the consensus is expected to be about the same tokens as the public batch, but "
                f"samples {rows.tolist()} have {mask.sum(-1).tolist()} and not {expected.tolist()}: "
                f"clients' tokenizers or `data.max_length` differ"
            )
        begins = (self._ends[rows] - expected).tolist()
        taken = torch.cat(
            [torch.arange(b, b + n) for b, n in zip(begins, expected.tolist(), strict=True)]
        )
        shape = (*mask.shape, self.indices.shape[-1])
        indices = torch.zeros(shape, dtype=torch.long, device=mask.device)
        probs = torch.zeros(shape, dtype=torch.float32, device=mask.device)
        indices[mask] = self.indices[taken].long().to(mask.device)
        probs[mask] = self.probs[taken].float().to(mask.device)
        return TopK(indices, probs)

    @classmethod
    def of_model(cls, batches: Iterable[Predicted], temperature: float, k: int) -> TokenPredictions:
        """What a model predicts, of all batches of the public set in any order."""
        rows: dict[int, TopK] = {}
        for index, mask, logits in batches:
            for row, places, values in zip(index.tolist(), mask, logits, strict=True):
                rows[row] = top_k(values[places], k, temperature).to("cpu")
        ordered = [rows[row] for row in sorted(rows)]
        return cls(
            torch.tensor([len(row.probs) for row in ordered], dtype=torch.int32),
            torch.cat([row.indices for row in ordered]).int(),
            torch.cat([row.probs for row in ordered]).half(),
        )

    @classmethod
    def mixed(cls, sent: Sequence[TokenPredictions], weights: Tensor) -> TokenPredictions:
        """The top k of P̄ = Σ w_k q_k, with weights [K]."""
        cut = mixture_top_k(
            [TopK(one.indices, one.probs) for one in sent], weights, sent[0].indices.shape[-1]
        )
        return cls(sent[0].lengths, cut.indices.int(), cut.probs.half())
