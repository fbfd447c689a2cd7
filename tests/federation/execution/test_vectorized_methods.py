"""Every method, several clients at once: what is left is what a sequential run leaves."""

from __future__ import annotations

from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from lit_fed import DDG, DDGMSI, MSI, FedAvg, FederatedModule, PrototypeDefense
from lit_fed.methods.ddg import ClassConsensus, PeerConsensus, PublicConsensus
from lit_fed.methods.teachers import AdapterTeacher
from lit_fed.perturbations import DropBlock, GaussianNoise, LowRankReconstruction
from tests.federation.execution.agreement import OPTIMIZERS, assert_same_federation, sgd
from tests.federation.protocol_methods import Answers, SoftPredictions, TwoAdapters
from tests.federation.toy import save_toy_model, toy_backbone, toy_data, toy_rows
from tests.methods.toy_methods import continue_text, lm_data, lm_rows, save_toy_lm
from tests.slow import slow_but

noise = partial(GaussianNoise, scale=0.3)
METHODS: dict[str, tuple[type[FederatedModule], dict[str, Any]]] = {
    "fedavg": (FedAvg, {}),
    "ddg public": (DDG, {"center": True, "consensus": lambda: PublicConsensus(batch_size=5)}),
    "ddg peers": (DDG, {"consensus": PeerConsensus}),
    "ddg class": (DDG, {"consensus": ClassConsensus}),
    "ddg off": (DDG, {"lambda_aggregate": 0.0, "teacher": lambda: AdapterTeacher(0.0)}),
    "msi": (MSI, {"inject_every": 2, "perturbation": noise}),
    "msi learnt": (
        MSI,
        {"inject_every": 2, "perturbation": lambda: GaussianNoise(0.3, learn_scale=True)},
    ),
    "msi reconstruction": (
        MSI,
        {"inject_every": 2, "perturbation": lambda: LowRankReconstruction(rank=4)},
    ),
    "msi blocks": (MSI, {"inject_every": 1, "perturbation": lambda: DropBlock(rate=0.3)}),
    "prototypes": (
        PrototypeDefense,
        {"num_prototypes": 3, "pull": True, "adaptation": 0.5, "margin": 0.05, "held_out": 0.0},
    ),
    "prototypes of layers": (
        PrototypeDefense,
        {"num_prototypes": 3, "layers": [0], "margin": 0.0, "held_out": 0.0},
    ),
    "ddgmsi": (DDGMSI, {"inject_every": 2, "center": True, "perturbation": noise}),
}
PROTOCOL: list[type[FederatedModule]] = [SoftPredictions, TwoAdapters]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With dropout, as random numbers have to agree as well."""
    return save_toy_model(tmp_path_factory.mktemp("toy") / "model", width=16)


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_lm(tmp_path_factory.mktemp("lm") / "model")


def small_data(**settings: Any) -> Any:
    """Unequal clients: rows, steps, batches and lengths differ."""
    rows = {"train": toy_rows(40, 0), "validation": toy_rows(8, 1), "public": toy_rows(9, 3)}
    return toy_data(**rows | {"num_clients": 3, "batch_size": 5} | settings)


def built(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: made() if callable(made) else made for name, made in settings.items()}


# by SGD, which no scale of a gradient escapes, and once by what has moments
@pytest.mark.parametrize(
    ("name", "optimizer"),
    slow_but(
        *((name, "sgd") for name in METHODS if name not in ("ddg off", "msi", "msi blocks")),
        ("ddgmsi", "adamw"),
        of=product(METHODS, OPTIMIZERS),
    ),
)
def test_classifiers(name: str, optimizer: str, model: Path, tmp_path: Path) -> None:
    method, settings = METHODS[name]

    def module() -> FederatedModule:
        given = {"optimizer": OPTIMIZERS[optimizer], "warmup_steps": 3}
        return method(toy_backbone(model, dropout=0.2), **given, **built(settings))

    assert_same_federation(module, small_data, tmp_path, second_round=True)


@pytest.mark.parametrize(
    "name", slow_but("ddg peers", "ddgmsi", of=["ddg public", "ddg peers", "msi learnt", "ddgmsi"])
)
def test_language_models(name: str, language_model: Path, tmp_path: Path) -> None:
    method, settings = METHODS[name]

    def data() -> Any:
        return lm_data(train=lm_rows(24, 0), num_clients=3, batch_size=3)

    def module() -> FederatedModule:
        return continue_text(method, language_model, optimizer=sgd, **built(settings))

    assert_same_federation(module, data, tmp_path, second_round=True)


@pytest.mark.parametrize(
    ("method", "optimizer"),
    slow_but((SoftPredictions, "sgd"), (TwoAdapters, "adamw"), of=product(PROTOCOL, OPTIMIZERS)),
)
def test_protocol_methods(
    method: type[FederatedModule], optimizer: str, model: Path, tmp_path: Path
) -> None:
    def module() -> FederatedModule:
        given = {"optimizer": OPTIMIZERS[optimizer], "warmup_steps": 0}
        return method(toy_backbone(model, dropout=0.1), **given)

    assert_same_federation(module, small_data, tmp_path, second_round=True)


def test_clients_of_different_models(model: Path, tmp_path: Path) -> None:
    """Each of the two models serves the clients that it has."""
    other = save_toy_model(tmp_path / "other", width=24, extra_words=("new",))

    def module() -> FederatedModule:
        backbones = [toy_backbone(model, 0.1), toy_backbone(other, 0.1)]
        return Answers(backbones, optimizer=sgd, warmup_steps=0)

    assert_same_federation(module, lambda: small_data(num_clients=4), tmp_path, at_once=4)
