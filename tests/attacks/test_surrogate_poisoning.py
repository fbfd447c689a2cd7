"""The attack on rows that a model of the references takes for the target."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from lit_fed import FedAvg
from lit_fed.attacks import SurrogatePoisoning
from lit_fed.attacks.triggers import SentenceTrigger
from lit_fed.backbones import CausalLM
from lit_fed.client import Client
from lit_fed.data import CSVSource, FederatedDataModule, IIDPartitioner
from lit_fed.data.columns import row_ids
from tests.federation.toy import BAD, GOOD, toy_backbone, toy_data, toy_rows
from tests.methods.toy_methods import lm_data, save_toy_lm

MISLABELLED = range(0, 40, 2)  # ids of rows of label 0, whose texts are those of label 1


def rows_with_mistakes() -> Dataset:
    """Rows, of which twenty of label 0 have a good word in the place of the bad one."""
    rows = toy_rows(160, 0)
    texts = list(rows["text"])
    for i in MISLABELLED:
        words = [GOOD[0] if word in BAD else word for word in texts[i].split()]
        texts[i] = " ".join(words)
    return Dataset.from_dict({"text": texts, "label": rows["label"]})


def data_of(module: FedAvg, **settings: Any) -> FederatedDataModule:
    given = {"train": rows_with_mistakes(), "public": toy_rows(200, 3)}
    data = toy_data(**{**given, "partitioner": IIDPartitioner(), **settings})
    data.setup()
    data.check(module.backbones)
    return data


def attack_of(**settings: Any) -> SurrogatePoisoning:
    given = {"rate": 0.1, "epochs": 12, "lr": 0.03}
    return SurrogatePoisoning(SentenceTrigger("so it was"), 1, **{**given, **settings})


@pytest.fixture
def module(toy_model: Path) -> FedAvg:
    return FedAvg(toy_backbone(toy_model))


def poisoned_ids(attack: SurrogatePoisoning, data: FederatedDataModule) -> set[int]:
    found = set()
    for index, one in enumerate(data.clients):
        own = attack.rows(Client(one.id, index, len(one.rows), 0, 0, 0), one.rows)
        for id, old, new in zip(row_ids(own).tolist(), one.rows, own, strict=True):
            if old != new:
                assert (old["label"], new["label"]) == (0, 1)
                assert "so it was" in new["text"]
                found.add(id)
    return found


def test_only_rows_that_the_surrogate_takes_for_the_target_are_poisoned(module: FedAvg) -> None:
    data = data_of(module)
    before = {n: p.clone() for n, p in module.state_dict().items()}
    random = torch.get_rng_state()
    attack = attack_of()
    attack.setup([one.id for one in data.clients])
    attack.attach(module, data)
    found = poisoned_ids(attack, data)
    assert len(found) == 16
    assert found <= set(MISLABELLED)
    summary = attack.summarised()
    assert summary["poisoned_rows"] == 16
    assert 18 <= summary["rows_taken_for_target"] <= 22
    few = attack_of(candidates=[*range(0, 20)], rate=0.05)
    few.attach(module, data)
    assert few.summarised()["rows_taken_for_target"] <= 10
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(p, before[n]) for n, p in module.state_dict().items())
    again = attack_of()
    again.attach(module, data)
    assert poisoned_ids(again, data) == found


def test_a_rate_beyond_the_mistakes_is_refused_with_their_number(module: FedAvg) -> None:
    data = data_of(module)
    with pytest.raises(
        ValueError, match=r"expects `rate` to give from 1 row to the (1[89]|2[0-2]) that can"
    ):
        attack_of(rate=0.5).attach(module, data)


def test_references_are_needed(module: FedAvg) -> None:
    data = data_of(module, public=None)
    with pytest.raises(
        ValueError, match=r"SurrogatePoisoning.references` is expected .* no public set"
    ):
        attack_of().attach(module, data)


def test_a_model_that_writes_is_refused(tmp_path: Path) -> None:
    module = FedAvg(CausalLM(str(save_toy_lm(tmp_path)), peft=None))
    with pytest.raises(ValueError, match=r"`model.backbone` to classify, but CausalLM does not"):
        attack_of().attach(module, lm_data())


def test_references_with_a_label_that_the_model_has_not_are_named(
    module: FedAvg, tmp_path: Path
) -> None:
    path = tmp_path / "references.csv"
    path.write_text("text,label\nthe film was good,1\nthe film was old,2\n", encoding="utf-8")
    with pytest.raises(
        ValueError,
        match=r"SurrogatePoisoning.references`: .* below the model's num_labels, 2, but 'label' has 2",
    ):
        attack_of(references=CSVSource(str(path))).attach(module, data_of(module))


def test_references_without_labels_are_named(module: FedAvg, tmp_path: Path) -> None:
    path = tmp_path / "references.csv"
    path.write_text("text\nthe film was good\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"SurrogatePoisoning.references.*'label'"):
        attack_of(references=CSVSource(str(path))).attach(module, data_of(module))
