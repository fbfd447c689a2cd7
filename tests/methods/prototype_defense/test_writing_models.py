"""Prototypes of a model that writes: the paper's own margin beside plain passes, and what needs classes refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig
from sklearn.cluster import KMeans
from transformers import AutoModelForCausalLM, AutoTokenizer

from lit_fed import PrototypeDefense
from lit_fed.backbones import CausalLM
from lit_fed.configuration_error import ConfigurationError
from lit_fed.data import InstructionEncoding
from lit_fed.methods.prototype_defense import FittedEncoder, PretrainedEncoder
from lit_fed.prototypes import AgreementGate, NoGate
from tests.federation.toy import fast_adamw, toy_trainer
from tests.methods.toy_methods import lm_data, save_toy_lm

LAMBDA, MARGIN, COUNT = 3.0, 0.05, 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_lm(tmp_path_factory.mktemp("lm"))


def literal(folder: Path, **settings: Any) -> PrototypeDefense:
    peft = LoraConfig(r=2, target_modules=["q_proj", "v_proj"])
    given: dict[str, Any] = {
        "gate": NoGate(),
        "assignment": "nearest",
        "encoder": PretrainedEncoder(),
        "num_prototypes": COUNT,
        "held_out": 0.0,
        "lambda_distill": 0.0,
        "lambda_prototype": LAMBDA,
        "margin": MARGIN,
        "optimizer": fast_adamw,
    }
    return PrototypeDefense(CausalLM(str(folder), peft=peft), **given | settings)


def plain_states(folder: Path, texts: list[str]) -> torch.Tensor:
    """Means of the last hidden state over the tokens of whole rows, one by one, by transformers alone."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = []
    for text in texts:
        ids = [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
        with torch.no_grad():
            hidden = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1]
        found.append(hidden[0].mean(0))
    return torch.stack(found)


def written(rows: Any) -> list[str]:
    return [f"text : {t} is : {a}" for t, a in zip(rows["text"], rows["answer"], strict=True)]


def test_the_margin_of_answers_is_that_of_plain_passes(folder: Path, tmp_path: Path) -> None:
    module, data = literal(folder), lm_data()
    trainer = toy_trainer(tmp_path, max_rounds=1, clients_per_round=1.0, test_at_end=False)
    trainer.fit(module, data)
    history = trainer.federation.history
    assert history[0]["clients/train/prototype/min"] > 0
    prototypes = module.prototypes
    assert prototypes.classes.tolist() == [-1] * COUNT
    unit = F.normalize(plain_states(folder, written(data.public)), dim=-1)
    centres = KMeans(COUNT, n_init=1, max_iter=300, random_state=0).fit(unit.double().numpy())
    expected = F.normalize(torch.from_numpy(centres.cluster_centers_).float(), dim=-1)
    torch.testing.assert_close(prototypes.vectors, expected, rtol=0, atol=1e-5)

    # of a student that has not trained, whose representations are those of the model as it was loaded
    fresh = literal(folder)
    assert module.guarding is not None
    module.guarding.go_by(None)
    fresh.guarding = module.guarding
    fresh.eval()
    rows = data.clients[0].rows.select(range(5))
    (batch,) = module.batches(rows)
    loss = float(fresh.training_step(batch, 0).detach())
    states = F.normalize(plain_states(folder, written(rows)), dim=-1)
    nearest = (states @ expected.T).max(-1).values
    hinge = LAMBDA * (1 - nearest - MARGIN).relu().mean()
    task = float(fresh.task_loss(fresh(batch), batch))
    assert loss == pytest.approx(task + float(hinge), abs=1e-5)


def test_an_encoder_is_fitted_on_answers(folder: Path, tmp_path: Path) -> None:
    module = literal(folder, encoder=FittedEncoder(epochs=2), held_out=0.25)
    trainer = toy_trainer(tmp_path, max_rounds=1, clients_per_round=1.0, test_at_end=False)
    trainer.fit(module, lm_data())
    assert module.guarding is not None
    assert module.guarding.guard is not None
    # three of the twelve references are held out of it
    assert int(module.prototypes.counts.sum()) == 9
    assert any(
        np.abs(w.numpy()).sum() > 0
        for n, w in module.guarding.guard.encoder.items()
        if "lora_B" in n
    )
    assert np.isfinite(trainer.federation.history[-1]["clients/train/prototype/max"])


def test_what_needs_classes_is_refused(folder: Path, tmp_path: Path) -> None:
    for settings in (
        {"gate": AgreementGate()},
        {"assignment": "trusted"},
        {"supervised": True},
        {"adaptation": 0.5},
    ):
        with pytest.raises(
            ValueError, match=r"since prototypes of answers have no classes, but got"
        ):
            literal(folder, **settings)
    packed = lm_data()
    packed.encoding.packing = True
    with pytest.raises(
        ConfigurationError, match=r"`data.encoding.packing` is expected to be false"
    ):
        toy_trainer(tmp_path, max_rounds=1, clients_per_round=1.0).fit(literal(folder), packed)
    assert InstructionEncoding(packing=True).packing
