"""What is said of clients' privacy where a run goes on without noise, or rounds have nobody who spends any."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from lit_fed import FedAvg, FederatedTrainer
from lit_fed.attachment import Attachment
from lit_fed.federation.client.private_training import epsilon_of
from lit_fed.privacy import DPSGD
from tests.federation.toy import fast_adamw, toy_backbone, toy_data, toy_rows, toy_trainer
from tests.methods.toy_methods import save_sober_model


@pytest.fixture(scope="module")
def sober(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sober_model(tmp_path_factory.mktemp("toy") / "model")


def ran(folder: Path, root: Path, rounds: int, privacy: DPSGD | None, **settings: Any) -> Any:
    """A run of some rounds, which goes on with the one before where there is one."""
    given: dict[str, Any] = {
        "privacy": privacy,
        "clients_per_round": 1.0,
        "gradient_clip_val": None,
        "num_sanity_val_steps": 0,
        "test_at_end": False,
        "local_steps": 2,
        "resume_with_changes": True,
        "min_clients": 0,
    }
    trainer: FederatedTrainer = toy_trainer(root, max_rounds=rounds, **given | settings)
    module = FedAvg(toy_backbone(folder), optimizer=fast_adamw)
    data = toy_data(num_clients=2)
    trainer.fit(module, data, ckpt_path="last" if rounds > 1 else None)
    return trainer.federation


def test_an_account_is_kept_over_rounds_without_noise_and_no_epsilon_is_said_after_them(
    sober: Path, tmp_path: Path
) -> None:
    privacy = DPSGD(noise_multiplier=1.0)
    first = ran(sober, tmp_path, 1, privacy)
    spent = {name: epsilon_of(client.privacy) for name, client in first.clients.items()}
    assert first.history[-1]["privacy/epsilon/max"] == max(spent.values()) < math.inf
    bare = ran(sober, tmp_path, 2, None)
    assert bare.history[-1]["privacy/epsilon/max"] == math.inf
    for name, client in bare.clients.items():
        held = client.privacy.tensors
        assert held["history"].equal(first.clients[name].privacy.tensors["history"])
        assert epsilon_of(client.privacy) == math.inf
    with pytest.warns(UserWarning, match="has taken 2 steps without it, for whose rows no ε"):
        last = ran(sober, tmp_path, 3, privacy)
    assert last.failures == {"client-0": 1, "client-1": 1}
    assert last.history[-1]["privacy/epsilon/max"] == math.inf
    assert last.clients == bare.clients


def test_noise_that_comes_later_protects_nothing_that_was_sent(sober: Path, tmp_path: Path) -> None:
    bare = ran(sober, tmp_path, 1, None)
    assert "privacy/epsilon/max" not in bare.history[-1]
    assert not any(client.privacy for client in bare.clients.values())
    with pytest.warns(UserWarning, match="`trainer.privacy` alone, but has taken 2 steps without"):
        later = ran(sober, tmp_path, 2, DPSGD(noise_multiplier=1.0))
    assert later.failures == {"client-0": 1, "client-1": 1}


class Absent(Attachment):
    """Lets a client fail in some rounds before it has trained."""

    def __init__(self, client: str, rounds: set[int]) -> None:
        super().__init__([client])
        self.rounds = rounds

    def rows(self, client: Any, rows: Any) -> Any:
        if client.round in self.rounds:
            raise ValueError("absent")
        return rows


def test_the_most_that_was_spent_does_not_fall(sober: Path, tmp_path: Path) -> None:
    """Not after a round of which nobody has a figure, when a client comes that has spent less."""
    data = toy_data(
        train={"few": toy_rows(16, 0), "many": toy_rows(160, 1)}, num_clients=None, partitioner=None
    )
    trainer = toy_trainer(
        tmp_path,
        privacy=DPSGD(noise_multiplier=1.0),
        clients_per_round=1.0,
        gradient_clip_val=None,
        num_sanity_val_steps=0,
        test_at_end=False,
        local_steps=2,
        min_clients=0,
        attachments=[Absent("few", {1, 2}), Absent("many", {0, 1})],
    )
    with pytest.warns(UserWarning, match="absent"):
        trainer.fit(FedAvg(toy_backbone(sober), optimizer=fast_adamw), data)
    spent = {n: epsilon_of(c.privacy) for n, c in trainer.federation.clients.items()}
    assert spent["few"] > spent["many"] > 0
    most = [row["privacy/epsilon/max"] for row in trainer.federation.history]
    assert most == [spent["few"]] * 3
