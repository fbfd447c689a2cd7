"""References are divided within classes, and what is held out is fitted on by nobody."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from lit_fed import PrototypeDefense
from lit_fed.attachment import Attachment
from lit_fed.client import Client
from lit_fed.configuration_error import ConfigurationError
from lit_fed.methods.prototype_defense import FittedEncoder, PretrainedEncoder
from lit_fed.methods.prototype_defense.references import split_references
from lit_fed.prototypes import ConformalGate
from tests.federation.toy import toy_backbone, toy_data, toy_rows, toy_trainer
from tests.methods.toy_methods import save_sober_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sober_model(tmp_path_factory.mktemp("sober") / "model")


def with_data(module: PrototypeDefense, **settings: Any) -> PrototypeDefense:
    module.datamodule = toy_data(**settings)
    module.datamodule.setup()
    module.datamodule.check(module.backbones)
    return module


def test_classes_are_divided_alike_and_parts_are_disjoint(model: Path) -> None:
    rows = toy_rows(50, 3).select([*range(0, 50, 2), *range(1, 12, 2)])  # 25 of 0 and 6 of 1
    module = with_data(PrototypeDefense(toy_backbone(model), num_prototypes=4), public=rows)
    for share, counts in ((0.0, {0: 25, 1: 6}), (0.3, {0: 18, 1: 5}), (0.99, {0: 1, 1: 1})):
        split = split_references(module, rows, share, seed=0)
        assert Counter(split.fitted["label"]) == counts
        assert split.labels.tolist() == list(split.fitted["label"])
        others = [] if split.held_out is None else list(split.held_out["text"])
        assert Counter([*split.fitted["text"], *others]) == Counter(rows["text"])
        assert len(split.held_out_labels) == len(others) == 31 - sum(counts.values())
    one, other = (split_references(module, rows, 0.3, seed) for seed in (0, 1))
    assert list(one.fitted["text"]) != list(other.fitted["text"])


def test_a_label_that_the_model_has_not_is_refused_as_in_the_public_set(model: Path) -> None:
    rows = toy_rows(20, 3)

    def labelled(last: int) -> Dataset:
        return rows.remove_columns("label").add_column("label", [*rows["label"][:-1], last])

    for last in (2, -1):
        settings = {"num_prototypes": 4, "references": labelled(last)}
        module = with_data(PrototypeDefense(toy_backbone(model), **settings))
        with pytest.raises(ConfigurationError) as told:
            module.initial_broadcast()
        with pytest.raises(ValueError, match=f"'label' has {last} in row 19") as public:
            with_data(PrototypeDefense(toy_backbone(model)), public=labelled(last))
        said = str(public.value).removeprefix("data.public")
        assert str(told.value) == f"`model.references`{said}"
        assert "labels from 0 and below the model's num_labels, 2, but" in said


def test_too_few_references_are_said(model: Path) -> None:
    rows = toy_rows(8, 3)
    settings = {"num_prototypes": 8, "references": rows}
    with pytest.raises(ConfigurationError, match=r"`model.num_prototypes` .* 6 of 8, but got 8"):
        with_data(
            PrototypeDefense(toy_backbone(model), held_out=0.3, **settings)
        ).initial_broadcast()
    few = with_data(PrototypeDefense(toy_backbone(model), held_out=0.1, **settings))
    with pytest.warns(UserWarning, match=r"`model.held_out` 0.1 leaves no reference"):
        few.initial_broadcast()


def test_a_label_that_the_data_have_not_is_refused(model: Path) -> None:
    backbone = toy_backbone(model)
    module = with_data(PrototypeDefense(backbone, num_prototypes=4))
    module.datamodule.encoding.names = ["bad"]  # the model knows a label more
    with pytest.raises(ConfigurationError, match=r"one of the 1 labels .* but 10 of 20 have none"):
        split_references(module, toy_rows(20, 3), 0.2, seed=0)


class Witness(FittedEncoder):
    """Notes what it is fitted on."""

    def fit(self, module: Any, references: Dataset) -> dict[str, torch.Tensor]:
        self.seen = list(references["text"])
        return super().fit(module, references)


class Calibrated(ConformalGate):
    """Notes how many references it is calibrated on."""

    def fit(self, *given: torch.Tensor) -> dict[str, torch.Tensor]:
        self.counts = [len(one) for one in given]
        return super().fit(*given)


def test_what_is_held_out_is_calibrated_on_alone(model: Path) -> None:
    encoder, gate, rows = Witness(epochs=1), Calibrated(0.2), toy_rows(60, 3)
    module = PrototypeDefense(
        toy_backbone(model), num_prototypes=4, encoder=encoder, gate=gate, held_out=0.3
    )
    with_data(module, public=rows).initial_broadcast()
    split = split_references(module, rows, 0.3, seed=0)
    assert encoder.seen == list(split.fitted["text"])
    assert not set(encoder.seen) & set(split.held_out["text"])
    assert gate.counts == [42, 42, 18, 18]
    assert int(module.guarding.guard.prototypes.counts.sum()) == 42


def test_fitting_leaves_the_student_and_chance_as_they_were(model: Path) -> None:
    module = with_data(PrototypeDefense(toy_backbone(model), num_prototypes=4))
    before = {n: p.detach().clone() for n, p in module.backbone.trainable().items()}
    trained = [n for n, p in module.named_parameters() if p.requires_grad]
    torch.manual_seed(5)
    state = torch.get_rng_state()
    module.initial_broadcast()
    assert torch.equal(torch.get_rng_state(), state)
    assert [n for n, p in module.named_parameters() if p.requires_grad] == trained
    assert module.backbone.active_adapters == ("default",)
    assert all(torch.equal(p, before[n]) for n, p in module.backbone.trainable().items())
    first = module.guarding.guard.prototypes.digest
    again = with_data(PrototypeDefense(toy_backbone(model), num_prototypes=4))
    again.initial_broadcast()
    assert again.guarding.guard.prototypes.digest == first


class Stopping(Attachment):
    """Flips all labels in the first round, and leaves them alone afterwards."""

    def __init__(self) -> None:
        super().__init__(["client-1"])
        self.flipped: Dataset | None = None

    def rows(self, client: Client, rows: Dataset) -> Dataset:
        if client.round > 0:
            return rows
        if self.flipped is None:
            labels = [1 - label for label in rows["label"]]
            self.flipped = rows.remove_columns("label").add_column("label", labels)
        return self.flipped


def test_rows_that_change_are_judged_again(model: Path, tmp_path: Path) -> None:
    passes: list[int] = []

    class Counting(PretrainedEncoder):
        def states(self, batch: Any) -> torch.Tensor:
            passes.append(len(batch["labels"]))
            return super().states(batch)

    module = PrototypeDefense(
        toy_backbone(model), num_prototypes=4, encoder=Counting(), lambda_distill=0.0
    )
    trainer = toy_trainer(
        tmp_path, max_rounds=3, clients_per_round=4, attachments=[Stopping()], test_at_end=False
    )
    trainer.fit(module, toy_data())
    rows = {own.id: len(own.rows) for own in trainer.datamodule.clients}
    # The references, each client's rows once, and those of the one whose rows have changed twice.
    assert sum(passes) == 24 + sum(rows.values()) + rows["client-1"]
    kept = [row["clients/train/kept_share/min"] for row in trainer.federation.history]
    assert kept[0] < 0.5 < kept[1] == kept[2]
