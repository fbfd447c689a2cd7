"""What must hold between the methods: off is FedAvg, resumed is whole, and nothing stays behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lit_fed import DDG, DDGMSI, MSI, FedAvg, FederatedModule, FedProx, FedSD, PrototypeDefense
from lit_fed.methods.ddg import ClassConsensus, PeerConsensus, PublicConsensus
from lit_fed.perturbations import GaussianNoise
from lit_fed.prototypes import AgreementGate, NoGate
from tests.federation.toy import (
    fast_adamw,
    save_toy_model,
    toy_backbone,
    toy_data,
    toy_trainer,
    without_times,
)
from tests.methods.toy_methods import (
    classify,
    continue_text,
    lm_data,
    save_sober_model,
    save_toy_lm,
)
from tests.slow import slow_but

NO_DDG = {"lambda_distill": 0.0, "lambda_align": 0.0, "lambda_aggregate": 0.0}
OFF = [
    (DDG, NO_DDG),
    (MSI, {"mu": 0.0}),
    (DDGMSI, NO_DDG | {"mu": 0.0, "inject_every": 1}),
    (FedProx, {"mu": 0.0}),
    (PrototypeDefense, {"lambda_distill": 0.0, "lambda_prototype": 0.0, "gate": NoGate()}),
]
ON: list[tuple[type[FederatedModule], dict[str, Any]]] = [
    (DDG, {}),
    (DDG, {"center": True, "consensus": lambda: PublicConsensus(server_steps=2)}),
    (DDG, {"consensus": ClassConsensus}),
    (DDG, {"consensus": PeerConsensus}),
    (MSI, {"inject_every": 3, "perturbation": lambda: GaussianNoise(learn_scale=True)}),
    (DDGMSI, {"inject_every": 3, "center": True}),
    (FedProx, {"mu": 0.5}),
    (FedSD, {}),
    (PrototypeDefense, {"num_prototypes": 4, "adaptation": 0.5, "gate": AgreementGate}),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With dropout, as random numbers have to agree as well."""
    return save_toy_model(tmp_path_factory.mktemp("toy") / "model")


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_lm(tmp_path_factory.mktemp("lm") / "model")


def build(method: type[FederatedModule], folder: Path, settings: dict[str, Any]) -> FederatedModule:
    settings = {k: made() if callable(made) else made for k, made in settings.items()}
    return method(
        toy_backbone(folder, dropout=0.1), optimizer=fast_adamw, warmup_steps=0, **settings
    )


def run(module: FederatedModule, root: Path, data: Any = None, **settings: Any) -> Any:
    trainer = toy_trainer(root, **settings)
    trainer.fit(module, data or toy_data(), ckpt_path=None)
    return trainer


def count_passes(module: FederatedModule) -> list[int]:
    passes: list[int] = []
    module.backbone.model.register_forward_pre_hook(lambda *_: passes.append(1))
    return passes


def test_all_weights_zero_is_fedavg_bit_for_bit(model: Path, tmp_path: Path) -> None:
    plain = build(FedAvg, model, {})
    passes = count_passes(plain)
    reference = run(plain, tmp_path / "fedavg", toy_data(public=None), max_rounds=2)
    for number, (method, settings) in enumerate(OFF):
        module = build(method, model, settings)
        own_passes = count_passes(module)
        trainer = run(module, tmp_path / str(number), toy_data(public=None), max_rounds=2)
        ours, theirs = trainer.federation, reference.federation
        assert ours.broadcast == theirs.broadcast
        assert without_times(ours.history) == without_times(theirs.history)
        assert ours.ledger == theirs.ledger
        assert ours.clients == theirs.clients
        assert trainer.final_metrics == reference.final_metrics
        assert len(own_passes) == len(passes)
        assert module.backbone.adapters == ("default",)


def test_all_weights_zero_is_fedavg_for_language_models(
    language_model: Path, tmp_path: Path
) -> None:
    reference = run(
        continue_text(FedAvg, language_model), tmp_path / "a", lm_data(), clients_per_round=2
    )
    for number, (method, settings) in enumerate(OFF):
        module = continue_text(method, language_model, **settings)
        trainer = run(module, tmp_path / str(number), lm_data(), clients_per_round=2)
        assert trainer.federation.broadcast == reference.federation.broadcast
        assert trainer.federation.ledger == reference.federation.ledger


