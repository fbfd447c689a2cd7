"""FedSDR with every aggregation rule there is, one client after the other and several at once."""

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

import lit_fed.aggregation
from lit_fed import FedSDR
from lit_fed.aggregation import (
    FLAME,
    Aggregation,
    CoordinateMedian,
    FedAdagrad,
    FedAdam,
    FedAvgM,
    FedExLoRA,
    FedSALoRA,
    FedYogi,
    FFALoRA,
    FlexLoRA,
    FLoRA,
    GeometricMedian,
    Krum,
    LocalOnly,
    MultiKrum,
    NormClipping,
    RoLoRA,
    TrimmedMean,
    WeightedAverage,
)
from lit_fed.federation import FederationState
from tests.federation.execution.agreement import adamw, assert_same_federation
from tests.federation.toy import toy_backbone, toy_data
from tests.methods.toy_methods import save_sober_model
from tests.slow import slow_but

RANKS = {"client-1": 2, "client-2": 3}
RULES: dict[str, Callable[[], Aggregation]] = {
    "WeightedAverage": WeightedAverage,
    "FedAvgM": FedAvgM,
    "FedAdagrad": FedAdagrad,
    "FedAdam": FedAdam,
    "FedYogi": FedYogi,
    "FFALoRA": FFALoRA,
    "RoLoRA": RoLoRA,
    "FedSALoRA": FedSALoRA,
    "LocalOnly": LocalOnly,
    "FlexLoRA": partial(FlexLoRA, RANKS, {"client-2": 3.0}),
    "FLoRA": partial(FLoRA, RANKS),
    "FedExLoRA": FedExLoRA,
    "CoordinateMedian": CoordinateMedian,
    "TrimmedMean": partial(TrimmedMean, 0.25),
    "Krum": partial(Krum, 0),
    "MultiKrum": partial(MultiKrum, 0, 3),
    "GeometricMedian": partial(GeometricMedian, max_iterations=5),  # else rounding decides how many
    "NormClipping": partial(NormClipping, 0.1),
    "FLAME": FLAME,
}
OWN_MODELS = {"FedSALoRA", "LocalOnly"}
"""Rules by which no model is common, also without S."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sober_model(tmp_path_factory.mktemp("sober") / "model")


def fedsdr(model: Path, rule: Callable[[], Aggregation]) -> FedSDR:
    return FedSDR(
        toy_backbone(model),
        rule(),
        optimizer=adamw,
        private_steps=2,
        shared_steps=2,
        private_rank=3,
    )


def test_these_are_all_the_rules() -> None:
    public = (getattr(lit_fed.aggregation, name) for name in lit_fed.aggregation.__all__)
    rules = {
        rule.__name__
        for rule in public
        if inspect.isclass(rule) and issubclass(rule, Aggregation) and not inspect.isabstract(rule)
    }
    assert rules == set(RULES)


@pytest.mark.parametrize("name", slow_but("FedAdam", "FLoRA", "LocalOnly", of=RULES))
def test_clients_together_train_as_single_ones(name: str, model: Path, tmp_path: Path) -> None:
    """Two rounds; each client has another S, which is frozen where R is trained."""
    together: FederationState = assert_same_federation(
        partial(fedsdr, model, RULES[name]),
        partial(toy_data, batch_size=16),
        tmp_path,
        at_once=4,
        second_round=True,
        keep_optimizer_state=True,
    )
    assert not together.failures
    assert len(together.clients) == 4
    built = fedsdr(model, RULES[name]).backbone.trainable("private")
    states = [state.private.parts["private"].tensors for state in together.clients.values()]
    for tensors in states:
        assert tensors.keys() == built.keys()
        assert all(not torch.equal(tensors[n].float(), built[n]) for n in tensors)
    assert any(not torch.equal(states[0][n], states[1][n]) for n in built)
    history = together.history[-1]
    assert ("val/loss" in history) == (name not in OWN_MODELS)
    assert not any("private" in n for n in together.broadcast.tensors)
