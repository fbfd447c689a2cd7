from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer
from transformers.utils import logging

from lit_fed.backbones import CausalLM, SequenceClassifier
from lit_fed.backbones.pretrained import quiet_transformers

Models = Callable[..., str]


@pytest.mark.parametrize("name", ["/no/such/folder", "./nothing", "~/nothing", "a/b/c"])
def test_no_such_folder(name: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"`model\.backbone\.model` .* no folder " + name):
        SequenceClassifier(name)


def test_folder_without_config(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"a folder without config\.json"):
        SequenceClassifier(str(tmp_path))


def test_folder_without_weights(tmp_path: Path, tiny_model: Models) -> None:
    shutil.copy(Path(tiny_model("bert")) / "config.json", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"`model\.backbone\.model`: .*model\.safetensors"):
        SequenceClassifier(str(tmp_path))


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("kept", [0, 0.5])
def test_damaged_folder_is_one_line(
    file: str, kept: float, tmp_path: Path, tiny_model: Models
) -> None:
    folder = Path(shutil.copytree(tiny_model("bert"), tmp_path / "model"))
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[: int(len(content) * kept)])
    with pytest.raises((ValueError, OSError), match=r"^`model\.backbone\.model`[^\n]*$"):
        SequenceClassifier(str(folder))


def test_unknown_hub_name_is_one_line() -> None:
    with pytest.raises(
        FileNotFoundError,
        match=r"^`model\.backbone\.model`: there is no folder no-such[^\n]* hub: [^\n]*$",
    ):
        SequenceClassifier("no-such-owner/no-such-model")


def test_model_of_another_task(tiny_model: Models) -> None:
    with pytest.raises(ValueError, match=r"cannot be loaded with AutoModelForCausalLM"):
        CausalLM(tiny_model("t5"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtype": "int8"}, r"`model\.backbone\.dtype` is expected to be one of float32, .*'int8'"),
        ({"quantization": "8bit"}, r"`model\.backbone\.quantization` .* 4bit or null, .*'8bit'"),
        ({"num_labels": 1}, r"`model\.backbone\.num_labels` is expected to be at least 2, .* 1"),
    ],
)
def test_bad_settings(tiny_model: Models, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SequenceClassifier(tiny_model("bert"), **settings)


def test_head_for_another_number_of_labels(tiny_model: Models) -> None:
    folder = tiny_model("bert", "BertForSequenceClassification", num_labels=3)
    message = r"`model\.backbone\.num_labels` is 2, .* classifier\.bias is \[2\], .* \[3\]"
    with pytest.raises(ValueError, match=message):
        SequenceClassifier(folder, num_labels=2)
    assert SequenceClassifier(folder, num_labels=3).num_labels == 3


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_dtype(tiny_model: Models, dtype: Any) -> None:
    backbone = SequenceClassifier(tiny_model("bert"), peft=None, dtype=dtype)
    assert {p.dtype for p in backbone.parameters()} == {getattr(torch, dtype)}


def test_tokenizer_without_padding(tiny_model: Models) -> None:
    backbone = SequenceClassifier(tiny_model("llama", pads=False))
    assert backbone.tokenizer.pad_token == "</s>"
    assert backbone.model.config.pad_token_id == backbone.tokenizer.pad_token_id == 3


def test_padding_token_of_the_configuration(tmp_path: Path, tiny_model: Models) -> None:
    shutil.copytree(tiny_model("llama"), tmp_path, dirs_exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model("llama", pads=False))
    tokenizer.save_pretrained(tmp_path)
    assert CausalLM(str(tmp_path)).tokenizer.pad_token == "<pad>"


def test_tokenizer_with_nothing_that_pads(tmp_path: Path, tiny_model: Models) -> None:
    shutil.copytree(tiny_model("llama", pads=False), tmp_path, dirs_exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.eos_token = tokenizer.unk_token = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"whose tokenizer has no token that could pad"):
        CausalLM(str(tmp_path))


def test_quiet_restores_the_settings() -> None:
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    with quiet_transformers():
        assert logging.get_verbosity() == logging.ERROR
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_loading_prints_nothing(tiny_model: Models, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tiny_model("bert")
    capfd.readouterr()
    SequenceClassifier(folder)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "kept", "said"),
    [
        ("model.safetensors", 0, "header too small"),
        ("model.safetensors", 2000, "cannot be loaded with AutoModelForSequenceClassification"),
        ("config.json", 50, "is not a valid JSON file"),
        ("tokenizer.json", 100, "cannot be loaded with AutoModelForSequenceClassification"),
        ("tokenizer_config.json", 10, "cannot be loaded with AutoModelForSequenceClassification"),
    ],
)
def test_a_damaged_folder_is_named_in_one_line(
    toy_model: Path, tmp_path: Path, name: str, kept: int, said: str
) -> None:
    folder = shutil.copytree(toy_model, tmp_path / "damaged")
    (folder / name).write_bytes((folder / name).read_bytes()[:kept])
    with pytest.raises((ValueError, OSError), match=said) as error:
        SequenceClassifier(str(folder))
    assert str(error.value).startswith("`model.backbone.model`")
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_setting_of_a_wrong_type_in_the_configuration(toy_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(toy_model, tmp_path / "damaged")
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace('"hidden_size": 32', '"hidden_size": "32"'))
    with pytest.raises(ValueError, match=r"`model\.backbone\.model` is .*hidden_size") as error:
        SequenceClassifier(str(folder))
    assert "\n" not in str(error.value)


def test_a_folder_without_a_tokenizer_is_not_read_by_an_empty_one(
    toy_model: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(toy_model, tmp_path / "bare")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(
        ValueError, match=r"expected to have a tokenizer, such as a file tokenizer\.json"
    ):
        SequenceClassifier(str(folder))
