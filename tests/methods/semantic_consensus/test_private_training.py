"""Clients that train by DP-SGD and answer by what they have learnt so: nobody else's rows need noise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lit_fed.backbones import CallableGenerator
from lit_fed.federation.client.private_training import epsilon_of
from lit_fed.methods.semantic_consensus import ClientGroup, EqualWeight
from lit_fed.privacy import DPSGD
from tests.federation.toy import GOOD
from tests.methods.semantic_consensus.federations import (
    adapters,
    consensus_rows,
    consenting,
    fitted,
    small_data,
)
from tests.methods.toy_methods import save_sober_model


@pytest.fixture(scope="module")
def sober(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sober_model(tmp_path_factory.mktemp("toy") / "model")


def knows(prompt: str) -> str:
    return "1" if set(prompt.split()) & set(GOOD) else "0"


def test_every_client_that_trains_has_an_account_and_answers(sober: Path, tmp_path: Path) -> None:
    groups = [ClientGroup(CallableGenerator(knows), ["client-2"])]
    module = consenting(sober, clients=groups, vote_weight=EqualWeight())
    privacy = DPSGD(max_grad_norm=1.0, noise_multiplier=1.0)
    trainer = fitted(
        tmp_path,
        module,
        small_data(),
        privacy=privacy,
        max_rounds=3,
        gradient_clip_val=None,
    )
    spent = {id: epsilon_of(one.privacy) for id, one in trainer.federation.clients.items()}
    # what trains nothing has spent nothing
    assert {id for id, epsilon in spent.items() if epsilon > 0} == {"client-0", "client-1"}
    told = json.loads((tmp_path / "summary.json").read_text())["privacy"]["epsilon"]
    assert {id: epsilon for id, epsilon in told.items() if epsilon} == {
        id: epsilon for id, epsilon in spent.items() if epsilon
    }
    assert len(consensus_rows(trainer, "abstain_rate")) == 3
    assert all(one for id, one in adapters(trainer).items() if id != "client-2")
