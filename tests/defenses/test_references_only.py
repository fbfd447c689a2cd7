"""The baseline of references alone: nothing of a client's own rows is left in what is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lit_fed.attacks import LabelFlipping
from lit_fed.defenses import ActivationClustering, ReferencesOnly
from tests.federation.toy import save_toy_model, toy_data, toy_module, toy_rows, toy_trainer


def fitted(model: Path, root: Path, *attachments: Any, **settings: Any) -> dict[str, torch.Tensor]:
    trainer = toy_trainer(root, attachments=list(attachments))
    trainer.fit(toy_module(model), toy_data(**settings))
    return dict(trainer.federation.broadcast.tensors)


def test_attackers_rows_change_nothing(tmp_path: Path) -> None:
    model = save_toy_model(tmp_path / "model")
    flipped = LabelFlipping(target=0, rate=0.5)
    found = fitted(model, tmp_path / "attacked", flipped, ReferencesOnly())
    clean = fitted(model, tmp_path / "clean", ReferencesOnly())
    attacked = fitted(model, tmp_path / "undefended", flipped)
    others = fitted(model, tmp_path / "others", ReferencesOnly(), public=toy_rows(24, 4))
    assert all(torch.equal(found[name], tensor) for name, tensor in clean.items())
    assert any(not torch.equal(attacked[name], tensor) for name, tensor in clean.items())
    # it is the references that are learnt
    assert any(not torch.equal(others[name], tensor) for name, tensor in clean.items())


def test_it_is_refused_without_references(tmp_path: Path) -> None:
    model = save_toy_model(tmp_path / "model")
    with pytest.raises(ValueError, match=r"ReferencesOnly expects `data.public` .* but got none"):
        fitted(model, tmp_path / "run", ReferencesOnly(), public=None)


def test_an_attack_behind_it_would_poison_the_references_and_is_refused(tmp_path: Path) -> None:
    model = save_toy_model(tmp_path / "model")
    attack = LabelFlipping(target=0, rate=0.5, clients=["client-1"])
    with pytest.raises(ValueError, match=r"LabelFlipping is expected before ReferencesOnly, which"):
        fitted(model, tmp_path / "all", ReferencesOnly(), attack)
    with pytest.raises(ValueError, match=r"expected before ActivationClustering, which would not"):
        fitted(model, tmp_path / "judged", ActivationClustering(), attack)
    # whose own rows stay are attacked as ever
    honest = ReferencesOnly(clients=["client-0", "client-2", "client-3"])
    apart = fitted(model, tmp_path / "apart", honest, attack)
    before = fitted(model, tmp_path / "before", attack, honest)
    assert all(torch.equal(before[name], tensor) for name, tensor in apart.items())
