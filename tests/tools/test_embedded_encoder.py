import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerFast

from lit_fed.data.embedded_pairs import EmbeddedPairs
from tools.embedded.alignment import aligned_embeddings
from tools.embedded.corpus import TokenPair, token_pairs, translations
from tools.embedded.make_encoder import EncoderPretraining
from tools.embedded.tampering import Tamperer
from tools.embedded.tokenizer import make_tokenizer

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    pairs = translations("public", 600, seed=0)
    return make_tokenizer(text for pair in pairs for text in (pair.english, pair.chinese))


@pytest.fixture(scope="module")
def pairs(tokenizer: PreTrainedTokenizerFast) -> list[TokenPair]:
    return token_pairs(translations("public", 1500, seed=0), tokenizer)


def test_translations_begin_close(
    tokenizer: PreTrainedTokenizerFast, pairs: list[TokenPair]
) -> None:
    embeddings = aligned_embeddings(pairs, len(tokenizer), width=64, seed=0)
    assert torch.allclose(embeddings.norm(dim=1), torch.ones(len(tokenizer)), atol=1e-5)
    words = {"red": "红色", "monday": "星期一", "seven": "七", "ma": "马"}
    english = embeddings[tokenizer.convert_tokens_to_ids(list(words))]
    chinese = embeddings[tokenizer.convert_tokens_to_ids(list(words.values()))]
    assert (english @ chinese.T).argmax(dim=1).tolist() == [0, 1, 2, 3]


def test_tampering_marks_exactly_what_it_put_there(pairs: list[TokenPair]) -> None:
    tamper = Tamperer((chinese for _, chinese in pairs), start=-1)
    rng = random.Random(0)
    changed = 0
    for _, chinese in pairs[:300]:
        result = tamper(chinese, rng)
        if result is None:
            continue
        changed += 1
        assert result.tokens != chinese
        assert len(result.tokens) == len(result.marks)
        kept = [t for t, mark in zip(result.tokens, result.marks, strict=True) if not mark]
        assert sorted([*kept, *result.gone]) == sorted(chinese)
    assert changed > 250


def test_it_is_trained_on_people_whom_no_client_knows(tokenizer: PreTrainedTokenizerFast) -> None:
    known = {text for pair in translations("public", 1000, 0) for text in (pair.english,)}
    for split in ("train", "validation", "test", "unseen_names"):
        assert not known & set(EmbeddedPairs(split, 600).load()["english"])


def test_the_loss_has_gradients_everywhere(
    tokenizer: PreTrainedTokenizerFast, pairs: list[TokenPair]
) -> None:
    task = EncoderPretraining(pairs, tokenizer)
    task.loss(pairs[:30], random.Random(0)).backward()
    assert all(parameter.grad is not None for parameter in task.parameters())


def test_the_first_position_is_asked_for_what_is_not_there(
    tokenizer: PreTrainedTokenizerFast, pairs: list[TokenPair]
) -> None:
    task = EncoderPretraining(pairs, tokenizer)
    rng = random.Random(0)
    for make, hidden in ((task._with_masks, True), (task._with_replacements, False)):
        asked = 0
        for pair in pairs[:200]:
            example = make(pair, rng)
            there, left = Counter([*pair[0], *pair[1]]), Counter(example.tokens)
            gone = there - left
            # a replacement may put in what another one took away
            assert not Counter(example.missing) - there
            assert sum((gone - Counter(example.missing)).values()) == 0
            asked += sum(gone.values()) == len(example.missing)
        assert asked == 200 if hidden else asked > 150


@pytest.mark.slow
def test_the_same_machine_makes_the_same_bytes(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        report = folder.with_suffix(".json")
        command = [sys.executable, "-m", "tools.embedded.make_encoder", str(folder), "--steps=3"]
        subprocess.run([*command, f"--report={report}", "--pairs=500"], check=True, cwd=ROOT)
        assert json.loads(report.read_text())["steps"] == 3
        AutoModel.from_pretrained(folder)
        AutoTokenizer.from_pretrained(folder)
    one, two = (sorted(folder.iterdir()) for folder in folders)
    assert [file.name for file in one] == [file.name for file in two]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(one, two, strict=True))
