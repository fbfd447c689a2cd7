"""When clients are asked, and what is said where they never would be."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from lit_fed.backbones import CallableGenerator
from lit_fed.methods.semantic_consensus import ClientGroup, EqualWeight, SoftConsensus
from lit_fed.methods.semantic_consensus.schedule import ConsensusSchedule
from tests.federation.toy import fast_adamw, save_toy_model, toy_backbone
from tests.methods.semantic_consensus.federations import (
    consensus_rows,
    consenting,
    fitted,
)

NEVER = "clients have never answered in the run's rounds"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_model(tmp_path_factory.mktemp("toy") / "model")


def soft(model: Path, **settings: Any) -> SoftConsensus:
    return SoftConsensus(toy_backbone(model), optimizer=fast_adamw, **settings)


@pytest.mark.parametrize("wrong", [2.5, 0, True, "2"])
@pytest.mark.parametrize("setting", ["warmup_rounds", "consensus_every"])
def test_what_is_no_number_of_rounds_is_named(setting: str, wrong: Any) -> None:
    given: dict[str, Any] = {"warmup_rounds": 1, "consensus_every": 1, "consensus_rounds": None}
    kind = "" if wrong == 0 else "a whole number of "
    said = f"`model.{setting}` is expected to be {kind}at least 1, but got {wrong!r}"
    with pytest.raises(ValueError, match=said):
        ConsensusSchedule(**given | {setting: wrong})


@pytest.mark.parametrize("method", [consenting, soft])
def test_a_warm_up_that_is_longer_than_the_run_is_refused(
    method: Any, model: Path, tmp_path: Path
) -> None:
    said = r"`model.warmup_rounds` .* at most `trainer.max_rounds`, which is 2, but got 3"
    with pytest.raises(ValueError, match=said):
        fitted(tmp_path / "long", method(model, warmup_rounds=3), max_rounds=2)
    assert not (tmp_path / "long").exists()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=NEVER)
        # at the end of the last round
        asked = fitted(tmp_path / "last", method(model, warmup_rounds=2), max_rounds=2)
        alone = method(model, warmup_rounds=3, consensus_rounds=0)
        fitted(tmp_path / "alone", alone, max_rounds=2)
    assert [bool(row["bytes/up"]) for row in asked.federation.history] == [False, True]


def test_a_trial_run_may_end_in_the_warm_up(model: Path, tmp_path: Path) -> None:
    trainer = fitted(tmp_path, consenting(model, warmup_rounds=3), fast_dev_run=1)
    assert trainer.current_round == 1


@pytest.mark.parametrize("method", [consenting, soft])
def test_a_warm_up_that_has_not_ended_is_told(method: Any, model: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=rf"{NEVER} \(2\), .*: `model.warmup_rounds` is null, by"):
        fitted(tmp_path, method(model, warmup_rounds=None), max_rounds=2)


def test_a_warm_up_that_no_client_could_end_is_refused(model: Path, tmp_path: Path) -> None:
    def still(params: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(params, lr=0.0)

    def asking(warmup_rounds: int | None, ids: list[str]) -> Any:
        group = ClientGroup(CallableGenerator(lambda prompt: "1"), ids)
        given = {"warmup_rounds": warmup_rounds, "vote_weight": EqualWeight()}
        return consenting(model, clients=[group], optimizer=still, **given)

    every = ["client-0", "client-1", "client-2"]
    said = r"`model.warmup_rounds` is expected to be a number where all clients are black boxes"
    with pytest.raises(ValueError, match=said):
        fitted(tmp_path / "every", asking(None, every), max_rounds=4)
    trainer = fitted(tmp_path / "fixed", asking(1, every), max_rounds=1)
    assert consensus_rows(trainer, "abstain_rate") == [0]
    trainer = fitted(tmp_path / "some", asking(None, every[:2]), max_rounds=4)
    assert consensus_rows(trainer, "abstain_rate") == [0]
