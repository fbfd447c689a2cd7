import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from lit_fed.methods.semantic_consensus import Medoid, SentenceTransformerEncoder
from tests.federation.toy import save_toy_model
from tests.methods.semantic_consensus.federations import consenting, fitted

TEXTS = [
    "good film",
    "a very long old book was bad and it was cold",
    "warm",
    "the day was very dull",
]
MEAN = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_model(tmp_path_factory.mktemp("encoder"))


def describe(
    base: Path,
    folder: Path,
    pooling: dict[str, object],
    kinds: tuple[str, ...] = ("Transformer", "Pooling", "Normalize"),
    **files: object,
) -> str:
    """The base beside the files that sentence-transformers writes."""
    for file in base.iterdir():
        (folder / file.name).symlink_to(file)
    (folder / "1_Pooling").mkdir()
    modules = [
        {
            "idx": i,
            "path": "1_Pooling" if i == 1 else "" if i == 0 else f"{i}_{kind}",
            "type": f"sentence_transformers.models.{kind}",
        }
        for i, kind in enumerate(kinds)
    ]
    written = {"modules.json": modules, "1_Pooling/config.json": pooling}
    for name, content in (written | {f"{n}.json": c for n, c in files.items()}).items():
        (folder / name).write_text(json.dumps(content))
    return str(folder)


def states(base: Path, text: str) -> Tensor:
    """The token states of a text alone, [L, d]."""
    model, tokenizer = AutoModel.from_pretrained(base).eval(), AutoTokenizer.from_pretrained(base)
    with torch.no_grad():
        return model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]


@pytest.mark.parametrize(
    ("pooling", "by_hand"),
    [
        (MEAN, lambda s: s.mean(0)),
        ({"pooling_mode": "mean"}, lambda s: s.mean(0)),
        ({"pooling_mode_cls_token": True}, lambda s: s[0]),
        ({"pooling_mode_max_tokens": True}, lambda s: s.amax(0)),
        ({"pooling_mode_lasttoken": True, "include_prompt": True}, lambda s: s[-1]),
    ],
)
def test_each_pooling_against_texts_one_by_one(
    base: Path, tmp_path: Path, pooling: dict[str, object], by_hand: Callable[[Tensor], Tensor]
) -> None:
    found = SentenceTransformerEncoder(describe(base, tmp_path, pooling), batch_size=2).encode(
        TEXTS
    )
    expected = torch.stack([by_hand(states(base, text)) for text in TEXTS])
    expected /= expected.norm(dim=1, keepdim=True)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_folder_without_modules_has_the_mean(base: Path, tmp_path: Path) -> None:
    described = SentenceTransformerEncoder(describe(base, tmp_path, MEAN))
    torch.testing.assert_close(
        SentenceTransformerEncoder(str(base)).encode(TEXTS), described.encode(TEXTS)
    )


def test_limit_lower_case_and_prompt(base: Path, tmp_path: Path) -> None:
    model = describe(
        base,
        tmp_path,
        MEAN,
        sentence_bert_config={"max_seq_length": 5, "do_lower_case": True},
        config_sentence_transformers={"prompts": {"query": "the "}, "default_prompt_name": "query"},
    )
    found = SentenceTransformerEncoder(model).encode(["GOOD film was", "good film was very bad"])
    torch.testing.assert_close(found[0], found[1])
    plain = SentenceTransformerEncoder(str(base)).encode(["the good film"])
    torch.testing.assert_close(found[0], plain[0], atol=1e-5, rtol=0)


def test_its_threshold_is_calibrated_once(base: Path) -> None:
    encoder = SentenceTransformerEncoder(str(base))
    first = encoder.threshold
    assert 0 < first < 1
    encoder._embed = None  # type: ignore[assignment, method-assign]
    assert encoder.threshold == first


def test_it_is_loaded_with_the_first_text(tmp_path: Path) -> None:
    encoder = SentenceTransformerEncoder(str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"`encoder\.model` is expected to be a folder"):
        encoder.encode(["text"])


def test_a_wrong_one_is_found_before_training(base: Path, tmp_path: Path) -> None:
    module = consenting(base, selector=Medoid(SentenceTransformerEncoder(str(tmp_path / "gone"))))
    with pytest.raises(FileNotFoundError, match=r"`encoder\.model` is expected to be a folder"):
        fitted(tmp_path / "run", module)
    assert not list(tmp_path.glob("run/checkpoints/*"))
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"`encoder\.model` is expected to be a folder"):
        SentenceTransformerEncoder(str(empty)).setup([])
    with pytest.raises(ValueError, match=r"`encoder\.device` is expected to be a device"):
        SentenceTransformerEncoder(str(base), device="nowhere").setup([])


@pytest.mark.parametrize(
    ("pooling", "kinds", "line"),
    [
        (
            {"pooling_mode_weightedmean_tokens": True},
            ("Transformer", "Pooling"),
            "one of mean, cls, max, lasttoken, but it is weightedmean_tokens",
        ),
        (
            {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
            ("Transformer", "Pooling"),
            "but it is mean and cls",
        ),
        ({}, ("Transformer", "Pooling"), "but it is none"),
        (MEAN, ("Transformer", "Pooling", "Dense"), "but it names Transformer, Pooling, Dense"),
        (MEAN, ("WordEmbeddings", "Pooling"), "but it names WordEmbeddings, Pooling"),
    ],
)
def test_what_is_not_known_is_refused(
    base: Path, tmp_path: Path, pooling: dict[str, object], kinds: tuple[str, ...], line: str
) -> None:
    with pytest.raises(ValueError, match=line):
        SentenceTransformerEncoder(describe(base, tmp_path, pooling, kinds)).encode(["text"])


def test_a_batch_size_out_of_range() -> None:
    with pytest.raises(
        ValueError,
        match=r"`model\.selector\.encoder\.batch_size` is expected to be at least 1, but got 0",
    ):
        SentenceTransformerEncoder("model", batch_size=0)


@pytest.mark.parametrize(
    "files",
    [
        {"modules.json": [{"path": "", "name": "x"}]},
        {"config_sentence_transformers.json": {"default_prompt_name": "query", "prompts": {}}},
    ],
)
def test_a_folder_that_is_damaged_is_named(
    files: dict[str, object], base: Path, tmp_path: Path
) -> None:
    model = describe(base, tmp_path, MEAN)
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(
        ValueError, match=r"`encoder.model` is .* expected to be those of a sentence"
    ):
        SentenceTransformerEncoder(model).encode(["good film"])
