"""No prediction depends on padding or on the other rows of a batch, over the architectures that there are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch import Tensor
from transformers import AutoTokenizer

from lit_fed import FedAvg
from lit_fed.backbones import Backbone, CausalLM, SequenceClassifier
from lit_fed.backbones.padding import find_side, padded
from lit_fed.data import CausalLMEncoding, ClassificationEncoding, FederatedDataModule
from lit_fed.federation import VectorizedClients
from tests.federation.toy import toy_trainer
from tests.slow import slow_but

from .batches import TEXTS, batch_of, logits_of

Models = Callable[..., str]
ENCODERS = ["bert", "roberta", "distilbert", "albert", "deberta", "electra", "mpnet", "xlnet", "t5"]
DECODERS = ["gpt2", "gpt1", "gpt_neo", "llama", "mistral", "qwen2", "opt", "gpt_neox", "bloom"]
LETTERS = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n"]
ROWS = [" ".join(LETTERS[i : i + n]) for i, n in enumerate((9, 2, 5, 1, 7))]


def rows() -> Dataset:
    return Dataset.from_dict({"text": ROWS, "label": [0, 1, 0, 1, 0]})


def alike(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "dtype"),
    slow_but(
        *((name, "float32") for name in (*ENCODERS, *DECODERS)),
        ("bert", "bfloat16"),
        ("llama", "bfloat16"),
        of=[
            *((name, "float32") for name in (*ENCODERS, *DECODERS)),
            # in transformers XLNet mixes types
            *((name, "bfloat16") for name in (*ENCODERS, *DECODERS) if name != "xlnet"),
        ],
    ),
)
def test_a_classifier_says_the_same_of_a_row_in_every_batch(
    name: str, dtype: Any, tiny_model: Models
) -> None:
    torch.manual_seed(0)
    backbone = SequenceClassifier(tiny_model(name), num_labels=3, dtype=dtype)
    assert backbone.tokenizer.padding_side == ("left" if name == "xlnet" else "right")
    backbone.float()
    data = FederatedDataModule(
        rows(),
        encoding=ClassificationEncoding("text", None),
        num_clients=1,
        validation_fraction=0,
        pad_to_multiple_of=4,
    )
    data.setup()
    together, alone = (
        {
            int(i): row
            for batch in data.dataloader(data.clients[0].rows, backbone.tokenizer, batch_size=size)
            for i, row in zip(batch["index"], logits_of(backbone, batch), strict=True)
        }
        for size in (5, 1)
    )
    for i, row in together.items():
        alike(row, alone[i])
    bare = [dict(backbone.tokenizer(text, return_tensors="pt")) for text in ROWS]
    alike(torch.stack(list(together.values())), torch.cat([logits_of(backbone, b) for b in bare]))


# BART counts padding among its positions where it continues a text: one length at a time.
@pytest.mark.parametrize("name", [*DECODERS, "bart"])
def test_a_language_model_learns_and_continues_the_same_in_every_batch(
    name: str, tiny_model: Models
) -> None:
    backbone = CausalLM(tiny_model(name))
    encoding = CausalLMEncoding(template="{text} {label}", response="label")
    table = rows().map(lambda row: {"label": " ".join(LETTERS[: 1 + row["label"]])}, num_proc=None)
    data = FederatedDataModule(table, encoding=encoding, num_clients=1, validation_fraction=0)
    data.setup()

    def losses(size: int) -> dict[int, float]:
        found = {}
        for batch in data.dataloader(data.clients[0].rows, backbone.tokenizer, batch_size=size):
            with torch.no_grad():
                prediction = backbone.eval()(batch)
            each = torch.nn.functional.cross_entropy(
                prediction.logits.mT, prediction.targets, reduction="none", ignore_index=-100
            )
            counts = prediction.mask.sum(-1)
            found |= {
                int(i): float(loss)
                for i, loss in zip(batch["index"], each.sum(-1) / counts, strict=True)
            }
        return found

    assert losses(5) == pytest.approx(losses(1), rel=1e-4)
    alone = [backbone.generate([row], max_new_tokens=6)[0] for row in ROWS]
    assert backbone.generate(ROWS, max_new_tokens=6) == alone


@pytest.mark.parametrize("name", ["bert", "electra", "xlnet"])
def test_a_model_that_reads_ahead_is_no_language_model(name: str, tiny_model: Models) -> None:
    with pytest.raises(ValueError, match=r"a \w+LMHeadModel|ForCausalLM, which is expected to pre"):
        CausalLM(tiny_model(name))
    assert CausalLM(tiny_model("bert", is_decoder=True)).tokenizer.padding_side == "right"


def test_a_model_that_sees_padding_is_refused(tiny_model: Models) -> None:
    message = (
        r"`model\.backbone\.model` is .*, a FNetFor.* padding changes what it predicts, on the"
    )
    with pytest.raises(ValueError, match=message):
        SequenceClassifier(tiny_model("fnet"))


def test_a_model_that_cannot_read_is_refused(tiny_model: Models) -> None:
    """Such a T5 wants the token that ends a text, which its tokenizer does not add."""
    with pytest.raises(ValueError, match=r"which cannot read a short text: .*eos"):
        SequenceClassifier(tiny_model("t5", eos_token_id=7))


def test_trying_leaves_no_trace(tiny_model: Models, tmp_path: Path) -> None:
    torch.manual_seed(0)
    SequenceClassifier(tiny_model("xlnet", "XLNetForSequenceClassification"), peft=None)
    drawn = torch.rand(1)
    torch.manual_seed(0)
    backbone: Backbone = SequenceClassifier(
        tiny_model("xlnet", "XLNetForSequenceClassification"), peft=None
    )
    assert torch.equal(drawn, torch.rand(1))
    assert backbone.training
    assert all(part.training for part in backbone.modules())
    # the exported tokenizer pads as the loaded one did
    backbone.save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path).padding_side == "right"
    assert backbone.tokenizer.padding_side == "left"


def test_either_side_by_hand() -> None:
    """A model that reads the last place, one that reads the first, one that takes the mean of all."""
    last = find_side(lambda b: b["input_ids"][:, -1:].float(), [1, 2, 3], [5, 6], 0)
    first = find_side(lambda b: b["input_ids"][:, :1].float(), [1, 2, 3], [5, 6], 0)
    mean = find_side(lambda b: b["input_ids"].float().mean(-1, True), [1, 2, 3], [5, 6], 0)
    assert (last, first, mean) == ("left", "right", None)
    assert padded([[5], [6, 7]], 0)["attention_mask"].tolist() == [[1, 0], [1, 1]]


def test_a_model_of_the_left_trains_one_after_the_other(tiny_model: Models, tmp_path: Path) -> None:
    def module() -> FedAvg:
        return FedAvg(SequenceClassifier(tiny_model("xlnet"), num_labels=2), warmup_steps=0)

    def data() -> FederatedDataModule:
        encoding = ClassificationEncoding("text", None)
        return FederatedDataModule(rows(), encoding=encoding, num_clients=2, batch_size=3)

    toy_trainer(tmp_path / "one", max_rounds=1, clients_per_round=2).fit(module(), data())
    vectorized = toy_trainer(
        tmp_path / "two", max_rounds=1, clients_per_round=2, execution=VectorizedClients(2)
    )
    with pytest.raises(ValueError, match=r"rows are padded on the left .*SequentialClients"):
        vectorized.fit(module(), data())


def test_left_padding_predicts_nothing(tiny_model: Models) -> None:
    """Whoever pads on the left: the first token has no token before it, with or without labels."""
    backbone = CausalLM(tiny_model("llama"))
    right = backbone(batch_of(backbone))
    backbone.tokenizer.padding_side = "left"
    left = backbone(batch_of(backbone))
    assert left.mask.sum() == right.mask.sum() == sum(len(text.split()) - 1 for text in TEXTS)
    bare = {k: v for k, v in batch_of(backbone).items() if k != "labels"}
    assert torch.equal(backbone(bare).mask, left.mask)
