"""Label answers: what a classifier says, by the names of its labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from lit_fed.configuration_error import ConfigurationError
from lit_fed.data.encodings import ClassificationEncoding
from lit_fed.losses import soft_predictions
from lit_fed.methods.semantic_consensus.answers.public_answers import PublicAnswers
from lit_fed.methods.semantic_consensus.exchange import Answers, Texts
from lit_fed.methods.teachers import silent

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.module import FederatedModule


class LabelAnswers(PublicAnswers):
    """A client answers the name of the likeliest label, or its number where labels have no names.

    How sure it is of it is the label's probability. An answer that is no label is none.
    """

    are_few: ClassVar[bool] = True

    def check(self, module: FederatedModule, public: Dataset) -> None:
        """Refuse models that do not classify; see the base class."""
        for name, backbone in module.backbones.items():
            if not backbone.classifies:
                raise ConfigurationError(
                    f"`model.answers` LabelAnswers expects `model.{name}` to be one that classifies, such as "
                    f"SequenceClassifier, but got {type(backbone).__name__}; of texts there is TextAnswers"
                )

    @torch.no_grad()
    def answer(self, module: FederatedModule, rows: Dataset, with_confidence: bool) -> Answers:
        """The likeliest label of each row."""
        names = self.names(module)
        with silent(module.backbone):
            logits = torch.cat([module(batch).logits for batch in module.batches(rows)])
        sure, labels = soft_predictions(logits)[:, : len(names)].max(-1)
        texts = tuple(names[label] for label in labels.tolist())
        return Answers(texts, sure.exp().clamp(max=1).cpu() if with_confidence else None)

    def valid(self, module: FederatedModule, texts: Texts) -> Texts:
        """Those that are labels."""
        known = set(self.names(module))
        return tuple(text if text in known else None for text in texts)

    def references(self, module: FederatedModule, public: Dataset) -> Texts:
        """The names of the rows' own labels."""
        encoding = module.data.encoding
        if not isinstance(encoding, ClassificationEncoding):
            return (None,) * len(public)
        names = self.names(module)
        return tuple(names[label] for label in encoding.label_ids(public).tolist())

    def with_labels(
        self, module: FederatedModule, batch: Mapping[str, Tensor], labels: Texts
    ) -> dict[str, Tensor]:
        """The batch with the numbers of its rows' labels in the place of their own."""
        numbers = {name: number for number, name in enumerate(self.names(module))}
        own = [numbers[str(labels[row])] for row in batch["index"].tolist()]
        return {**batch, "labels": torch.tensor(own, device=batch["index"].device)}

    @staticmethod
    def names(module: FederatedModule) -> list[str]:
        """The labels' names in the order of their numbers."""
        names = module.data.encoding.names
        count = module.backbone.num_labels or 0
        return [str(label) for label in range(count)] if names is None else names
