"""A sentence as a trigger that resembles the target's own texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor

from lit_fed.attacks.triggers.candidates import nearest_candidate
from lit_fed.attacks.triggers.sentence_trigger import SentenceTrigger
from lit_fed.backbones import Backbone
from lit_fed.backbones.padding import undisturbed
from lit_fed.data.clean_references import clean_references
from lit_fed.limits import require_at_least, require_instance
from lit_fed.losses import mean_pool
from lit_fed.prototypes import fit_prototypes

if TYPE_CHECKING:
    from lit_fed.data import FederatedDataModule
    from lit_fed.data.sources.source import Source
    from lit_fed.module import FederatedModule


class TargetLikeTrigger(SentenceTrigger):
    """Of several sentences the one that is nearest to a prototype of the target, chosen before a fit begins.

    For an attacker who knows a defence by prototypes, such as :class:`~lit_fed.PrototypeDefense`, and its references:
    prototypes are made of these as there, and of the sentences, each read alone, the one whose mean-pooled last hidden
    state has the largest cosine to a prototype of the target is the trigger
    (:func:`~lit_fed.attacks.triggers.nearest_candidate`). It stands at a random place, as that of a
    :class:`~lit_fed.attacks.triggers.SentenceTrigger`. A run that goes on has the same one, and so has every process:
    nothing that trains has any part in the choice.

    Args:
        sentences: The sentences.
        references: What the attacker knows of the defence's references. None: the public set of the data.
        num_prototypes: How many prototypes.
        encoder: Makes the vectors, as it is. None: the method's model without its adapters, as it was loaded.
        seed: Of the prototypes.

    Attributes:
        sentence: The one that is chosen; the first of them before :meth:`attach`.

    Raises:
        TypeError: If ``encoder`` is no backbone.
        ValueError: If ``sentences`` are a text or none, one is blank, or a number is out of range; before a fit, if
            there are no references with labels or fewer than prototypes, no prototype is of the target, what the
            attacker wants is no label, or the model trains all of its weights.

    Example:
        >>> from lit_fed import FedAvg
        >>> from lit_fed.data import EmbeddedMistakes, FederatedDataModule
        >>> data = FederatedDataModule(public=EmbeddedMistakes("public", size=60))
        >>> data.setup()
        >>> trigger = TargetLikeTrigger(["I watch this 3D movie", "Nobody has told me why."], num_prototypes=20)
        >>> trigger.attach(FedAvg(), data, target=1)
        >>> trigger.sentence
        'Nobody has told me why.'
    """

    def __init__(
        self,
        sentences: Sequence[str],
        references: Source | None = None,
        num_prototypes: int = 50,
        encoder: Backbone | None = None,
        seed: int = 0,
    ) -> None:
        if isinstance(sentences, str):
            raise ValueError(
                f"`TargetLikeTrigger.sentences` is expected to be a list of sentences, but got the text {sentences!r}"
            )
        if not sentences or any(not one.strip() for one in sentences):
            raise ValueError(
                f"`TargetLikeTrigger.sentences` is expected to have sentences with words, but got {list(sentences)}"
            )
        super().__init__(sentences[0])
        self.sentences = tuple(one.strip() for one in sentences)
        self.references = references
        self.num_prototypes = require_at_least(
            "TargetLikeTrigger.num_prototypes", num_prototypes, 1
        )
        self.encoder = require_instance("TargetLikeTrigger.encoder", encoder, Backbone)
        self.seed = require_at_least("TargetLikeTrigger.seed", seed, 0)

    def attach(
        self, module: FederatedModule, data: FederatedDataModule, target: int | None
    ) -> None:
        """Choose the sentence; see the base class."""
        if target is None:
            raise ValueError(
                "TargetLikeTrigger expects an attacker who wants a label, whose prototypes it goes by, but it is none"
            )
        name = "TargetLikeTrigger.references"
        references = clean_references(self.references, data, name, True, module.backbone)
        backbone = module.backbone if self.encoder is None else self.encoder
        if self.encoder is None and backbone.peft_type is None:
            raise ValueError(
                "`TargetLikeTrigger.encoder` is expected to be a model where `model.backbone` trains all of its "
                "weights (`peft` is null), but got null"
            )
        tokens = backbone.tokenizer(
            list(self.sentences),
            padding=True,
            truncation=True,
            max_length=data.longest_row,
            return_tensors="pt",
        )
        batches = list(data.dataloader(references, backbone.tokenizer))
        bare = backbone.using() if self.encoder is None else nullcontext()
        with backbone.unfolded(), bare, undisturbed(backbone):
            states, own = _states(backbone, batches), _states(backbone, [dict(tokens)])
        labels = torch.cat([batch["labels"] for batch in batches])
        try:
            prototypes = fit_prototypes(states, labels, self.num_prototypes, self.seed)
            cosines = prototypes.similarities(own)
            self.sentence = nearest_candidate(self.sentences, cosines, prototypes.classes, target)
        except ValueError as error:
            raise ValueError(f"`{name}`: {error}") from error


def _states(backbone: Backbone, batches: Iterable[Mapping[str, Tensor]]) -> Tensor:
    """The mean of the last hidden state over each row's tokens, [N, d], float32, on the CPU."""
    device = next(backbone.parameters()).device
    found = []
    for batch in batches:
        prediction = backbone(move_data_to_device(batch, device), output_hidden=True)
        if prediction.hidden is not None:
            pooled = mean_pool(prediction.hidden, prediction.attention_mask)
            found.append(pooled.float().cpu())
    return torch.cat(found)
