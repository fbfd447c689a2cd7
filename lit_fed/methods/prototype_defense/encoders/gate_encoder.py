"""The base class of the encoders by whose vectors rows are judged."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lit_fed.backbones import Backbone, Prediction
from lit_fed.losses import mean_pool
from lit_fed.methods.prototype_defense.layer_states import layer_states
from lit_fed.methods.teachers import Teacher

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.module import FederatedModule


class GateEncoder(ABC):
    """Makes a vector of each row: the mean of the last hidden state over its tokens, without dropout or gradient."""

    @abstractmethod
    def attach(self, student: Backbone, teacher: Teacher) -> None:
        """Receive the models of the method, once, when it is built.

        Args:
            student: The backbone that is trained.
            teacher: The teacher, where the method has one that it uses.

        Raises:
            ValueError: If they do not fit the encoder.
        """

    def fit(self, module: FederatedModule, references: Dataset) -> dict[str, Tensor]:
        """Server: learn from references with labels. Default: nothing.

        Args:
            module: The method, with its data.
            references: The rows.

        Returns:
            The weights that clients need to have the same encoder.
        """
        return {}

    # Not abstract: most encoders have nothing that is sent.
    def load(self, weights: Mapping[str, Tensor]) -> None:  # noqa: B027
        """Take what :meth:`fit` gave, on whichever side.

        Args:
            weights: The weights.
        """

    @property
    @abstractmethod
    def backbone(self) -> Backbone:
        """The model whose states it gives.

        Raises:
            RuntimeError: If it is not attached yet.
        """

    @abstractmethod
    def states(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The vectors of a batch, [B, d].

        Args:
            batch: Tokenised for :attr:`backbone`, on the model's device.
        """

    def batches(self, module: FederatedModule, rows: Dataset) -> Iterator[Mapping[str, Tensor]]:
        """Rows in their order, tokenised for :attr:`backbone`. Default: as the student reads them.

        Args:
            module: The method, with its data.
            rows: The rows.
        """
        return module.batches(rows)

    def digest(self, weights: Mapping[str, Tensor]) -> str:
        """What tells the encoder with these weights from others.

        Args:
            weights: What :meth:`fit` gave.
        """
        key = hashlib.blake2b(digest_size=8)
        identity = sorted(self.backbone.identity.items())
        key.update(repr((type(self).__name__, identity)).encode())
        for name, tensor in sorted(weights.items()):
            key.update(f"{name} {list(tensor.shape)}".encode())
            key.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
        return key.hexdigest()

    def states_of(
        self, module: FederatedModule, rows: Dataset, layers: Sequence[int] = ()
    ) -> tuple[Tensor, list[Tensor]]:
        """The vectors of rows, in their order, [N, d], and those by further layers, in float32 on the CPU.

        Args:
            module: The method, with its data.
            rows: The rows, at least one.
            layers: The layers.
        """
        found: list[list[Tensor]] = []
        # what clients have changed under the adapters is no part of the encoder
        with self.backbone.unfolded():
            for batch in self.batches(module, rows):
                with layer_states(self.backbone, layers) as held:
                    own = [self.states(batch)]
                mask = batch.get("attention_mask")
                length = batch["input_ids"].shape[1]
                own += [mean_pool(held[layer][:, -length:], mask) for layer in layers]
                found.append([states.detach().float().cpu() for states in own])
        last, *deeper = (torch.cat(parts) for parts in zip(*found, strict=True))
        return last, deeper


def pooled(prediction: Prediction) -> Tensor:
    """The mean of a pass's last hidden state over tokens, [B, d].

    Args:
        prediction: With its hidden state, [B, L, d], or that already pooled.

    Raises:
        ValueError: If there is none.
    """
    hidden = prediction.hidden
    if hidden is None:
        raise ValueError(
            "a pass of the gate's encoder is expected to have hidden states, but has none"
        )
    return hidden if hidden.dim() == 2 else mean_pool(hidden, prediction.attention_mask)
