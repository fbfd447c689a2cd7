"""Clients that train by DP-SGD and answer by what they have learnt so: nobody else's rows need noise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

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
    labels_of,
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
    assert not adapters(trainer)["client-2"]


def test_next_to_no_noise_is_the_run_without_privacy(sober: Path, tmp_path: Path) -> None:
    """Own rows and labelled public ones, by SGD: an optimizer that scales its steps would take noise for a gradient."""

    def sgd(params: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(params, lr=0.5)

    def after(name: str, privacy: DPSGD | None) -> Any:
        module = consenting(sober, optimizer=sgd, vote_weight=EqualWeight(), public_batch_size=20)
        # all of a client's rows are drawn in each step
        data = small_data(batch_size=16)
        given = {"privacy": privacy, "max_rounds": 3, "gradient_clip_val": None}
        return fitted(tmp_path / name, module, data, **given)

    # no gradient is as large as the bound
    private = after("private", DPSGD(max_grad_norm=100.0, noise_multiplier=1e-9))
    plain = after("plain", None)
    assert labels_of(private) == labels_of(plain)
    assert private.federation.history[-1]["clients/train/consensus/min"] > 0
    for id, own in adapters(plain).items():
        ups = [name for name in own if "lora_B" in name]
        assert len(ups) == 4
        for name in ups:
            # at the start of LoRA B is 0
            assert float(own[name].norm()) > 1e-2
            found = adapters(private)[id][name]
            torch.testing.assert_close(found, own[name], rtol=1e-3, atol=1e-5, msg=name)
