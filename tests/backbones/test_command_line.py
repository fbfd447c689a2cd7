"""Backbones by class path, as LightningCLI makes them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import peft
import pytest
import yaml
from jsonargparse import ArgumentParser

from lit_fed.backbones import Backbone, SequenceClassifier

Models = Callable[..., str]


def parser() -> ArgumentParser:
    made = ArgumentParser(exit_on_error=False)
    made.add_argument("--config", action="config")
    made.add_subclass_arguments(Backbone, "backbone")
    return made


def build(folder: str, *arguments: str, **settings: Any) -> Any:
    given = {"class_path": "lit_fed.backbones.SequenceClassifier"}
    document = {"backbone": given | {"init_args": {"model": folder, **settings}}}
    config = parser().parse_args([f"--config={yaml.safe_dump(document)}", *arguments])
    # What is printed is what is run again.
    again = parser().parse_args([f"--config={parser().dump(config, skip_unset=False)}"])
    assert again.as_dict()["backbone"] == config.as_dict()["backbone"]
    return parser().instantiate(config).backbone


@pytest.mark.parametrize(
    ("class_path", "init_args"),
    [
        ("peft.LoraConfig", {"r": 4, "lora_alpha": 16, "target_modules": ["query", "key"]}),
        ("peft.LoraConfig", {"target_modules": "all-linear", "modules_to_save": ["pooler"]}),
        ("peft.IA3Config", {}),
        ("peft.PromptTuningConfig", {"num_virtual_tokens": 2}),
        ("peft.PrefixTuningConfig", {"num_virtual_tokens": 2}),
        ("peft.PromptEncoderConfig", {"num_virtual_tokens": 2, "encoder_hidden_size": 4}),
        ("peft.VeraConfig", {"r": 4}),
    ],
)
def test_any_configuration_by_class_path(
    tiny_model: Models, class_path: str, init_args: dict[str, Any]
) -> None:
    folder = tiny_model("bert")
    backbone = build(folder, peft={"class_path": class_path, "init_args": init_args})
    kind = getattr(peft, class_path.removeprefix("peft."))
    config = backbone.model.peft_config["default"]
    assert type(config) is kind
    # The same as from Python.
    python = SequenceClassifier(folder, peft=kind(**init_args))
    assert backbone.trainable().keys() == python.trainable().keys()
    assert config == python.model.peft_config["default"]


def test_full_fine_tuning_and_the_default(tiny_model: Models) -> None:
    full = build(tiny_model("bert"), peft=None)
    assert all(p.requires_grad for p in full.parameters())
    lora = build(tiny_model("bert"))
    assert type(lora.model.peft_config["default"]) is peft.LoraConfig


@pytest.mark.parametrize("name", ["LoraConfig", "peft.LoraConfig"])
def test_from_arguments(tiny_model: Models, name: str) -> None:
    backbone = build(tiny_model("bert"), f"--backbone.peft={name}", "--backbone.peft.r=3")
    assert backbone.model.peft_config["default"].r == 3


def test_unknown_configuration() -> None:
    with pytest.raises(Exception, match="LoraKonfig"):
        build("", peft={"class_path": "peft.LoraKonfig"})


def test_help_of_a_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(
            [
                "--backbone=lit_fed.backbones.SequenceClassifier",
                "--backbone.peft.help=peft.LoraConfig",
            ]
        )
    assert "lora_alpha" in capsys.readouterr().out


def test_importing_is_light() -> None:
    # transformers is there in any case: Lightning imports torchmetrics, which imports it.
    code = "import sys, lit_fed.backbones; print(*{'peft', 'accelerate'} & set(sys.modules))"
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert shown.stdout.strip() == ""
