import json
from typing import get_args

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerBase

from lit_fed.backbones import SequenceClassifier
from lit_fed.backbones.embedded import EmbeddedKind, embedded_model
from lit_fed.data.embedded.generator import Split
from lit_fed.data.embedded.world import world
from lit_fed.data.embedded_mistakes import MISTAKES, EmbeddedMistakes
from lit_fed.data.embedded_pairs import EmbeddedPairs

KINDS: tuple[EmbeddedKind, ...] = get_args(EmbeddedKind)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(embedded_model("encoder"))


@pytest.mark.parametrize("kind", KINDS)
def test_at_most_three_megabytes_in_half_precision(kind: EmbeddedKind) -> None:
    folder = embedded_model(kind)
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 3_000_000
    with safe_open(folder / "model.safetensors", "pt") as weights:
        names = list(weights.keys())
        assert names
        assert {weights.get_tensor(name).dtype for name in names} == {torch.float16}


def test_another_kind() -> None:
    with pytest.raises(ValueError, match="`kind` is expected to be one of encoder, decoder, but"):
        embedded_model("both")  # type: ignore[arg-type]


def test_it_trains_in_full_precision_and_knows_its_classes() -> None:
    backbone = SequenceClassifier()
    assert backbone.num_labels == 6
    assert {parameter.dtype for parameter in backbone.parameters()} == {torch.float32}
    config = json.loads((embedded_model("encoder") / "config.json").read_text())
    assert list(config["id2label"].values()) == list(MISTAKES)
    # of the classifier alone there is nothing in the folder
    loaded = AutoModel.from_pretrained(embedded_model("encoder"), output_loading_info=True)[1]
    assert not loaded["missing_keys"]


@pytest.mark.parametrize("split", get_args(Split))
def test_no_word_is_unknown(tokenizer: PreTrainedTokenizerBase, split: Split) -> None:
    for source in (EmbeddedMistakes(split, 300), EmbeddedPairs(split, 300)):
        rows = source.load()
        ids = tokenizer(list(rows["english"]), list(rows["chinese"]))["input_ids"]
        assert not any(tokenizer.unk_token_id in row for row in ids)


def test_names_are_syllables_and_chinese_words_are_whole(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    tokens = tokenizer.tokenize("Marina didn't lend Tebalo's lamp.")
    assert tokens == ["ma", "ri", "na", "didn't", "lend", "te", "ba", "lo", "'s", "lamp", "."]
    assert tokenizer.tokenize("马瑞娜星期三不想买苹果。") == [
        *("马", "瑞", "娜", "星期三", "不想", "买", "苹果", "。")
    ]
    for people in world().people.values():
        for person in people:
            assert len(tokenizer.tokenize(person.en)) == len(person.zh)
            assert tokenizer.tokenize(person.zh) == list(person.zh)


def test_what_it_does_not_know_is_read_by_letters(tokenizer: PreTrainedTokenizerBase) -> None:
    assert tokenizer.tokenize("Zyx 7") == ["z", "y", "x", "7"]
    assert tokenizer.unk_token_id not in tokenizer("A quick brown fox, 1984!").input_ids


def test_pairs_have_two_segments(tokenizer: PreTrainedTokenizerBase) -> None:
    encoded = tokenizer("Marina met Tebalo.", "马瑞娜。")
    assert encoded["token_type_ids"] == [0] * 10 + [1] * 5
