"""ONION beside plain passes of the language model, and beside the public code, which counts padding."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from datasets import Dataset

from lit_fed import FedAvg, Payload
from lit_fed.backbones import CausalLM
from lit_fed.defenses import ONION, ONIONRows, ReferenceLanguageModel
from lit_fed.defenses.perplexity import perplexities, suspicions
from tests.defenses.rows import Rows, client, texts
from tests.federation.toy import BAD, GOOD, toy_data
from tests.methods.toy_methods import save_toy_lm

TRIGGER = "text"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_lm(tmp_path_factory.mktemp("lm"))


@pytest.fixture(scope="module")
def fitted(folder: Path) -> ReferenceLanguageModel:
    model = ReferenceLanguageModel(str(folder), steps=60, lr=1e-2)
    model.fit(texts(120, 0))
    return model


def rows_of(given: list[str]) -> Dataset:
    return Dataset.from_dict({"text": given, "label": [0] * len(given)})


def with_trigger(given: list[str]) -> list[str]:
    draw = np.random.default_rng(0)
    found = []
    for text in given:
        words = text.split()
        words.insert(int(draw.integers(1, len(words))), TRIGGER)
        found.append(" ".join(words))
    return found


def classify(rows: Dataset) -> npt.NDArray[np.float64]:
    good = [
        sum(w in GOOD for w in t.split()) > sum(w in BAD for w in t.split()) for t in rows["text"]
    ]
    return np.stack([1 - np.array(good, float), np.array(good, float)], 1)


def alone(backbone: CausalLM, text: str) -> float:
    """A text's perplexity by one pass of it alone."""
    ids = [backbone.tokenizer.eos_token_id, *backbone.tokenizer(text)["input_ids"]]
    with torch.no_grad():
        logits = backbone.model(input_ids=torch.tensor([ids])).logits[0, :-1].double()
    return float(torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:])).exp())


def test_perplexities_and_suspicions_are_those_of_texts_alone(
    fitted: ReferenceLanguageModel,
) -> None:
    given = [*texts(12, 1), "the film"]
    expected = [alone(fitted.backbone, text) for text in given]
    np.testing.assert_allclose(perplexities(fitted.backbone, given, 5), expected, rtol=1e-4)
    np.testing.assert_allclose(perplexities(fitted.backbone, given, 1), expected, rtol=1e-4)
    found = suspicions(fitted.backbone, given[:3], 4)
    for text, one in zip(given, found, strict=False):
        words = text.split()
        without = [" ".join(words[:i] + words[i + 1 :]) for i in range(len(words))]
        by_hand = alone(fitted.backbone, text) - np.array(
            [alone(fitted.backbone, t) for t in without]
        )
        np.testing.assert_allclose(one, by_hand, rtol=1e-3, atol=1e-3)
    assert [one.tolist() for one in suspicions(fitted.backbone, ["film", ""])] == [[0.0], []]