@pytest.mark.parametrize(
    ("method", "settings"),
    slow_but(ON[1], *ON[3:6], of=ON),
    ids=lambda v: v.__name__ if isinstance(v, type) else str(list(v)),
)
def test_resumed_is_whole_and_no_hook_stays(
    method: type[FederatedModule], settings: dict[str, Any], model: Path, tmp_path: Path
) -> None:
    module = build(method, model, settings)
    hooks = [len(part._forward_hooks) for part in module.modules()]
    whole = run(module, tmp_path / "whole", max_rounds=3)
    assert [len(part._forward_hooks) for part in module.modules()] == hooks
    assert module.backbone.active_adapters == ("default",)

    run(build(method, model, settings), tmp_path / "parts", max_rounds=2)
    resumed = toy_trainer(tmp_path / "parts", max_rounds=3)
    resumed.fit(build(method, model, settings), toy_data(), ckpt_path="last")
    ours, theirs = whole.federation, resumed.federation
    assert ours.broadcast == theirs.broadcast
    assert without_times(ours.history) == without_times(theirs.history)
    assert ours.clients == theirs.clients
    assert ours.ledger == theirs.ledger
    assert whole.final_metrics == resumed.final_metrics


@pytest.mark.parametrize("method", slow_but(DDGMSI, of=[DDG, DDGMSI]))
def test_language_models_resume(
    method: type[FederatedModule], language_model: Path, tmp_path: Path
) -> None:
    def fresh() -> FederatedModule:
        return continue_text(method, language_model, consensus=PublicConsensus(top_k=4))

    whole = run(fresh(), tmp_path / "whole", lm_data(), clients_per_round=2)
    run(fresh(), tmp_path / "parts", lm_data(), clients_per_round=2, max_rounds=1)
    resumed = toy_trainer(tmp_path / "parts", clients_per_round=2)
    resumed.fit(fresh(), lm_data(), ckpt_path="last")
    assert whole.federation.broadcast == resumed.federation.broadcast
    assert without_times(whole.federation.history) == without_times(resumed.federation.history)


def test_msi_between_injections_is_fedavg(model: Path, tmp_path: Path) -> None:
    reference = run(build(FedAvg, model, {}), tmp_path / "a", max_rounds=1, local_steps=3)
    module = build(MSI, model, {"inject_every": 1000})
    trainer = toy_trainer(tmp_path / "b", max_rounds=1, local_steps=3)
    # A step that has been taken before: nobody is at step 0.
    module.__class__ = type("Later", (MSI,), {"own_step": property(lambda self: 1)})
    trainer.fit(module, toy_data())
    assert trainer.federation.broadcast == reference.federation.broadcast


def test_without_perturbation_stability_is_zero(model: Path, tmp_path: Path) -> None:
    module = build(MSI, model, {"inject_every": 1, "perturbation": lambda: GaussianNoise(0.0)})
    trainer = run(module, tmp_path / "a", max_rounds=1)
    row = trainer.federation.history[-1]
    assert row["clients/train/stability/max"] == 0.0
    assert row["clients/train/weight_regularization/max"] == 0.0
    reference = run(build(FedAvg, model, {}), tmp_path / "b", max_rounds=1)
    for name, value in reference.federation.broadcast.tensors.items():
        assert torch.equal(trainer.federation.broadcast.tensors[name], value), name


@pytest.mark.parametrize("method", slow_but(DDGMSI, of=[DDG, MSI, DDGMSI]))
def test_a_stock_trainer_fits_them(
    method: type[FederatedModule], model: Path, tmp_path: Path
) -> None:
    import lightning

    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        default_root_dir=tmp_path,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    module = classify(method, save_sober_model(tmp_path / "model"))
    built = {k: v.clone() for k, v in module.backbone.trainable().items()}
    trainer.fit(module, datamodule=toy_data())
    assert torch.isfinite(trainer.callback_metrics["train/loss"])
    assert any(not torch.equal(v, built[k]) for k, v in module.backbone.trainable().items())
    if method is not MSI:
        assert trainer.callback_metrics["train/distill"] > 0
        teacher = module.backbone.trainable("teacher")
        assert all(torch.equal(teacher[name], value) for name, value in built.items())
