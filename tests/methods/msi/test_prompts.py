"""MSI with a learnt prompt, whose tokens pass through the perturbed modules as well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import seed_everything
from peft import PrefixTuningConfig, PromptTuningConfig
from torch import Tensor, nn

from lit_fed import MSI
from lit_fed.backbones import SequenceClassifier
from lit_fed.perturbations import GaussianNoise, inject
from tests.federation.execution.agreement import assert_same_federation, sgd
from tests.federation.toy import save_toy_model, toy_data, toy_rows
from tests.slow import slow_but

PROMPTS = {
    "prompt": lambda: PromptTuningConfig(num_virtual_tokens=2),
    "prefix": lambda: PrefixTuningConfig(num_virtual_tokens=2),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_model(tmp_path_factory.mktemp("toy") / "model", width=16)


@pytest.mark.parametrize("kind", slow_but("prompt", of=PROMPTS))
def test_clients_together_as_one_after_the_other(kind: str, model: Path, tmp_path: Path) -> None:
    def module() -> MSI:
        seed_everything(0, verbose=False)
        backbone = SequenceClassifier(str(model), peft=PROMPTS[kind]())
        noise = GaussianNoise(0.3)
        return MSI(backbone, perturbation=noise, inject_every=1, optimizer=sgd, warmup_steps=0)

    def data() -> Any:
        return toy_data(train=toy_rows(24, 0), validation=toy_rows(8, 1), test=None, num_clients=2)

    state = assert_same_federation(module, data, tmp_path, at_once=2, max_rounds=1)
    assert not state.failures


def test_padding_alone_gets_no_noise(model: Path) -> None:
    backbone = SequenceClassifier(str(model), peft=PROMPTS["prompt"]())
    batch = {
        "input_ids": torch.tensor([[5, 6, 0], [7, 8, 9]]),
        "attention_mask": torch.tensor([[1, 1, 0], [1, 1, 1]]),
    }
    seen: list[Tensor] = []
    attention = next(m for n, m in backbone.model.named_modules() if n.endswith("attention.self"))
    handle = attention.register_forward_hook(
        lambda module, args, output: seen.append(output[0].detach())
    )
    generator = torch.Generator().manual_seed(0)
    mask = backbone.seen_mask(batch)
    noise = GaussianNoise(0.5)
    backbone.eval()
    with torch.no_grad():
        backbone(batch)
        handle.remove()
        assert isinstance(attention, nn.Module)
        with inject(backbone.model, noise, ["attention"], attention_mask=mask, generator=generator):
            handle = attention.register_forward_hook(
                lambda module, args, output: seen.append(output[0].detach())
            )
            backbone(batch)
            handle.remove()
    moved = (seen[0] - seen[1]).abs().sum(-1) > 0
    assert moved.tolist() == [[True, True, True, True, False], [True] * 5]
