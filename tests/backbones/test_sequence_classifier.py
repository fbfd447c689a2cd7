from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from peft import PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig

from lit_fed.backbones import SequenceClassifier

from .batches import TEXTS, batch_of, change, logits_of

Models = Callable[..., str]


@pytest.mark.parametrize("name", ["bert", "distilbert", "gpt2", "llama", "gpt_neox", "bloom", "t5"])
def test_prediction(tiny_model: Models, name: str) -> None:
    backbone = SequenceClassifier(tiny_model(name), num_labels=3)
    batch = batch_of(backbone)
    prediction = backbone(batch, output_hidden=True)
    assert prediction.logits.shape == (3, 3)
    assert prediction.hidden is not None
    assert prediction.hidden.shape == (*batch["input_ids"].shape, 16)
    assert torch.equal(prediction.targets, batch["labels"])
    assert prediction.mask.tolist() == [True] * 3
    assert torch.equal(prediction.attention_mask, batch["attention_mask"])


def test_rows_without_a_label_are_masked(tiny_model: Models) -> None:
    backbone = SequenceClassifier(tiny_model("bert"))
    batch = batch_of(backbone) | {"labels": torch.tensor([1, -100, 0])}
    assert backbone(batch).mask.tolist() == [True, False, True]


def test_a_batch_of_nothing_but_tokens(tiny_model: Models) -> None:
    backbone = SequenceClassifier(tiny_model("bert"))
    prediction = backbone({"input_ids": torch.tensor([[2, 5, 3], [2, 6, 3]])})
    assert prediction.targets is None
    assert prediction.mask.tolist() == [True, True]
    assert prediction.attention_mask.tolist() == [[1, 1, 1], [1, 1, 1]]


@pytest.mark.parametrize("name", ["gpt2", "llama", "bloom"])
@pytest.mark.parametrize(
    "peft",
    [
        None,
        "lora",
        PromptTuningConfig(num_virtual_tokens=3),
        PromptEncoderConfig(num_virtual_tokens=3, encoder_hidden_size=4),
        PrefixTuningConfig(num_virtual_tokens=3),
    ],
)
def test_padding_does_not_change_a_text(tiny_model: Models, name: str, peft: object) -> None:
    """With prompts, peft gives embeddings, in which such classifiers do not see the padding."""
    backbone = SequenceClassifier(tiny_model(name), peft=peft)  # type: ignore[arg-type]
    change(backbone)
    together = logits_of(backbone, batch_of(backbone))
    alone = torch.cat([logits_of(backbone, batch_of(backbone, [text])) for text in TEXTS])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
