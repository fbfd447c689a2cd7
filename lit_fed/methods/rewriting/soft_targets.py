"""Soft targets: rewriting's analogue for classification."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_fed.configuration_error import ConfigurationError
from lit_fed.limits import require_positive
from lit_fed.losses import soft_predictions
from lit_fed.methods.rewriting.self_distillation import SelfDistillation
from lit_fed.payload import Payload

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.module import FederatedModule

_ROWS: Final = "rows"
_PREDICTIONS: Final = "predictions"


class SoftTargets(SelfDistillation):
    r"""Clients mix their labels with what the model that they have downloaded predicts, and train on that.

    .. math:: \tilde y = (1 - \kappa) \, \mathrm{onehot}(y) + \kappa \, \mathrm{softmax}(z_\theta / T)

    The analogue of :class:`Rewriting` for models that classify. θ is the initial global model; of a client that comes
    later or, with ``refresh_every``, of all, the global model of that moment. A row that has no label is a
    prediction alone, whose loss is not taken.

    Args:
        kappa: κ in [0, 1], the weight of the model's predictions. 0: the labels.
        temperature: T > 0.
        refresh_every: Every how many rounds all clients do it again. None: once.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> SoftTargets(kappa=0.25).kappa
        0.25
    """

    def __init__(
        self, kappa: float = 0.5, temperature: float = 1.0, refresh_every: int | None = None
    ) -> None:
        super().__init__(refresh_every)
        if not 0 <= kappa <= 1:
            raise ValueError(
                f"`model.rewriting.kappa` is expected to be in [0, 1], but got {kappa!r}"
            )
        self.kappa = kappa
        self.temperature = require_positive("model.rewriting.temperature", temperature)

    def check(self, module: FederatedModule) -> None:
        """Say before training that the model does not classify; see the base class.

        Raises:
            ConfigurationError: If it does not.
        """
        if module.backbone.classifies is False:
            raise ConfigurationError(
                f"`model.rewriting` SoftTargets expects `model.backbone` to be one that classifies, such as "
                f"SequenceClassifier, but got {type(module.backbone).__name__}; for one that generates there is "
                "lit_fed.methods.rewriting.Rewriting"
            )

    @torch.no_grad()
    def prepare(self, module: FederatedModule, rows: Dataset) -> Payload:
        """Client: predict its rows; see the base class.

        Returns:
            ``rows`` [N], their ids in order, and ``predictions`` [N, C], float32.
        """
        ids, predictions = [], []
        for batch in module.batches(rows):
            prediction = module(batch)
            ids.append(batch["index"])
            predictions.append(soft_predictions(prediction.logits, self.temperature).exp().float())
        in_order, order = torch.cat(ids).sort()
        return Payload({_ROWS: in_order, _PREDICTIONS: torch.cat(predictions)[order]})

    def soft_targets(self, batch: Mapping[str, Tensor], prepared: Payload) -> Tensor | None:
        """Client: ỹ of a batch's rows by the labels that they have now, [B, C]; see the base class.

        Raises:
            RuntimeError: If a row has no prediction.
        """
        wanted = batch["index"].cpu()
        ids = prepared.tensors[_ROWS]
        places = torch.searchsorted(ids, wanted).clamp(max=len(ids) - 1)
        if bool((ids[places] != wanted).any()):
            row = int(wanted[ids[places] != wanted][0])
            raise RuntimeError(
                f"all rows of a client are expected to have soft targets, but row {row} has none"
            )
        predicted = prepared.tensors[_PREDICTIONS][places].to(batch["index"].device)
        known = F.one_hot(batch["labels"].clamp(min=0), predicted.shape[-1]).to(predicted)
        return (1 - self.kappa) * known + self.kappa * predicted
