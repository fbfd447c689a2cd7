"""Soft targets: the mixture of labels and predictions, and that methods train on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lit_fed import DDG, DDGMSI, MSI, SCAFFOLD, FedAvg, FederatedModule, FedProx, FedSD
from lit_fed.data.columns import row_ids
from lit_fed.federation import VectorizedClients
from lit_fed.methods.averaging import REWRITING
from lit_fed.methods.rewriting import SoftTargets
from tests.federation.toy import toy_backbone, toy_data, toy_trainer
from tests.methods.toy_methods import classify
from tests.slow import slow_but


def fit(module: FederatedModule, run: Path, **settings: Any) -> Any:
    given = {"max_rounds": 1, "local_steps": 2, "clients_per_round": 4}
    trainer = toy_trainer(run, **given | settings)
    trainer.fit(module, toy_data())
    return trainer


def test_they_are_labels_mixed_with_what_the_initial_model_predicts(
    toy_model: Path, tmp_path: Path
) -> None:
    module = classify(FedSD, toy_model, rewriting=SoftTargets(kappa=0.25, temperature=2.0))
    trainer = fit(module, tmp_path)
    data, fresh = trainer.datamodule, toy_backbone(toy_model).eval()
    for client in data.clients:
        prepared = trainer.federation.clients[client.id].prepared.parts[REWRITING]
        loader = data.dataloader(client.rows, fresh.tokenizer)
        with torch.no_grad():
            logits = torch.cat([fresh(batch).logits for batch in loader]).double().numpy()
        e = np.exp(logits / 2)
        labels = np.eye(2)[client.rows["label"][:]]
        expected = 0.75 * labels + 0.25 * e / e.sum(-1, keepdims=True)
        assert prepared.tensors["rows"].tolist() == row_ids(client.rows).tolist()
        batch = {
            "index": prepared.tensors["rows"],
            "labels": torch.tensor(client.rows["label"][:]),
        }
        found = module.rewriting.soft_targets(batch, prepared)
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
        # a label that has changed since counts as it is now
        batch["labels"] = 1 - batch["labels"]
        turned = module.rewriting.soft_targets(batch, prepared)
        np.testing.assert_allclose(
            turned.numpy(), expected + 0.75 * (labels[:, ::-1] - labels), atol=1e-5
        )


def test_they_are_found_by_the_rows_ids_in_whatever_order_the_rows_come(
    toy_model: Path, tmp_path: Path
) -> None:
    module = classify(FedSD, toy_model, rewriting=SoftTargets())
    rows = fit(module, tmp_path).datamodule.clients[0].rows
    soft, turned = SoftTargets(), rows.select(range(len(rows) - 1, -1, -1))
    labels = torch.tensor(rows["label"][:])[::2]
    batch = {"index": torch.from_numpy(row_ids(rows)[::2].copy()), "labels": labels}
    module.eval()
    found = [soft.soft_targets(batch, soft.prepare(module, one)) for one in (rows, turned)]
    torch.testing.assert_close(found[1], found[0])
    assert not torch.equal(found[0], found[0].flip(0))


def test_without_the_models_part_they_are_the_labels(toy_model: Path, tmp_path: Path) -> None:
    plain = fit(classify(FedAvg, toy_model), tmp_path / "plain").federation.broadcast
    soft = classify(FedSD, toy_model, rewriting=SoftTargets(kappa=0.0))
    ours = fit(soft, tmp_path / "soft").federation.broadcast
    for name, value in plain.tensors.items():
        torch.testing.assert_close(ours.tensors[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "method", slow_but(DDGMSI, SCAFFOLD, of=[FedProx, DDG, MSI, DDGMSI, SCAFFOLD])
)
def test_every_method_trains_on_them(
    method: type[FederatedModule], toy_model: Path, tmp_path: Path
) -> None:
    sgd = {"optimizer": lambda ps: torch.optim.SGD(ps, lr=0.1)} if method is SCAFFOLD else {}
    ends = [
        fit(classify(method, toy_model, rewriting=one, **sgd), tmp_path / str(number))
        for number, one in enumerate((None, SoftTargets()))
    ]
    assert ends[0].federation.broadcast.main != ends[1].federation.broadcast.main


def test_vectorised_as_one_after_the_other(toy_model: Path, tmp_path: Path) -> None:
    ends = [
        fit(classify(FedSD, toy_model), tmp_path / str(n), max_rounds=2, execution=execution)
        for n, execution in enumerate((None, VectorizedClients(4)))
    ]
    one, other = (end.federation for end in ends)
    assert {n: s.prepared for n, s in one.clients.items()} == {
        n: s.prepared for n, s in other.clients.items()
    }
    for name, value in one.broadcast.tensors.items():
        torch.testing.assert_close(other.broadcast.tensors[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kappa": 1.5}, r"kappa` is expected to be in \[0, 1\], but got 1\.5"),
        ({"temperature": 0.0}, r"temperature` is expected to be finite and above 0"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SoftTargets(**settings)
