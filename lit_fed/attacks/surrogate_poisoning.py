"""The backdoor by rows that a defence's encoder errs on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor

from lit_fed.attacks.trigger_poisoning import TriggerPoisoning
from lit_fed.attacks.triggers.trigger import Trigger
from lit_fed.backbones.padding import undisturbed
from lit_fed.data.clean_references import clean_references
from lit_fed.fitting import fit_classifier
from lit_fed.limits import require_at_least, require_positive

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.data import FederatedDataModule
    from lit_fed.data.sources.source import Source
    from lit_fed.module import FederatedModule


class SurrogatePoisoning(TriggerPoisoning):
    """Poisons only rows of other labels that a classifier of the references takes for the target already.

    A gate keeps a row whose label agrees with what its encoder makes of the text. An attacker who has the same model
    and references fits a classifier of their own, the surrogate, and gives the target's label to rows that the
    surrogate calls the target: the gate's encoder, which has learnt the same, mostly agrees with that label. It is the
    adaptive attack on :class:`~lit_fed.PrototypeDefense`. Choosing what to poison by a surrogate that the attacker
    trains is as old as Biggio, Nelson and Laskov, "Poisoning Attacks against Support Vector Machines", 2012, §3,
    https://arxiv.org/abs/1206.6389.

    The surrogate is a copy of the method's model as it was built, with the same part that trains; it is fitted before
    a fit begins and then forgotten.

    Args:
        trigger: What is written.
        target: The label that the attacker wants, by its name, or its number where labels have no names.
        rate: The share of the rows of all clients that are poisoned, above 0 and at most 1. There may be few rows
            to choose from: an error says how many there are.
        column: The column that the trigger is written into. None: the first text that the model reads.
        references: What the attacker knows of the defence's references. None: the public set of the data.
        epochs: Passes of the surrogate over the references.
        lr: Its first learning rate, which falls linearly to 0.
        batch_size: Rows of a batch.
        **kwargs: Which clients and rows, and until when; see :class:`RowPoisoning`.

    Raises:
        TypeError: If ``trigger`` is none.
        ValueError: If a number is out of range; before a fit, if there are no references with labels of the model,
            nothing of it trains or it does not classify, and what :class:`TriggerPoisoning` raises.

    Example:
        >>> from lit_fed.attacks.triggers import SentenceTrigger
        >>> attack = SurrogatePoisoning(SentenceTrigger("I saw it."), target="yes", rate=0.01, clients=["client-0"])
        >>> attack.poison, attack.epochs
        ('dirty', 8)
    """

    def __init__(
        self,
        trigger: Trigger,
        target: str | int,
        rate: float = 0.01,
        column: str | None = None,
        references: Source | None = None,
        epochs: int = 8,
        lr: float = 1e-3,
        batch_size: int = 16,
        **kwargs: Any,
    ) -> None:
        super().__init__(trigger, target, rate, "dirty", column, **kwargs)
        name = f"trainer.attachments {type(self).__name__}"
        self.references = references
        self.epochs = require_at_least(f"{name}.epochs", epochs, 1)
        self.lr = require_positive(f"{name}.lr", lr)
        self.batch_size = require_at_least(f"{name}.batch_size", batch_size, 1)
        self._surrogate: Callable[[Dataset], npt.NDArray[np.int64]] | None = None
        self._mistaken = 0

    def attach(self, module: FederatedModule, data: FederatedDataModule) -> None:
        """Fit the surrogate, and choose among the rows that it takes for the target."""
        if module.backbone.classifies is False:
            raise ValueError(
                f"{self.setting} expects `model.backbone` to classify, but {type(module.backbone).__name__} does not"
            )
        setting = f"trainer.attachments {type(self).__name__}.references"
        references = clean_references(self.references, data, setting, True, module.backbone)
        self._mistaken = 0
        self._surrogate = self._fitted(module, data, references)
        super().attach(module, data)
        self._surrogate = None  # needs as much memory as the model

    def eligible(self, rows: Dataset) -> npt.NDArray[np.bool_]:
        """Rows of other labels that the surrogate takes for the target."""
        if self._surrogate is None:
            raise RuntimeError(f"{self.setting} is expected to be attached to data before it acts")
        mistaken = super().eligible(rows) & np.equal(self._surrogate(rows), self._target)
        self._mistaken += int((mistaken & self._candidates(rows)).sum())
        return mistaken

    def summarised(self) -> Mapping[str, Any]:
        """How many rows are poisoned, and among how many they could be chosen."""
        return {**super().summarised(), "rows_taken_for_target": self._mistaken}

    def _fitted(
        self, module: FederatedModule, data: FederatedDataModule, references: Dataset
    ) -> Callable[[Dataset], npt.NDArray[np.int64]]:
        """What gives the surrogate's classes of rows, [N]."""
        surrogate = deepcopy(module.backbone)
        learns = [p for p in surrogate.trainable().values() if p.requires_grad]
        if not learns:
            raise ValueError(
                f"{self.setting} expects something of `model.backbone` to train, since the attacker trains a copy of "
                "it, but nothing does"
            )

        def batches(
            rows: Dataset, seed: int | None = None, batch_size: int | None = None
        ) -> Iterator[dict[str, Tensor]]:
            for batch in data.dataloader(rows, module.tokenizer, seed, batch_size):
                yield move_data_to_device(batch, module.device)

        fit_classifier(
            surrogate,
            learns,
            references,
            batches,
            self.batch_size,
            self.epochs,
            self.lr,
            seed=self.seed,
        )

        def classes(rows: Dataset) -> npt.NDArray[np.int64]:
            with undisturbed(surrogate):
                found = [surrogate(batch).logits.argmax(-1).cpu() for batch in batches(rows)]
            return np.asarray(torch.cat(found).numpy(), np.int64)

        return classes
