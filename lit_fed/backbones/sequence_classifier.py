"""Sequence classifier: a Hugging Face model that gives each text one label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from lit_fed.backbones.backbone import Backbone
from lit_fed.backbones.embedded.embedded_model import EmbeddedKind
from lit_fed.backbones.prediction import Prediction
from lit_fed.backbones.pretrained import DType, load_pretrained
from lit_fed.limits import require_at_least

if TYPE_CHECKING:
    from peft import PeftConfig


class SequenceClassifier(Backbone):
    """A Hugging Face sequence classifier.

    Args:
        model: A local folder in Hugging Face format, or a name on the hub. None: an embedded model, which is shipped
            with the package.
        num_labels: Number of classes C, at least 2. None: as many as the model's configuration names, which
            for the embedded encoder are the six of :class:`~lit_fed.data.EmbeddedMistakes`.
        peft: A PEFT configuration by its class path, such as ``peft.IA3Config``; what it leaves open
            follows from the model. ``lora``: LoRA of rank 8 and alpha 16. None: all weights are
            trained. The head is always trained as a whole.
        dtype: Type of the frozen weights; ``auto`` is that of the checkpoint. What trains is float32 whatever it is,
            in the exported adapter as well; so where all weights train, this has to be float32.
        gradient_checkpointing: Compute activations again in the backward pass instead of keeping
            them: less memory, more time.
        quantization: ``4bit`` for frozen weights of four bits (extra ``bitsandbytes``).
        revision: Branch, tag or commit of the model on the hub.
        trust_remote_code: Whether code that comes with the model may run.
        label_names: Names of the classes in their order, in the place of those of the model's configuration. None:
            those; where it has but numbers, the data's.
        embedded: Which embedded model it is where ``model`` is None: the encoder, or the decoder with a new head.

    Raises:
        FileNotFoundError: If there is no such model.
        ValueError: If a setting does not fit the model.

    A model of random weights, for the example:

    >>> import tempfile, tokenizers, transformers
    >>> folder = tempfile.mkdtemp()
    >>> words = tokenizers.models.WordLevel({"?": 0, ".": 1, "good": 2, "bad": 3}, unk_token="?")
    >>> tokenizer = tokenizers.Tokenizer(words)
    >>> tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    >>> transformers.PreTrainedTokenizerFast(
    ...     tokenizer_object=tokenizer, unk_token="?", eos_token="."
    ... ).save_pretrained(folder) and None
    >>> size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    >>> config = transformers.BertConfig(vocab_size=4, intermediate_size=8, **size)
    >>> transformers.BertModel(config).save_pretrained(folder)
    >>> backbone = SequenceClassifier(folder, num_labels=3)
    >>> batch = backbone.tokenizer(["good good", "bad"], padding=True, return_tensors="pt")
    >>> backbone(batch).logits.shape
    torch.Size([2, 3])
    >>> [name for name in backbone.trainable() if "lora" not in name]
    ['base_model.model.classifier.weight', 'base_model.model.classifier.bias']
    """

    auto_class = "AutoModelForSequenceClassification"
    classifies = True

    def __init__(
        self,
        model: str | None = None,
        num_labels: int | None = None,
        peft: PeftConfig | Literal["lora"] | None = "lora",
        dtype: DType = "float32",
        gradient_checkpointing: bool = False,
        quantization: Literal["4bit"] | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
        label_names: list[str] | None = None,
        embedded: EmbeddedKind = "encoder",
    ) -> None:
        named: dict[str, Any] = {}
        if label_names is not None:
            if len(set(label_names)) != len(label_names) or num_labels not in (
                None,
                len(label_names),
            ):
                raise ValueError(
                    f"`model.backbone.label_names` are expected to differ, and to be as many as "
                    f"`model.backbone.num_labels` {num_labels}, but got {label_names}"
                )
            num_labels = len(label_names)
            named["id2label"] = dict(enumerate(label_names))
            named["label2id"] = {name: label for label, name in enumerate(label_names)}
        if num_labels is not None:
            named["num_labels"] = require_at_least("model.backbone.num_labels", num_labels, 2)
        if model is None:
            from lit_fed.backbones.embedded import embedded_model

            model = str(embedded_model(embedded))
        from transformers import AutoModelForSequenceClassification

        pretrained = load_pretrained(
            AutoModelForSequenceClassification,
            model,
            dtype,
            quantization,
            revision,
            trust_remote_code,
            **named,
        )
        super().__init__(pretrained, peft, "SEQ_CLS", gradient_checkpointing, revision)
        self.num_labels = pretrained.model.config.num_labels
        # Classifiers of the GPT kind read the last token, and prompts are given to them as embeddings.
        self._pools_itself = (
            self._peft_config is not None
            and self._peft_config.is_prompt_learning
            and self._peft_config.peft_type != "PREFIX_TUNING"
            and hasattr(self._base, "score")
        )
        self._settle_padding(lambda batch: self(batch).logits)

    def forward(self, batch: Mapping[str, Tensor], output_hidden: bool = False) -> Prediction:
        """Predict a batch.

        Args:
            batch: ``input_ids`` [B, L], optional ``attention_mask`` [B, L] and whatever else the
                model takes; optional ``labels`` [B], -100 where there is none.
            output_hidden: Whether the prediction has the last hidden state.

        Returns:
            Logits [B, C].
        """
        pools = self._pools_itself and not self.is_bare
        logits, hidden, attention_mask = self._run(batch, output_hidden or pools)
        if pools and hidden is not None:
            # The model gets embeddings and cannot tell where padding begins.
            places = torch.arange(attention_mask.shape[1], device=logits.device)
            last = (attention_mask * places).argmax(-1)
            logits = self._base.score(hidden[torch.arange(len(last), device=logits.device), last])
            hidden = hidden if output_hidden else None
        targets = batch.get("labels")
        every = torch.ones(len(logits), dtype=torch.bool, device=logits.device)
        mask = every if targets is None else targets != -100
        return Prediction(logits, targets, mask, hidden, attention_mask)
