from pathlib import Path
from typing import Any

import pytest
import torch

from lit_fed import DDG, DDGMSI, MSI, Payload
from lit_fed.methods.ddg import PublicConsensus
from lit_fed.perturbations import GaussianNoise
from tests.federation.toy import toy_data, toy_trainer
from tests.methods.toy_methods import (
    classify,
    continue_text,
    lm_data,
    save_sober_model,
    save_toy_lm,
)

NO_DDG = {"lambda_distill": 0.0, "lambda_align": 0.0, "lambda_aggregate": 0.0}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sober_model(tmp_path_factory.mktemp("sober") / "model")


def run(module: Any, root: Path, data: Any = None, **settings: Any) -> Any:
    trainer = toy_trainer(root, **{"max_rounds": 2, "clients_per_round": 2} | settings)
    trainer.fit(module, data or toy_data())
    return trainer.federation


def test_without_one_of_its_parts_it_is_the_other(model: Path, tmp_path: Path) -> None:
    ddg = run(classify(DDG, model), tmp_path / "a")
    assert run(classify(DDGMSI, model, mu=0.0), tmp_path / "b").broadcast == ddg.broadcast
    msi = run(classify(MSI, model, inject_every=2), tmp_path / "c")
    half = classify(DDGMSI, model, inject_every=2, **NO_DDG)
    assert run(half, tmp_path / "d").broadcast == msi.broadcast


def test_its_loss_is_the_sum_and_it_takes_one_clean_pass(model: Path) -> None:
    data = toy_data()
    data.setup()
    q = torch.rand(24, 2).softmax(-1).half()
    batch = next(iter(data.dataloader(data.clients[0].rows, classify(MSI, model).tokenizer)))
    losses, passes = [], []
    for method, settings in (
        (DDG, {}),
        (MSI, {"inject_every": 1}),
        (MSI, {"mu": 0.0}),
        (DDGMSI, {"inject_every": 1}),
    ):
        module = classify(method, model, **settings)
        module.datamodule = data
        module.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
        consensus = {} if method is MSI else {"consensus": Payload({"probs": q})}
        module.download(Payload(module.backbone.trainable(), parts=consensus))
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for value in module.backbone.trainable().values():
                value += 0.1 * torch.randn(value.shape, generator=generator)
        count: list[int] = []
        module.backbone.model.register_forward_pre_hook(lambda *_, count=count: count.append(1))
        torch.manual_seed(2)
        losses.append(module.training_step(batch, 0))
        passes.append(len(count))
    ddg, msi, ce, both = losses
    torch.testing.assert_close(both, ddg + msi - ce)
    # student, teacher, and both on public rows; student and perturbed; student; all of them
    assert passes == [4, 2, 1, 5]


def test_teacher_guidance_and_upload_are_clean(model: Path) -> None:
    """Whatever the noise, all but the stability term is that of DDG."""
    data = toy_data()
    data.setup()
    q = torch.rand(24, 2).softmax(-1).half()
    terms, sent = [], []
    for scale in (0.0, 5.0):
        module = classify(DDGMSI, model, inject_every=1, perturbation=GaussianNoise(scale))
        module.datamodule = data
        logged: dict[str, float] = {}
        module.log = lambda name, value, logged=logged: logged.update({name: float(value.detach())})
        parts = {"consensus": Payload({"probs": q})}
        module.download(Payload(module.backbone.trainable(), parts=parts))
        batch = next(iter(data.dataloader(data.clients[0].rows, module.tokenizer)))
        torch.manual_seed(0)
        module.training_step(batch, 0)
        assert (logged.pop("train/stability") > 0) == (scale > 0)
        del logged["train/loss"], logged["train/weight_regularization"]
        terms.append(logged)
        sent.append(module.upload())
    assert terms[0] == terms[1]
    assert terms[0]["train/distill"] == terms[0]["train/align"] == 0.0
    assert sent[0] == sent[1]


def test_language_models(tmp_path: Path) -> None:
    folder = save_toy_lm(tmp_path / "model")
    settings = {"inject_every": 2, "sites": ["norm", "embedding"]}
    module = continue_text(DDGMSI, folder, consensus=PublicConsensus(top_k=4), **settings)
    row = run(module, tmp_path / "run", lm_data()).history[-1]
    for term in ("distill", "align", "aggregate", "stability", "weight_regularization"):
        assert row[f"clients/train/{term}/mean"] > 0, term
    # of 4 tokens out of 27 and one of all others
    assert 0.2 < row["clients/train/consensus_mass/mean"] < 1