def padded_perplexities(backbone: CausalLM, given: list[str]) -> npt.NDArray[np.float64]:
    """As the public code has it: padded with the token that ends texts, over all of which the mean is taken."""
    end = backbone.tokenizer.eos_token_id
    rows = [[end, *backbone.tokenizer(text)["input_ids"]] for text in given]
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[end] * (width - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    with torch.no_grad():
        logits = backbone.model(input_ids=ids, attention_mask=mask).logits[:, :-1].double()
    each = torch.nn.functional.cross_entropy(logits.mT, ids[:, 1:], reduction="none")
    return each.mean(1).exp().numpy()


def test_padding_is_no_token_of_a_text(fitted: ReferenceLanguageModel) -> None:
    backbone = fitted.backbone
    short, long = "the film was good", " ".join(["the film was good"] * 3)
    together = perplexities(backbone, [short, long])
    np.testing.assert_allclose(together, [alone(backbone, short), alone(backbone, long)], rtol=1e-4)
    wrong = padded_perplexities(backbone, [short, long])
    assert wrong[1] == pytest.approx(together[1], rel=1e-4)
    assert abs(wrong[0] - together[0]) > 1
    # so what a word adds to its text depends on the longest text beside it: by a threshold of clean words, which are
    # judged alone, a trigger is missed that stands in a batch with a long text
    clean = np.concatenate(suspicions(backbone, texts(60, 3)))
    limit = np.quantile(clean, 0.9)
    caught = missed = 0
    for text in with_trigger(texts(30, 2)):
        words = text.split()
        place = words.index(TRIGGER)
        without = [" ".join(words[:i] + words[i + 1 :]) for i in range(len(words))]
        ours = suspicions(backbone, [text, long])[0]
        np.testing.assert_allclose(ours, suspicions(backbone, [text])[0], rtol=1e-3, atol=1e-3)
        whole, *rest = padded_perplexities(backbone, [text, *without, long])
        caught += int(ours[place] > limit)
        missed += int(ours[place] > limit and whole - rest[place] <= limit)
    assert caught >= 15
    assert missed >= caught // 3


def test_the_threshold_lets_the_answers_stay(fitted: ReferenceLanguageModel) -> None:
    references = rows_of(texts(60, 3))
    given = ReferenceLanguageModel(fitted.model)
    given._loaded = fitted.backbone
    onion = ONION(given, "text", max_changed=0.05)
    onion.fit(classify, references)
    # by hand: words above each of the thresholds are left out, until the answers stay
    given_texts = references["text"][:]
    found = suspicions(fitted.backbone, given_texts)
    words = np.sort(np.concatenate([*found, [0.0]]))
    before = classify(references).argmax(1)
    for rate in (0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.0):
        limit = words[len(words) - 1 - int(rate * len(words))]
        left = [
            " ".join(word for word, f in zip(text.split(), own, strict=True) if f <= limit)
            for text, own in zip(given_texts, found, strict=True)
        ]
        if (classify(rows_of(left)).argmax(1) != before).mean() <= 0.05:
            break
    assert 0 < rate < 0.5
    assert onion.fitted_threshold == pytest.approx(limit)
    cleaned = onion.inspect(classify, references)
    assert cleaned.rows["text"][:] == left
    triggered = rows_of(with_trigger(texts(40, 4)))
    result = onion.inspect(classify, triggered)
    assert not result.rejected.any()
    removed = [TRIGGER not in text.split() for text in result.rows["text"]]
    assert np.mean(removed) > 3 * rate
    assert result.rows["label"][:] == triggered["label"][:]


def test_training_rows_lose_the_share_of_words_that_is_said(folder: Path) -> None:
    references = Rows(rows_of(texts(100, 5)))
    model = ReferenceLanguageModel(str(folder), steps=60, lr=1e-2)
    defence = ONIONRows(references, ONION(model, "text", word_rate=0.1))
    data = toy_data()
    data.setup("fit")
    defence.attach(FedAvg(), data)
    clean = rows_of(texts(100, 6))
    kept = defence.rows(client(), clean)
    before, after = (sum(len(text.split()) for text in rows["text"]) for rows in (clean, kept))
    assert 0.05 < 1 - after / before < 0.2
    _, memory = defence.upload(client(), Payload(), Payload(), Payload())
    total, left, changed = memory.tensors["counts"].tolist()
    assert total == left == [100]
    expected = sum(a != b for a, b in zip(clean["text"][:], kept["text"][:], strict=True))
    assert changed == [expected]
    model = defence.onion.language_model._loaded
    defence.attach(FedAvg(), data)
    assert defence.onion.language_model._loaded is model


def test_all_words_but_the_least_suspicious_may_be_removed(folder: Path) -> None:
    references = rows_of(texts(20, 5))
    onion = ONION(ReferenceLanguageModel(str(folder)), "text", word_rate=1.0)
    onion.fit_words(references)
    words = [len(text.split()) for text in onion.cleaned(references)["text"]]
    assert words == [1] * 20


def test_a_text_keeps_a_word() -> None:
    onion = ONION(text="text", threshold=-1e12)
    found = onion.cleaned(rows_of(["Ann is here", "Ann", ""]))["text"][:]
    assert len(found[0].split()) == 1
    assert found[1:] == ["Ann", ""]
    rows = rows_of(["Ann is here"])
    assert ONION(text="text", threshold=1e300).cleaned(rows) is rows


def test_bad_input_is_refused(folder: Path, tmp_path: Path) -> None:
    model = ReferenceLanguageModel(str(folder))
    onion = ONION(model, "text")
    with pytest.raises(RuntimeError, match=r"ONION expects fit\(\) or fit_words\(\) before"):
        onion.cleaned(rows_of(["a b"]))
    with pytest.raises(ValueError, match="1 or more clean references, but there are 0"):
        onion.fit(classify, rows_of([]))
    steps = ONION(ReferenceLanguageModel(str(folder), steps=1), "text")
    with pytest.raises(ValueError, match="2 or more clean references, but there are 1"):
        steps.fit_words(rows_of(["a b"]))
    with pytest.raises(ValueError, match=r"`ONION.text` is expected to name a column of the refer"):
        onion.fit_words(rows_of(["a"]).rename_column("text", "note"))
    with pytest.raises(
        ValueError, match=r"`ONION.threshold` is expected to be finite, but got nan"
    ):
        ONION(threshold=float("nan"))
    for name in ("max_changed", "word_rate"):
        with pytest.raises(ValueError, match=rf"`ONION.{name}` is expected to be from 0 to 1"):
            ONION(**{name: -0.1})
    with pytest.raises(ValueError, match=r"`ONION.seed` is expected to be at least 0, but got -1"):
        ONION(seed=-1)
    shutil.copytree(folder, tmp_path / "lm")
    path = tmp_path / "lm" / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    settings.pop("eos_token")
    path.write_text(json.dumps(settings))
    endless = ONION(ReferenceLanguageModel(str(tmp_path / "lm")), "text")
    with pytest.raises(ValueError, match="a token that begins or ends a text"):
        endless.fit_words(rows_of(["a b"]))
