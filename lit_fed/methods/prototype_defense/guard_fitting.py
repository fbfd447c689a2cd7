"""Fitting of a guard: the server embeds the references, and makes prototypes of them and a gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from lit_fed.configuration_error import ConfigurationError
from lit_fed.losses import fit_projector
from lit_fed.methods.prototype_defense.encoders.gate_encoder import GateEncoder, pooled
from lit_fed.methods.prototype_defense.guard import Guard
from lit_fed.methods.prototype_defense.references import References
from lit_fed.methods.teachers import silent
from lit_fed.prototypes import Gate, PrototypeSet, fit_prototypes

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.module import FederatedModule


def fit_guard(
    module: FederatedModule,
    references: References,
    encoder: GateEncoder,
    gate: Gate,
    num_prototypes: int,
    supervised: bool,
    project: bool,
    seed: int,
    layers: Sequence[int] = (),
) -> Guard:
    """Server: prototypes, the gate and the projector of the references.

    Args:
        module: The method, with its data, as it was built.
        references: The references.
        encoder: Makes their vectors; is fitted first.
        gate: Judges by them.
        num_prototypes: P.
        supervised: Whether prototypes are means of classes.
        project: Whether a map from the student's states to the encoder's is fitted.
        seed: Of k-means++.
        layers: Further layers that have prototypes.

    Raises:
        ConfigurationError: If the references are too few, or the encoder makes no usable vectors of them.
    """
    fitted = len(references.fitted)
    if not supervised and fitted < num_prototypes:
        held_out = 0 if references.held_out is None else len(references.held_out)
        raise ConfigurationError(
            "`model.num_prototypes` is expected to be at most the number of references that are not held out, "
            f"{fitted} of {fitted + held_out}, but got {num_prototypes}"
        )
    weights = encoder.fit(module, references.fitted)
    encoder.load(weights)
    states, deeper = encoder.states_of(module, references.fitted, layers)
    held = states[:0]
    if references.held_out is not None:
        held, _ = encoder.states_of(module, references.held_out)
    texts = module.data.encoding.inputs(references.fitted)
    fit = partial(
        fit_prototypes,
        labels=references.labels,
        n=num_prototypes,
        seed=seed,
        supervised=supervised,
        encoder=encoder.digest(weights),
        names=references.names,
    )
    try:
        prototypes = fit(states, texts=texts)
        of_layers = {layer: fit(own) for layer, own in zip(layers, deeper, strict=True)}
        gate.check(prototypes)
        learnt = _fitted_gate(gate, states, references, held)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    map_of_states: Mapping[str, Tensor] = {}
    if project:
        own = torch.cat([_student(module, batch) for batch in module.batches(references.fitted)])
        map_of_states = fit_projector(own, states).state_dict()
    metrics = _metrics(prototypes, states, references, held)
    right = metrics.get("encoder_accuracy")
    unseen = (
        "" if right is None else f" {right:.1%} of {len(held)} that it has not seen are nearest"
    )
    rank_zero_info(
        f"{len(prototypes)} prototypes of {len(states)} references by {type(encoder).__name__}"
        f"{'' if right is None else ';' + unseen + ' to one of their class'}"
    )
    if right is not None:
        _say_where_unfit(encoder, right, references.held_out_labels)
    return Guard(prototypes, weights, learnt, map_of_states, of_layers, metrics)


def _fitted_gate(
    gate: Gate, states: Tensor, references: References, held: Tensor
) -> dict[str, Tensor]:
    """What the gate learns of the references; nothing where these have no classes."""
    labels, held_out_labels = references.labels, references.held_out_labels
    if labels is None or held_out_labels is None:
        return {}
    return gate.fit(states, labels, held, held_out_labels)


def _say_where_unfit(encoder: GateEncoder, right: float, labels: Tensor | None) -> None:
    """Warn of an encoder that knows little of the classes."""
    if labels is None or (most := float(labels.bincount().max()) / len(labels)) <= 2 * right - 1:
        return
    rank_zero_warn(
        f"`model.encoder` {type(encoder).__name__} is right about {right:.1%} of the references that it has not seen, "
        f"nearer to always saying the commonest class ({most:.1%}) than to all: a gate by it drops clean rows and "
        "keeps poisoned ones"
    )


def require_width(
    module: FederatedModule, rows: Dataset, prototypes: PrototypeSet, layers: Sequence[int] = ()
) -> None:
    """Refuse a student whose states cannot be compared with the prototypes.

    Args:
        module: The method, with its data.
        rows: Of which the first one is tried.
        prototypes: The prototypes.
        layers: Further layers that have prototypes, for which there is no projector.

    Raises:
        ConfigurationError: If the widths differ.
    """
    (batch,) = module.batches(rows.select([0]))
    width, expected = _student(module, batch).shape[-1], prototypes.vectors.shape[-1]
    if width != expected and layers:
        raise ConfigurationError(
            f"`model.layers` are expected to be null where the student's width, {width}, is not that of the encoder, "
            f"{expected}, since a projector fits one layer, but got {list(layers)}: without them, `model.project` true "
            "fits one on the references"
        )
    if width != expected:
        raise ConfigurationError(
            f"`model.project` is expected to be true where the student's width, {width}, is not that of the encoder, "
            f"{expected}: it fits a projector on the references"
        )


def _student(module: FederatedModule, batch: Mapping[str, Tensor]) -> Tensor:
    with silent(module.backbone):
        return pooled(module.backbone(batch, output_hidden=True)).float().cpu()


def _metrics(
    prototypes: PrototypeSet, states: Tensor, references: References, held: Tensor
) -> dict[str, float]:
    """Shares from 0 to 1: of references, and of unseen ones, whose nearest prototype is of their class."""

    def right(vectors: Tensor, labels: Tensor) -> float:
        return float((prototypes.classes[prototypes.nearest(vectors)] == labels).double().mean())

    told: dict[str, float] = {}
    if references.labels is not None:
        told["purity"] = right(states, references.labels)
    if len(held) and references.held_out_labels is not None:
        told["encoder_accuracy"] = right(held, references.held_out_labels)
    return told
