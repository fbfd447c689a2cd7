"""A class, or something else, where an object is expected: said at once, naming the setting."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger

from lit_fed import DDG, MSI, FedAvg, FederatedTrainer
from lit_fed.aggregation import FedAvgM
from lit_fed.attachment import Attachment
from lit_fed.backbones import SequenceClassifier
from lit_fed.data import ClassificationEncoding, DirichletPartitioner, FederatedDataModule
from lit_fed.federation import UniformSampler, VectorizedClients
from lit_fed.methods.ddg import PublicConsensus
from lit_fed.methods.teachers import AdapterTeacher
from lit_fed.perturbations import GaussianNoise
from tests.federation.toy import save_toy_model, toy_backbone


def adamw() -> torch.optim.Optimizer:
    return torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])


@pytest.mark.parametrize(
    ("make", "setting", "kind"),
    [
        (FederatedDataModule, "data.partitioner", DirichletPartitioner),
        (FederatedDataModule, "data.encoding", ClassificationEncoding),
        (FederatedTrainer, "trainer.sampler", UniformSampler),
        (FederatedTrainer, "trainer.execution", VectorizedClients),
        (FedAvg, "model.backbone", SequenceClassifier),
    ],
)
def test_a_class_for_an_instance(make: Any, setting: str, kind: type) -> None:
    said = f"`{setting}` is expected to be an instance of .*got the class {kind.__name__}: write"
    with pytest.raises(TypeError, match=said):
        make(**{setting.rpartition(".")[2]: kind})


@pytest.mark.parametrize(
    ("make", "setting", "kind"),
    [
        (FedAvg, "model.aggregation", FedAvgM),
        (DDG, "model.consensus", PublicConsensus),
        (DDG, "model.teacher", AdapterTeacher),
        (MSI, "model.perturbation", GaussianNoise),
    ],
)
def test_a_class_for_a_part_of_a_method(
    make: Any, setting: str, kind: type, tmp_path: Path
) -> None:
    with pytest.raises(TypeError, match=f"`{setting}` .*got the class {kind.__name__}"):
        make(toy_backbone(save_toy_model(tmp_path)), **{setting.rpartition(".")[2]: kind})


@pytest.mark.parametrize(
    ("name", "kind"), [("callbacks", Callback), ("loggers", CSVLogger), ("attachments", Attachment)]
)
def test_a_class_in_a_list(name: str, kind: type) -> None:
    with pytest.raises(TypeError, match=f"`trainer.{name}` .*got the class {kind.__name__}"):
        FederatedTrainer(**{name: [kind]})  # type: ignore[arg-type]


def test_an_optimizer_for_a_function_that_makes_one() -> None:
    with pytest.raises(TypeError, match=r"`model.optimizer` is expected to be a function .*AdamW"):
        FedAvg(optimizer=adamw())  # type: ignore[arg-type]


def test_something_else() -> None:
    with pytest.raises(TypeError, match="instance of Partitioner, but got an instance of str"):
        FederatedDataModule(partitioner="dirichlet")  # type: ignore[arg-type]
