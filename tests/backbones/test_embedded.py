import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

from lit_fed.backbones.embedded import Recipe, embedded_model, embedded_tokenizer
from lit_fed.backbones.embedded.alignment import aligned_embeddings
from lit_fed.backbones.embedded.corpus import Corpus, read_corpus
from lit_fed.backbones.embedded.encoder import EncoderPretraining
from lit_fed.backbones.embedded.tampering import Tamperer
from lit_fed.data.embedded_pairs import EmbeddedPairs

SMALL = {
    kind: Recipe(kind, pairs=300, held_out=40, steps=6, batch_size=16, hidden_size=64)
    for kind in ("encoder", "decoder")
}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIT_FED_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return read_corpus(Recipe("encoder", held_out=40))


@pytest.fixture(scope="module")
def tokenizer(corpus: Corpus) -> PreTrainedTokenizerFast:
    return corpus.tokenizer


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_twice_the_same_bytes_and_a_lower_loss(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = []
    for place in ("a", "b"):
        monkeypatch.setenv("LIT_FED_CACHE", str(tmp_path / place))
        torch.manual_seed(len(weights))
        folder = embedded_model(kind, SMALL[kind])
        weights.append((folder / "model.safetensors").read_bytes())
        assert (folder / "tokenizer.json").is_file()
    assert weights[0] == weights[1]
    losses = json.loads((folder / "pretraining.json").read_text())["held_out_loss"]
    assert all(losses["after"][name] < losses["before"][name] for name in losses["before"])


def test_the_callers_torch_is_as_before(cache: Path) -> None:
    threads = torch.get_num_threads()
    torch.manual_seed(3)
    random.seed(3)
    state, python = torch.get_rng_state(), random.getstate()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode():
            folder = embedded_model("encoder", SMALL["encoder"])
            assert torch.is_inference_mode_enabled()
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(state, torch.get_rng_state())
    assert python == random.getstate()
    assert torch.get_num_threads() == threads
    assert {w.dtype for w in load_file(folder / "model.safetensors").values()} == {torch.float32}


def test_only_the_classifier_is_new(cache: Path) -> None:
    folder = embedded_model("encoder", SMALL["encoder"])
    model, info = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=2, output_loading_info=True
    )
    assert set(info["missing_keys"]) == {"classifier.weight", "classifier.bias"}
    assert not info["unexpected_keys"]
    saved = load_file(folder / "model.safetensors")
    assert any(name.startswith("pooler.") for name in saved)
    for name, weight in model.base_model.state_dict().items():
        assert torch.equal(weight, saved[name])


def test_the_decoder_loads_whole(cache: Path) -> None:
    folder = embedded_model("decoder", SMALL["decoder"])
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(["Anna met Tom."], return_tensors="pt")
    assert batch["input_ids"][0, 0] == model.config.bos_token_id == tokenizer.bos_token_id
    assert model(input_ids=batch["input_ids"]).logits.shape[-1] == len(tokenizer)


def test_a_complete_folder_is_used_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = embedded_model("encoder", SMALL["encoder"])
    monkeypatch.setattr("lit_fed.backbones.embedded.store._make", None)
    assert embedded_model("encoder", SMALL["encoder"]) == folder
    assert folder.is_relative_to(cache)


def test_a_folder_in_the_home_without_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LIT_FED_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = embedded_model("encoder", Recipe("encoder", pairs=60, held_out=8, steps=1))
    assert folder.is_relative_to(tmp_path / ".cache" / "lit_fed")


@pytest.mark.parametrize("damage", ["cut", "changed", "file missing", "manifest missing", "empty"])
def test_a_damaged_folder_is_made_anew(cache: Path, damage: str) -> None:
    recipe = Recipe("encoder", pairs=60, held_out=8, steps=1)
    folder = embedded_model("encoder", recipe)
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    if damage == "cut":
        weights.write_bytes(whole[:1000])
    elif damage == "changed":
        weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    elif damage == "file missing":
        (folder / "tokenizer.json").unlink()
    elif damage == "manifest missing":
        (folder / "manifest.json").unlink()
    else:
        for file in folder.iterdir():
            file.unlink()
    with pytest.warns(UserWarning, match="is damaged or incomplete and is made anew"):
        assert embedded_model("encoder", recipe) == folder
    assert weights.read_bytes() == whole
    assert (folder / "tokenizer.json").is_file()
    assert not list(folder.parent.glob(".*"))


def test_a_failure_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(folder: Path, recipe: Recipe) -> None:
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr("lit_fed.backbones.embedded.store._make", fail)
    with pytest.raises(KeyboardInterrupt):
        embedded_model("encoder", SMALL["encoder"])
    assert not [path for path in (cache / "embedded").iterdir() if path.is_dir()]


def test_two_processes_at_once(cache: Path) -> None:
    program = (
        "from lit_fed.backbones.embedded import Recipe, embedded_model\n"
        "recipe = Recipe('encoder', pairs=60, held_out=8, steps=2, batch_size=16, hidden_size=64)\n"
        "print(embedded_model('encoder', recipe))\n"
    )
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    finished = [process.communicate(timeout=240) for process in started]
    assert [process.returncode for process in started] == [0, 0], finished
    folders = {out.strip() for out, _ in finished}
    assert len(folders) == 1
    assert sum("Pre-trained in" in out + error for out, error in finished) == 1
    model = AutoModelForSequenceClassification.from_pretrained(folders.pop(), num_labels=2)
    assert model.config.hidden_size == 64


