"""What a backbone is told by: frozen weights, tokenizer, configuration, adapter; not by what trains."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig

from lit_fed.backbones import SequenceClassifier
from lit_fed.backbones.identity import weights_digest
from tests.federation.toy import save_toy_model


def identity(folder: Path, **settings: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"peft": LoraConfig(r=4)}
    return SequenceClassifier(str(folder), **given | settings).identity


def differing(one: dict[str, Any], other: dict[str, Any]) -> set[str]:
    return {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}


def test_the_folder_the_head_and_the_adapter_at_random_are_no_part(
    toy_model: Path, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    one = identity(toy_model)
    torch.manual_seed(2)
    assert differing(one, identity(save_toy_model(tmp_path / "model"))) == set()
    assert json.loads(json.dumps(one)) is not None


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"peft": LoraConfig(r=2)}, {"peft.r"}),
        ({"peft": LoraConfig(r=4, target_modules=["query"])}, {"peft.target_modules"}),
        ({"peft": LoraConfig(r=4, lora_dropout=0.5)}, {"peft.lora_dropout"}),
        ({"dtype": "bfloat16"}, {"frozen weights"}),
    ],
)
def test_what_a_user_sets_is_named(
    settings: dict[str, Any], names: set[str], toy_model: Path
) -> None:
    assert names <= differing(identity(toy_model), identity(toy_model, **settings))


def test_the_folders_content_is_named(toy_model: Path, tmp_path: Path) -> None:
    other = save_toy_model(tmp_path / "words", extra_words=("more",))
    assert {"tokenizer", "frozen weights"} <= differing(identity(toy_model), identity(other))
    calm = save_toy_model(tmp_path / "calm")
    config = json.loads((calm / "config.json").read_text())
    (calm / "config.json").write_text(json.dumps(config | {"hidden_dropout_prob": 0.5}))
    assert differing(identity(toy_model), identity(calm)) == {"config.hidden_dropout_prob"}


def test_a_backbone_that_trains_as_a_whole_is_told_by_its_shape(toy_model: Path) -> None:
    backbone = SequenceClassifier(str(toy_model), peft=None)
    assert backbone.identity["frozen weights"].startswith("0 values")
    frozen = SequenceClassifier(str(toy_model), peft=None)
    frozen.requires_grad_(False)
    assert not frozen.identity["frozen weights"].startswith("0 values")


def test_weights_are_told_by_a_sample(toy_model: Path) -> None:
    large = torch.zeros(1000, 1000)
    one = weights_digest({"w": large})
    large[0, 0] = 1
    assert weights_digest({"w": large}) != one
    assert weights_digest({"w": torch.zeros(0)}).startswith("0 values")
