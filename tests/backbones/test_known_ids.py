"""What a tokenizer gives and a model has no row for is found before training, in one line."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from tokenizers import processors
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    CodeGenConfig,
    CTRLConfig,
    GPTJConfig,
)

from lit_fed import FedAvg
from lit_fed.backbones import CausalLM, SequenceClassifier
from lit_fed.backbones.anatomy import table_positions
from lit_fed.data import ClassificationEncoding, FederatedDataModule
from tests.federation.toy import toy_trainer

Models = Callable[..., str]


def copied(folder: str, to: Path, edit: Callable[[Any], None]) -> str:
    """The model with another tokenizer."""
    shutil.copytree(folder, to, dirs_exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(to)
    edit(tokenizer)
    tokenizer.save_pretrained(to)
    return str(to)


def data(texts: list[str], **settings: Any) -> FederatedDataModule:
    table = Dataset.from_dict({"text": texts, "label": [i % 2 for i in range(len(texts))]})
    given = {"encoding": ClassificationEncoding("text", None), "num_clients": 2}
    return FederatedDataModule(table, validation_fraction=0, seed=0, **given | settings)


def fit(backbone: SequenceClassifier, rows: FederatedDataModule, root: Path) -> None:
    toy_trainer(root, max_rounds=1, clients_per_round=2).fit(FedAvg(backbone), rows)


def test_an_added_token_without_embedding(tiny_model: Models, tmp_path: Path) -> None:
    """At first a site was left out in every round: index out of range in self."""
    folder = copied(tiny_model("bert"), tmp_path / "m", lambda t: t.add_tokens(["wine"]))
    backbone = SequenceClassifier(folder, num_labels=2)
    message = (
        r"data\.train \(client-.\).*`model\.backbone` is .* all tokens of its tokenizer, but has "
        rf"embeddings for 30, and \w+ {folder} gives the id 30 of 'wine': resize"
    )
    with pytest.raises(ValueError, match=message):
        fit(backbone, data(["a b", "c wine", "d", "e"]), tmp_path / "run")
    fit(backbone, data(["a b", "c vine", "d", "e"]), tmp_path / "run")
    decoder = CausalLM(
        copied(tiny_model("llama"), tmp_path / "l", lambda t: t.add_tokens(["wine"]))
    )
    with pytest.raises(ValueError, match="gives the id 30 of 'wine'"):
        decoder.generate(["a", "wine"])


def test_a_padding_token_without_embedding(tiny_model: Models, tmp_path: Path) -> None:
    def pad(tokenizer: Any) -> None:
        tokenizer.add_special_tokens({"pad_token": "<new>"})

    folder = copied(tiny_model("gpt2"), tmp_path, pad)
    with pytest.raises(
        ValueError, match=r"has embeddings for 30, and .* gives the id 30 of '<new>'"
    ):
        SequenceClassifier(folder)


def test_a_second_segment_where_there_is_one_type(tiny_model: Models, tmp_path: Path) -> None:
    backbone = SequenceClassifier(tiny_model("roberta", type_vocab_size=1), num_labels=2)
    tokenizer: Any = backbone.tokenizer
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B:1 </s>:1", special_tokens=[("</s>", 3)]
    )
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    table = Dataset.from_dict({"one": ["a", "b"], "two": ["c", "d"], "label": [0, 1]})
    rows = FederatedDataModule(
        table, encoding=ClassificationEncoding("one", "two"), num_clients=2, validation_fraction=0
    )
    with pytest.raises(ValueError, match=r"all types of tokens .* embeddings for 1, .* the id 1:"):
        fit(backbone, rows, tmp_path)


@pytest.mark.parametrize("name", ["gptj", "ctrl", "codegen"])
def test_positions_in_buffers(name: str) -> None:
    configs: dict[str, Any] = {
        "gptj": GPTJConfig(n_layer=1, n_head=2, n_embd=16, rotary_dim=4, n_positions=9),
        "codegen": CodeGenConfig(n_layer=1, n_head=4, n_embd=16, rotary_dim=4, n_positions=9),
        "ctrl": CTRLConfig(n_layer=1, n_head=2, n_embd=16, dff=16, n_positions=9),
    }
    configs[name].vocab_size = 20
    model = AutoModelForCausalLM.from_config(configs[name]).eval()
    assert table_positions(model) == 9
    model(torch.full((1, 9), 5))
    with pytest.raises((IndexError, RuntimeError)):
        model(torch.full((1, 10), 5))


@pytest.mark.parametrize("name", ["bert", "roberta", "mpnet", "gpt1", "gpt2", "gpt_neo", "opt"])
def test_rows_end_where_positions_do(name: str, tiny_model: Models, tmp_path: Path) -> None:
    """The longest row that a model says it takes is read, and one token more is not."""
    backbone = SequenceClassifier(tiny_model(name), num_labels=2)
    most = backbone.max_tokens
    assert most is not None
    ids = torch.full((1, most + 1), 5)
    # what MPNet and T5 end with; a text ends in it anyway
    ids[:, -2:] = 3
    backbone({"input_ids": ids[:, :-1]})
    with pytest.raises((IndexError, RuntimeError)):
        backbone({"input_ids": ids})
    rows = data([" ".join("a" * (most - 2)), "b"], max_length=most, pad_to_multiple_of=most + 5)
    with pytest.raises(
        ValueError, match=rf"`data\.pad_to_multiple_of` .* within {most}, .*{most + 5}"
    ):
        fit(backbone, rows, tmp_path)


@pytest.mark.parametrize("name", ["t5", "xlnet", "llama", "bloom", "deberta"])
def test_models_without_a_table_of_positions(name: str, tiny_model: Models) -> None:
    assert SequenceClassifier(tiny_model(name)).max_tokens is None
