"""Label answers: what a classifier says, by the names of its labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from lit_fed.configuration_error import ConfigurationError
from lit_fed.data.encodings import ClassificationEncoding
from lit_fed.losses import soft_predictions
from lit_fed.methods.semantic_consensus.answers.label_in_text import label_in_text
from lit_fed.methods.semantic_consensus.answers.public_answers import PublicAnswers
from lit_fed.methods.semantic_consensus.checks import check_as_many_labels
from lit_fed.methods.semantic_consensus.exchange import Answers, Texts
from lit_fed.methods.semantic_consensus.randomized_response import (
    RandomizedResponse,
    require_epsilon,
)
from lit_fed.methods.semantic_consensus.same_answer import normalised
from lit_fed.methods.teachers import silent

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.module import FederatedModule


class LabelAnswers(PublicAnswers):
    """A client answers the name of the likeliest label, or its number where labels have no names.

    How sure it is of it is the label's probability. An answer that is no label is none.

    Args:
        epsilon: ε of each answer under local differential privacy, by :class:`RandomizedResponse`. In a simulation its
            noise follows from the run's seed, so that whoever knows the seed knows the answers. None: no noise.

    Raises:
        ValueError: If ε is not above 0, or so near to it that answers tell nothing.
    """

    are_few: ClassVar[bool] = True

    def __init__(self, epsilon: float | None = None) -> None:
        if epsilon is not None:
            require_epsilon("model.answers.epsilon", epsilon)
        self.epsilon = epsilon

    def check(self, module: FederatedModule, public: Dataset) -> None:
        """Refuse models that do not classify, and labels that cannot be voted on; see the base class.

        These are labels that a vote takes for the same, and labels without names that models have more of than others.
        """
        for name, backbone in module.backbones.items():
            if not backbone.classifies:
                raise ConfigurationError(
                    f"`model.answers` LabelAnswers expects `model.{name}` to be one that classifies, such as "
                    f"SequenceClassifier, but got {type(backbone).__name__}; of texts there is TextAnswers"
                )
        if module.data.encoding.names is None:
            check_as_many_labels(
                "`model.answers` LabelAnswers of labels without names", module.backbones
            )
        names = self.names(module)
        if len({normalised(name) for name in names}) < len(names):
            raise ConfigurationError(
                f"the labels of the data are expected to differ in more than case, blanks, punctuation and "
                f"compatible characters, such as ² and 2, where they are voted on, but got {names}"
            )

    @torch.no_grad()
    def answer(self, module: FederatedModule, rows: Dataset, with_confidence: bool) -> Answers:
        """The likeliest label of each row."""
        names = self.names(module)
        with silent(module.backbone):
            logits = torch.cat([module(batch).logits for batch in module.batches(rows)])
        sure, labels = soft_predictions(logits)[:, : len(names)].max(-1)
        texts: Texts = tuple(names[label] for label in labels.tolist())
        return Answers(texts, sure.exp().clamp(max=1).cpu() if with_confidence else None)

    def sent(self, module: FederatedModule, answers: Answers) -> Answers:
        """The labels by the response, under local differential privacy; see the base class."""
        if (response := self.response(module)) is None:
            return answers
        noise = np.random.default_rng(int(torch.randint(2**31, ())))
        return replace(answers, texts=tuple(response(answers.texts, noise)))

    def meant(self, module: FederatedModule, texts: Texts) -> Texts:
        """The label that each text means, by :func:`label_in_text`; see the base class."""
        names = self.names(module)
        return tuple(None if text is None else label_in_text(text, names) for text in texts)

    def judged(self, module: FederatedModule, rows: Dataset) -> dict[str, float]:
        """The shares of rows with the right label, ``accuracy``, and without one, ``unanswered``, which is never right.

        Beside them it has how many rows are without one, by what went wrong, ``failed/<kind>``. There is no loss, since
        there are no probabilities.
        """
        if not len(rows):
            return {}
        try:
            said = self.asked(module, rows).texts
            failed = self.failed(module, said)
        except Exception as error:  # of a program of somebody else's, which may raise what it likes
            rank_zero_warn(
                f"{module.backbone!r} has failed in an evaluation, and counts as having answered nothing: "
                f"{type(error).__name__}: {error}"
            )
            said = (None,) * len(rows)
            failed = {"failed/error": float(len(rows))}
        right = self.references(module, rows)
        hits = sum(one is not None and one == other for one, other in zip(said, right, strict=True))
        unanswered = said.count(None) / len(rows)
        return {"accuracy": hits / len(rows), "unanswered": unanswered, **failed}

    def response(self, module: FederatedModule) -> RandomizedResponse | None:
        """Of ε and the labels' names; see the base class."""
        if self.epsilon is None:
            return None
        return RandomizedResponse(self.names(module), self.epsilon)

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

    def names(self, module: FederatedModule) -> list[str]:
        """The labels' names in the order of their numbers."""
        names = module.data.encoding.names
        count = module.backbone.num_labels or 0
        return [str(label) for label in range(count)] if names is None else names
