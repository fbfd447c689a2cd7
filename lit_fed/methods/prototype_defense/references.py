"""References: the clean rows that prototypes are made of, in two parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from lit_fed.configuration_error import ConfigurationError
from lit_fed.data.clean_references import clean_references
from lit_fed.data.columns import select_rows
from lit_fed.data.sources import Source

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.module import FederatedModule


@dataclass(frozen=True)
class References:
    """The references, of which some are held out of the encoder's fitting.

    Attributes:
        fitted: Those that encoder and prototypes are fitted on.
        labels: Their classes, [N]; None where rows have answers in the place of labels.
        held_out: The others; None where there are none.
        held_out_labels: Their classes, [n].
        names: The names of all classes.
    """

    fitted: Dataset
    labels: Tensor | None
    held_out: Dataset | None
    held_out_labels: Tensor | None
    names: tuple[str, ...]


def reference_rows(module: FederatedModule, source: Source | Dataset | None) -> Dataset:
    """The rows of the references.

    Args:
        module: The method, with its data.
        source: Where they are. None: the public set of the data.

    Raises:
        ConfigurationError: If there are none, they cannot be read, or the model does not have the label of one.
    """
    try:
        return clean_references(source, module.data, "model.references", True, module.backbone)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error


def split_references(
    module: FederatedModule, rows: Dataset, held_out: float, seed: int
) -> References:
    """Divide the references, within each class where rows have one.

    Args:
        module: The method, with its data.
        rows: The references.
        held_out: The share of each class that is held out; of each at least one stays.
        seed: Of which they are.

    Raises:
        ConfigurationError: If a class of the data has no reference, or a row no label of the data.
    """
    if module.backbone.classifies is False:
        return _divided(rows, held_out, seed)
    try:
        labels = torch.cat([batch["labels"].cpu() for batch in module.batches(rows)])
    except ValueError as error:
        raise ConfigurationError(f"`model.references`: {error}") from error
    named = module.data.encoding.names
    count = module.backbone.num_labels or int(labels.max()) + 1
    names = tuple(named or (str(label) for label in range(count)))
    outside = (labels < 0) | (labels >= len(names))
    if bool(outside.any()):
        raise ConfigurationError(
            f"`model.references` are expected to have one of the {len(names)} labels of the data each, but "
            f"{int(outside.sum())} of {len(labels)} have none of these"
        )
    draw = np.random.default_rng(seed)
    kept: list[int] = []
    for label, name in enumerate(names):
        places = np.flatnonzero(labels.numpy() == label)
        if not len(places):
            of_model = f"; the labels have no names, and `model.backbone` has {count} of them"
            raise ConfigurationError(
                f"`model.references` are expected to have rows of each class, but have none of {name!r}"
                f"{'' if named else of_model}"
            )
        kept += draw.permutation(places)[int(held_out * len(places)) :].tolist()
    _say_where_unseen(held_out, len(labels) - len(kept))
    fitted = np.sort(kept)
    others = np.setdiff1d(np.arange(len(labels)), fitted)
    return References(
        select_rows(rows, fitted),
        labels[fitted],
        select_rows(rows, others) if len(others) else None,
        labels[others],
        names,
    )


def _divided(rows: Dataset, held_out: float, seed: int) -> References:
    """References without classes."""
    order = np.random.default_rng(seed).permutation(len(rows))
    _say_where_unseen(held_out, int(held_out * len(rows)))
    out, fitted = np.split(order, [int(held_out * len(rows))])
    others = select_rows(rows, np.sort(out)) if len(out) else None
    return References(select_rows(rows, np.sort(fitted)), None, others, None, ())


def _say_where_unseen(share: float, held_out: int) -> None:
    """Warn where no reference is held out, though some should be, so that nothing tells how good the encoder is.

    Args:
        share: Of each class that should be.
        held_out: How many are.
    """
    if share and not held_out:
        rank_zero_warn(
            f"`model.held_out` {share} leaves no reference to be held out, of so few of each class: nothing will tell "
            "how many rows that it has not seen the encoder is right about"
        )
