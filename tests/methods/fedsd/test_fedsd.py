"""FedSD: resumed is whole, also when killed while clients rewrite, and vectorised is sequential."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import lightning
import pytest
import torch

from lit_fed import FedSD
from lit_fed.configuration_error import ConfigurationError
from lit_fed.federation import VectorizedClients
from lit_fed.methods.rewriting import Rewriting, SoftTargets
from tests.federation.toy import toy_backbone, without_times
from tests.methods.rewriting import rewriting_cases
from tests.methods.rewriting.rewriting_cases import fedavg, fedsd, fit
from tests.methods.toy_methods import continue_text, lm_data, save_toy_lm


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_lm(tmp_path_factory.mktemp("lm") / "model")


def test_rewrites_by_default_as_the_model_can(model: Path, toy_model: Path) -> None:
    assert isinstance(continue_text(FedSD, model).rewriting, Rewriting)
    assert isinstance(FedSD(toy_backbone(toy_model)).rewriting, SoftTargets)


@pytest.mark.slow
def test_resumed_is_whole_also_when_killed_while_clients_rewrite(
    model: Path, tmp_path: Path
) -> None:
    whole = fit(fedsd(model), tmp_path / "whole").federation
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, rewriting_cases.__file__, model, tmp_path / "killed", "1"]
    killed = subprocess.run([str(c) for c in command], env=environment, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert len(list((tmp_path / "killed" / "prepared").glob("client=*"))) == 1
    with pytest.warns(UserWarning, match="has no checkpoint yet"):
        resumed = fit(fedsd(model), tmp_path / "killed", ckpt_path="last").federation
    fit(fedsd(model), tmp_path / "parts", max_rounds=1)
    parts = fit(fedsd(model), tmp_path / "parts", ckpt_path="last").federation
    for other in (resumed, parts):
        assert other.broadcast == whole.broadcast
        assert other.clients == whole.clients
        assert without_times(other.history) == without_times(whole.history)


def test_vectorised_as_one_after_the_other(model: Path, tmp_path: Path) -> None:
    one = fit(fedsd(model), tmp_path / "one").federation
    both = fit(fedsd(model), tmp_path / "both", execution=VectorizedClients(2)).federation
    assert {n: s.prepared for n, s in one.clients.items()} == {
        n: s.prepared for n, s in both.clients.items()
    }
    for name, value in one.broadcast.tensors.items():
        torch.testing.assert_close(both.broadcast.tensors[name], value, rtol=1e-4, atol=1e-5)


def test_sends_as_many_bytes_as_fedavg_and_learns_something_else(
    model: Path, tmp_path: Path
) -> None:
    plain = fit(fedavg(model), tmp_path / "fedavg", max_rounds=1).federation
    ours = fit(fedsd(model), tmp_path / "fedsd", max_rounds=1).federation
    assert ours.ledger == plain.ledger
    assert ours.broadcast != plain.broadcast


def test_a_stock_trainer_is_refused(model: Path, tmp_path: Path) -> None:
    trainer = lightning.Trainer(
        max_steps=1, accelerator="cpu", logger=False, default_root_dir=tmp_path
    )
    with pytest.raises(ConfigurationError, match=r"to be a FederatedTrainer, .* lit_fed\.FedAvg"):
        trainer.fit(fedsd(model), datamodule=lm_data())