def test_the_key_depends_on_the_numbers() -> None:
    assert Recipe("encoder").key() == Recipe("encoder").key()
    keys = {
        Recipe("encoder").key(),
        Recipe("decoder").key(),
        Recipe("encoder", seed=1).key(),
        Recipe("encoder", steps=1).key(),
    }
    assert len(keys) == 4


def test_bad_kinds() -> None:
    with pytest.raises(ValueError, match=r"kind is expected to be one of .*but got 'both'"):
        embedded_model("both")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="recipe is expected to be of kind 'encoder'"):
        embedded_model("encoder", Recipe("decoder"))


def test_words_characters_and_letters(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer.tokenize("Tom met Anna.") == ["tom", "met", "anna", "."]
    assert tokenizer.tokenize("汤姆遇见了安娜。") == list("汤姆遇见了安娜。")
    assert tokenizer.tokenize("Zyx") == ["z", "##y", "##x"]


@pytest.mark.parametrize("split", ["test", "unseen_names", "longer"])
def test_nothing_is_unknown(tokenizer: PreTrainedTokenizerFast, split: str) -> None:
    rows = EmbeddedPairs(split, size=600).load()  # type: ignore[arg-type]
    ids = tokenizer(list(rows["english"]), list(rows["chinese"]))["input_ids"]
    assert not any(tokenizer.unk_token_id in row for row in ids)


def test_offsets_point_into_the_text(tokenizer: PreTrainedTokenizerFast) -> None:
    text = "Clara didn't meet  TOM.\n安娜遇见了克拉拉。"
    encoded = tokenizer(text, return_offsets_mapping=True)
    pieces = [text[start:end].lower() for start, end in encoded["offset_mapping"]]
    tokens = tokenizer.convert_ids_to_tokens(encoded["input_ids"])
    assert pieces[0] == pieces[-1] == ""
    assert pieces[1:-1] == [token.removeprefix("##") for token in tokens[1:-1]]


def test_pairs_have_two_segments_and_decode(tokenizer: PreTrainedTokenizerFast) -> None:
    encoded = tokenizer("Anna met Tom.", "安娜遇见了汤姆。")
    assert encoded["token_type_ids"] == [0] * 6 + [1] * 9
    text = tokenizer.decode(encoded["input_ids"][6:], skip_special_tokens=True)
    assert text == "安娜遇见了汤姆。"


def test_the_vocabulary_does_not_depend_on_the_order() -> None:
    texts = ["Anna met Tom.", "Tom met Anna.", "安娜。", "汤姆。"] * 2
    assert embedded_tokenizer(texts).vocab == embedded_tokenizer(texts[::-1]).vocab


def test_translations_begin_close(corpus: Corpus) -> None:
    tokenizer = corpus.tokenizer
    embeddings = aligned_embeddings(corpus.pairs, len(tokenizer), width=64, seed=0)
    assert torch.allclose(embeddings.norm(dim=1), torch.ones(len(tokenizer)), atol=1e-5)
    words = {"red": "红", "three": "三", "tom": "汤", "umbrella": "伞"}
    english = embeddings[tokenizer.convert_tokens_to_ids(list(words))]
    chinese = embeddings[tokenizer.convert_tokens_to_ids(list(words.values()))]
    assert (english @ chinese.T).argmax(dim=1).tolist() == [0, 1, 2, 3]


def test_tampering_marks_exactly_what_it_put_there(corpus: Corpus) -> None:
    tamper = Tamperer((chinese for _, chinese in corpus.pairs), start=-1)
    rng = random.Random(0)
    changed = 0
    for _, chinese in corpus.pairs[:300]:
        result = tamper(chinese, rng)
        if result is None:
            continue
        changed += 1
        tokens, marks = result
        assert tokens != chinese
        assert len(tokens) == len(marks)
        kept = iter(chinese)
        assert all(token in kept for token, mark in zip(tokens, marks, strict=True) if not mark)
    assert changed > 250


def test_the_training_pairs_are_public_and_agree() -> None:
    corpus = read_corpus(Recipe("encoder", pairs=50, held_out=10))
    assert (len(corpus.pairs), len(corpus.held_out)) == (50, 10)
    public = EmbeddedPairs("public", size=120).load()
    agreeing = [row["chinese"] for row in public if row["label"] == 1]
    decoded = [corpus.tokenizer.decode(chinese) for _, chinese in corpus.pairs]
    assert decoded == agreeing[:50]
    train = EmbeddedPairs("train", size=4000).load()
    assert not set(decoded) & set(train["chinese"])


def test_the_pretraining_loss_has_gradients_everywhere(corpus: Corpus) -> None:
    task = EncoderPretraining(corpus, SMALL["encoder"])
    task.loss(corpus.pairs[:30], random.Random(0)).backward()
    assert all(parameter.grad is not None for parameter in task.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_the_full_recipe_learns(kind: str) -> None:
    folder = embedded_model(kind)  # type: ignore[arg-type]
    losses = json.loads((folder / "pretraining.json").read_text())["held_out_loss"]
    for name, before in losses["before"].items():
        assert losses["after"][name] < 0.6 * before
