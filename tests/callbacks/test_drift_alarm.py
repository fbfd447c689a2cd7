"""The alarm in a federation: what it logs, and that rows of another kind set it off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset

from lit_fed.callbacks import DriftAlarm
from lit_fed.callbacks.prototype_view import require_row_vectors, row_vectors
from lit_fed.data import ClassificationEncoding
from lit_fed.data.sources import Source
from tests.callbacks.prototyped import Prototyped, embed, prototyped, prototypes
from tests.federation.toy import (
    fast_adamw,
    save_toy_model,
    toy_backbone,
    toy_data,
    toy_module,
    toy_rows,
    toy_trainer,
)


class Rows(Source):
    def __init__(self, rows: Dataset) -> None:
        self.rows = rows

    def load(self) -> Dataset:
        return self.rows


@pytest.fixture(scope="module")
def toy_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_model(tmp_path_factory.mktemp("model"))


def fit(model: Path, root: Path, alarm: DriftAlarm, **data: Any) -> dict[str, float]:
    trainer = toy_trainer(root, callbacks=[alarm], max_rounds=1, clients_per_round=1)
    trainer.fit(prototyped(model), toy_data(**data))
    return trainer.federation.history[-1]


def distances(rows: Dataset) -> np.ndarray:
    states = embed(rows["text"][:]).double().numpy()
    states /= np.linalg.norm(states, axis=1, keepdims=True)
    return 1 - (states @ prototypes(1, 0.5).vectors.double().numpy().T).max(1)


def test_inputs_of_the_same_kind_and_of_another(toy_model: Path, tmp_path: Path) -> None:
    validation = toy_rows(80, 1)
    row = fit(toy_model, tmp_path / "a", DriftAlarm(window=20), validation=validation)
    own = distances(validation)[np.random.default_rng(0).permutation(80)]
    margin = np.sort(own[::2])[-1 - int(0.05 * 40)]
    assert row["drift/share"] == pytest.approx((own[1::2] > margin + 1e-7).mean(), abs=0.026)
    assert row["drift/expected"] == pytest.approx(0.05)
    assert row["drift/distance"] == pytest.approx(own[1::2].mean(), abs=1e-5)
    assert (row["drift/windows"], row["drift/alarms"]) == (2.0, 0.0)
    strange = Dataset.from_dict({"text": ["nothing that is known"] * 40, "label": [0] * 40})
    alarm = DriftAlarm(Rows(strange), window=20)
    row = fit(toy_model, tmp_path / "b", alarm, validation=validation)
    assert (row["drift/windows"], row["drift/alarms"], row["drift/share"]) == (2.0, 2.0, 1.0)


def test_rows_of_two_kinds_in_turn_are_no_drift(toy_model: Path, tmp_path: Path) -> None:
    known, strange = toy_rows(40, 1), ["nothing that is known"] * 40
    texts = [text for pair in zip(known["text"], strange, strict=True) for text in pair]
    rows = Dataset.from_dict({"text": texts, "label": [0, 1] * 40})
    row = fit(toy_model, tmp_path, DriftAlarm(window=20), validation=rows)
    assert (row["drift/windows"], row["drift/alarms"]) == (2.0, 0.0)


class ReadsAsInTraining(Prototyped):
    """Embeds rows as a method does that tokenises them, labels and all."""

    def embed_rows(self, rows: Dataset) -> torch.Tensor:
        self.data.encoding.encode(rows, self.tokenizer, 16)
        return embed(rows["text"][:])


def test_a_stream_needs_no_labels(toy_model: Path, tmp_path: Path) -> None:
    found = []
    for name, stream in (("with", toy_rows(40, 5)), ("without", toy_rows(40, 5))):
        if name == "without":
            stream = stream.remove_columns("label")
        alarm = DriftAlarm(Rows(stream), window=20)
        trainer = toy_trainer(tmp_path / name, callbacks=[alarm], max_rounds=1)
        module = ReadsAsInTraining(toy_backbone(toy_model), optimizer=fast_adamw)
        trainer.fit(module, toy_data())
        row = trainer.federation.history[-1]
        found.append({key: row[key] for key in row if key.startswith("drift/")})
    assert found[0] == found[1]
    assert found[0]["drift/windows"] == 2.0


def test_what_cannot_be_compared_is_refused(toy_model: Path, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"`DriftAlarm` expects a method .* but got FedAvg"):
        toy_trainer(tmp_path, callbacks=[DriftAlarm()]).fit(toy_module(toy_model), toy_data())
    with pytest.raises(ValueError, match="at most the 20 inputs that there are, but got 50"):
        fit(toy_model, tmp_path, DriftAlarm())
    with pytest.raises(ValueError, match=r"`DriftAlarm\.margin` is expected to be finite"):
        DriftAlarm(margin=float("nan"))
    with pytest.raises(ValueError, match=r"`DriftAlarm\.window` is expected to be at least 1"):
        DriftAlarm(window=0)


def test_rows_of_two_texts_are_embedded_as_rows_or_refused(toy_model: Path, tmp_path: Path) -> None:
    rows = toy_rows(80, 1)
    pairs = rows.add_column("more", rows["text"][:])
    encoding = ClassificationEncoding(text="text", text_pair="more")
    module = prototyped(toy_model)
    with pytest.raises(TypeError, match="embeds rows of the texts text, more by `embed_rows`, but"):
        require_row_vectors(module, encoding, pairs, "DriftAlarm")
    module.embed_rows = lambda rows: embed(rows["more"][:])
    require_row_vectors(module, encoding, pairs, "DriftAlarm")
    assert torch.equal(row_vectors(module, encoding, pairs), embed(rows["text"][:]))
    single = ClassificationEncoding(text="text", text_pair=None)
    require_row_vectors(prototyped(toy_model), single, rows, "DriftAlarm")
    assert torch.equal(row_vectors(prototyped(toy_model), single, rows), embed(rows["text"][:]))
