"""Soft consensus: the mean predictions go down once, and are about the public rows that there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertModel

from lit_fed.backbones import SequenceClassifier
from lit_fed.configuration_error import ConfigurationError
from lit_fed.methods.semantic_consensus import ClientGroup, SoftConsensus
from tests.federation.toy import fast_adamw, save_toy_model, toy_backbone, toy_rows, toy_trainer
from tests.methods.semantic_consensus.federations import fitted, gone_on, small_data
from tests.methods.toy_methods import save_sober_model


@pytest.fixture(scope="module")
def sober(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sober_model(tmp_path_factory.mktemp("sober") / "model")


def soft(model: Path, **settings: Any) -> SoftConsensus:
    given = {"warmup_rounds": 1, "consensus_every": 2}
    return SoftConsensus(toy_backbone(model), optimizer=fast_adamw, **given | settings)


def test_mean_predictions_are_sent_once_and_learnt_until_there_are_others(
    sober: Path, tmp_path: Path
) -> None:
    trainer = fitted(tmp_path, soft(sober), max_rounds=5)
    history = trainer.federation.history
    clients, public = len(trainer.datamodule.clients), len(trainer.datamodule.public)
    probs = clients * public * 2 * 2  # two classes, 16 bits
    down = [row["bytes/down"] for row in history]
    # asked for in rounds 1, 3 and 5; sent in the round after each
    asked = [row["bytes/up"] for row in history]
    assert [bytes_ >= probs for bytes_ in asked] == [True, False, True, False, True]
    assert [bytes_ >= probs for bytes_ in down] == [False, True, False, True, False]
    learnt = [row.get("clients/train/consensus/max", 0) for row in history]
    assert learnt[0] == 0
    assert all(loss > 0 for loss in learnt[1:])


def test_a_client_that_was_not_there_gets_them_later(sober: Path, tmp_path: Path) -> None:
    given = {"max_rounds": 6, "clients_per_round": 1, "seed": 1}
    trainer = fitted(tmp_path, soft(sober, consensus_rounds=1), **given)
    history = trainer.federation.history
    sent = sum(row["bytes/down"] >= 2 * 2 * len(trainer.datamodule.public) for row in history)
    there = {c.id for c in trainer.datamodule.clients if trainer.federation.clients.get(c.id)}
    assert 1 < sent <= len(there)  # each of them once


@pytest.mark.parametrize("count", [20, 30])
def test_what_was_predicted_of_other_rows_is_forgotten(
    count: int, sober: Path, tmp_path: Path
) -> None:
    fitted(tmp_path, soft(sober, consensus_rounds=1), max_rounds=2)
    others = small_data(public=toy_rows(count, 7))
    trainer = gone_on(tmp_path, soft(sober, consensus_rounds=1), 3, others)
    assert not trainer.federation.failures
    assert trainer.federation.history[1]["clients/train/consensus/max"] > 0
    assert "clients/train/consensus/max" not in trainer.federation.history[2]


def test_a_run_that_goes_on_asks_no_more_often_than_it_may(sober: Path, tmp_path: Path) -> None:
    fitted(tmp_path, soft(sober, consensus_every=1), max_rounds=2)
    with pytest.raises(ConfigurationError, match=r"`model\.consensus_rounds` .* at least 3"):
        gone_on(tmp_path, soft(sober, consensus_every=1, consensus_rounds=2), 3)


def test_a_run_that_goes_on_is_the_run_in_one_go(sober: Path, tmp_path: Path) -> None:
    whole = fitted(tmp_path / "whole", soft(sober), max_rounds=4)
    fitted(tmp_path / "parts", soft(sober), max_rounds=3)
    trainer = toy_trainer(
        tmp_path / "parts", max_rounds=4, clients_per_round=1.0, num_sanity_val_steps=0
    )
    trainer.fit(soft(sober), small_data(), ckpt_path="last")
    for row, other in zip(whole.federation.history, trainer.federation.history, strict=True):
        assert row["clients/train/loss/mean"] == other["clients/train/loss/mean"]
        assert row["bytes/down"] == other["bytes/down"]
    assert torch.is_tensor(trainer.act_as_client(0)._probs)


def test_models_with_other_numbers_of_labels_are_refused_before_training(
    sober: Path, tmp_path: Path
) -> None:
    headless = save_toy_model(tmp_path / "headless")
    BertModel.from_pretrained(headless).save_pretrained(headless)
    wide = SequenceClassifier(str(headless), num_labels=3)
    groups = [ClientGroup(wide, ["client-0"])]
    module = soft(sober, clients=groups)
    said = r"as many labels as each other, but `model.backbone` has 2, `model.*` has 3"
    with pytest.raises(ValueError, match=said):
        fitted(tmp_path, module)
