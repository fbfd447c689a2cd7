"""Federations of plain SGD beside which methods are put, on deep copies and without code of the library."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_fed import FederatedModule
from tests.federation.toy import toy_data, toy_rows, toy_trainer
from tests.methods.test_two_rounds import Record, Witness

Values = dict[str, Tensor]


def recorded(
    module: FederatedModule, folder: Path, **settings: Any
) -> tuple[Record, Any, nn.Module]:
    """A run in float64 of four unequal clients, what chance has decided in it, and the model before it."""
    with torch.no_grad():  # LoRA's B is 0 at first, and then A has no gradient
        for parameter in module.backbone.trainable().values():
            parameter += 0.1 * torch.randn(parameter.shape)
    initial = copy.deepcopy(module.backbone.model).double().eval()
    given = {
        "max_rounds": 3,
        "precision": "64-true",
        "gradient_clip_val": None,
        "test_at_end": False,
        "local_epochs": 2,
    }
    record = Record()
    trainer = toy_trainer(folder, callbacks=[Witness(record)], **given | settings)
    trainer.fit(module, toy_data(train=toy_rows(70, 0), num_clients=4, batch_size=5))
    return record, trainer, initial


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {n: p for n, p in model.named_parameters() if p.requires_grad}


def under_names_of_payloads(values: Mapping[str, Tensor]) -> Values:
    return {
        name.replace(".modules_to_save", "").replace(".default", ""): value.detach()
        for name, value in values.items()
    }


def logits(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    found: Tensor = model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
    ).logits
    return found


def cross_entropy(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return F.cross_entropy(logits(model, batch), batch["labels"])


def local_sgd(
    model: nn.Module,
    start: Values,
    batches: list[dict[str, Tensor]],
    rate: Callable[[int], float],
    change: Callable[[str, Tensor, Tensor], Tensor],
    loss: Callable[[nn.Module, dict[str, Tensor]], Tensor] = cross_entropy,
) -> tuple[Values, float]:
    """A client's steps.

    Args:
        model: Any model of its kind.
        start: The values it begins with.
        batches: One a step.
        rate: The learning rate of each step, from 0.
        change: Of a parameter's name, its value and its gradient what it follows instead of this.
        loss: Of the model and a batch.

    Returns:
        The values it ends with, and the sum of its learning rates.
    """
    model = copy.deepcopy(model)
    own = trained(model)
    for name, value in start.items():
        own[name].data = value.clone()
    total = 0.0
    for step, batch in enumerate(batches):
        gradients = torch.autograd.grad(loss(model, batch), list(own.values()))
        for (name, parameter), gradient in zip(own.items(), gradients, strict=True):
            parameter.data -= rate(step) * change(name, parameter.data, gradient)
        total += rate(step)
    return {name: parameter.detach().clone() for name, parameter in own.items()}, total
