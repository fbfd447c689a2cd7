"""What is told of methods and their parts: every argument of a constructor that changes results."""

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from lit_fed import DDGMSI, AdversarialDistillation, PrototypeDefense, SemanticConsensus
from lit_fed.aggregation import FedAvgM, WeightedAverage
from lit_fed.attachment import Attachment
from lit_fed.backbones import SequenceClassifier
from lit_fed.data import (
    ClassificationEncoding,
    CSVSource,
    DirichletPartitioner,
    NaturalPartitioner,
    answer_is_right,
)
from lit_fed.data.partitioners import LabelShardsPartitioner, QuantitySkewPartitioner
from lit_fed.federation import FixedOrderSampler
from lit_fed.federation.run.description import constructor_arguments, described
from lit_fed.federation.run.identity import differences, identity_of
from lit_fed.methods.ddg import ClassConsensus, PublicConsensus
from lit_fed.methods.distillation import EmbeddingPGD
from lit_fed.methods.prototype_defense import FittedEncoder, PretrainedEncoder
from lit_fed.methods.rewriting import LeakFilter, NoFilter, Rewriting, SoftTargets
from lit_fed.methods.rewriting.rewriting import HINT
from lit_fed.methods.semantic_consensus import (
    ClientGroup,
    DawidSkene,
    EqualWeight,
    EveryPrompt,
    LabelAnswers,
    MajorityVote,
    MostDisagreed,
    SizeWeight,
)
from lit_fed.methods.teachers import AdapterTeacher, FineTunedTeacher, FrozenTeacher
from lit_fed.perturbations import DropBlock, GaussianNoise, LowRankReconstruction
from lit_fed.prototypes import AgreementGate, ConformalGate, EarlyMargin, RisingMargin
from tests.federation.toy import fast_adamw, save_toy_model, toy_backbone, toy_data, toy_trainer

ARGUMENTS: dict[str, tuple[Any, Any]] = {
    "lambda_distill": (0.5, 0.25),
    "lambda_align": (0.1, 0.2),
    "lambda_aggregate": (0.5, 0.6),
    "gamma": (3.0, 2.0),
    "center": (False, True),
    "temperature": (3.0, 1.0),
    "align_reduction": ("sum", "mean"),
    "align_projector": (None, nn.Linear(32, 32)),
    "stability_on": ("probabilities", "logits"),
    "site_weights": (None, {"attention": 0.5, "feed_forward": 2.0}),
    "mu": (1.0, 0.5),
    "beta": (0.01, 0.02),
    "inject_every": (2, 3),
    "sites": (["attention"], ["feed_forward"]),
    "warmup_steps": (0, 1),
    "lr_factors": (None, {"client-0": 0.5}),
    "rewriting": (None, SoftTargets()),
    "aggregation": (WeightedAverage(), WeightedAverage("rounds")),
    "consensus": (PublicConsensus(top_k=4), PublicConsensus(top_k=5)),
    "teacher": (AdapterTeacher(), None),
    "perturbation": (GaussianNoise(scale=0.1), DropBlock()),
}


def ddg_msi(folder: Path, **settings: Any) -> DDGMSI:
    given: dict[str, Any] = {name: one for name, (one, _) in ARGUMENTS.items() if name != "teacher"}
    given |= {"optimizer": fast_adamw, "consensus": PublicConsensus(top_k=4)}
    given |= {"perturbation": GaussianNoise(scale=0.1)}
    return DDGMSI(toy_backbone(folder, 0.1), **given | settings)


def identity(folder: Path, **settings: Any) -> dict[str, Any]:
    data = toy_data()
    data.setup()
    trainer = toy_trainer(folder.parent / "none")
    return identity_of(ddg_msi(folder, **settings), data, vars(trainer))


def test_every_argument_of_a_method_is_told(toy_model: Path) -> None:
    known = {*ARGUMENTS, "backbone", "optimizer"}
    assert set(constructor_arguments(DDGMSI)) == known, "an argument that this test does not know"
    plain = identity(toy_model)
    assert differences(plain, identity(toy_model)) == {}
    unseen = [
        name
        for name, (_, other) in ARGUMENTS.items()
        if other is not None and not differences(plain, identity(toy_model, **{name: other}))
    ]
    assert unseen == []


def test_a_frozen_teacher_is_told_by_its_weights(toy_model: Path, tmp_path: Path) -> None:
    def taught(model: Path, factor: float) -> dict[str, Any]:
        backbone = SequenceClassifier(str(model), peft=None)
        for parameter in backbone.parameters():
            parameter.data.mul_(factor)
        return identity(toy_model, teacher=FrozenTeacher(backbone))

    one = taught(toy_model, 1.0)
    assert differences(one, taught(save_toy_model(tmp_path / "elsewhere"), 1.0)) == {}
    changed = differences(one, taught(toy_model, 1.01))
    assert list(changed) == ["model.teacher.backbone.frozen weights"]


LEARNING: dict[str, tuple[Any, Any]] = {
    "labels": (None, ["LABEL_1", "LABEL_0"]),
    "epochs": (1, 2),
    "batch_size": (16, 8),
    "lr": (1e-3, 2e-3),
    "weight_decay": (0.01, 0.0),
    "seed": (0, 1),
    "cache_mb": (16.0, None),  # of no result
    "projector": (None, None),
}
ADVERSARY: dict[str, tuple[Any, Any]] = {
    "epsilon": (0.1, 0.2),
    "steps": (3, 4),
    "step_size": (0.05, 0.06),
}


def test_every_argument_of_a_distillation_is_told(toy_model: Path) -> None:
    data = toy_data()
    data.setup()

    def told(teacher: dict[str, Any], adversary: dict[str, Any], **settings: Any) -> dict[str, Any]:
        given = [{n: one for n, (one, _) in table.items()} for table in (LEARNING, ADVERSARY)]
        module = AdversarialDistillation(
            toy_backbone(toy_model),
            teacher=FineTunedTeacher(toy_backbone(toy_model), **given[0] | teacher),
            adversary=EmbeddingPGD(**given[1] | adversary),
            optimizer=fast_adamw,
            **settings,
        )
        return identity_of(module, data, vars(toy_trainer(toy_model.parent / "none")))

    own = {"teacher", "adversary", "lambda_distill", "temperature"}
    shared = {"backbone", "aggregation", "optimizer", "warmup_steps", "lr_factors", "rewriting"}
    assert set(constructor_arguments(AdversarialDistillation)) == own | shared
    assert set(constructor_arguments(FineTunedTeacher)) == {*LEARNING, "backbone"}
    assert set(constructor_arguments(EmbeddingPGD)) == set(ADVERSARY)
    plain = told({}, {})
    assert differences(plain, told({}, {})) == {}
    others = [({name: other}, {}, {}) for name, (_, other) in LEARNING.items() if other is not None]
    others += [({}, {name: other}, {}) for name, (_, other) in ADVERSARY.items()]
    others += [({}, {}, {"lambda_distill": 0.5}), ({}, {}, {"temperature": 1.0})]
    unseen = [one for one in others if not differences(plain, told(one[0], one[1], **one[2]))]
    assert unseen == []


CONSENTING: dict[str, tuple[Any, Any]] = {
    "selector": (MajorityVote(), DawidSkene()),
    "vote_weight": (EqualWeight(), SizeWeight()),
    "answers": (LabelAnswers(), LabelAnswers(epsilon=1.0)),
    "prompt_choice": (EveryPrompt(), MostDisagreed(4)),
    "warmup_rounds": (1, None),
    "consensus_every": (2, 3),
    "consensus_rounds": (None, 1),
    "only_changed": (True, False),
    "public_batch_size": (None, 4),
    "self_training": (False, True),
    "take_turns": (False, True),
    "eta": (1.0, 0.5),
    "weigh_by_confidence": (True, False),
    "warmup_steps": (0, 1),
    "lr_factors": (None, {"client-0": 0.5}),
}


def test_every_argument_of_a_consensus_is_told(toy_model: Path) -> None:
    def told(ids: list[str], **settings: Any) -> dict[str, Any]:
        data = toy_data()
        data.setup()
        given = {name: one for name, (one, _) in CONSENTING.items()} | {"optimizer": fast_adamw}
        group = ClientGroup(toy_backbone(toy_model), ids)
        module = SemanticConsensus(toy_backbone(toy_model), [group], **given | settings)
        return identity_of(module, data, vars(toy_trainer(toy_model.parent / "none")))

    known = {*CONSENTING, "backbone", "optimizer", "clients"}
    assert set(constructor_arguments(SemanticConsensus)) == known
    plain = told(["client-0"])
    assert differences(plain, told(["client-0"])) == {}
    assert list(differences(plain, told(["client-1"]))) == ["model.clients.0.ids"]
    unseen = [
        name
        for name, (_, other) in CONSENTING.items()
        if not differences(plain, told(["client-0"], **{name: other}))
    ]
    assert unseen == []
    few, more = (told(["client-0"], prompt_choice=MostDisagreed(n)) for n in (3, 4))
    assert list(differences(few, more)) == ["model.prompt_choice.budget"]


DEFENDING: dict[str, tuple[Any, Any]] = {
    "aggregation": (WeightedAverage(), WeightedAverage("rounds")),
    "references": (None, CSVSource("references.csv")),
    "num_prototypes": (4, 5),
    "supervised": (False, True),
    "held_out": (0.2, 0.3),
    "encoder": (PretrainedEncoder(), FittedEncoder()),
    "gate": (AgreementGate(), ConformalGate()),
    "assignment": ("trusted", "label"),
    "pull": (False, True),
    "project": (False, True),
    "adaptation": (0.0, 0.5),
    "layers": (None, [0]),
    "margin_schedule": (None, EarlyMargin(2)),
    "seed": (0, 1),
    "lambda_prototype": (1.0, 0.5),
    "margin": (0.3, 0.2),
    "lambda_distill": (0.5, 0.25),
    "temperature": (3.0, 1.0),
    "rewriting": (None, SoftTargets()),
    "warmup_steps": (0, 1),
    "lr_factors": (None, {"client-0": 0.5}),
}


def test_every_argument_of_a_defence_is_told(toy_model: Path) -> None:
    def told(**settings: Any) -> dict[str, Any]:
        data = toy_data()
        data.setup()
        given = {name: one for name, (one, _) in DEFENDING.items()} | {"optimizer": fast_adamw}
        module = PrototypeDefense(toy_backbone(toy_model), **given | settings)
        return identity_of(module, data, vars(toy_trainer(toy_model.parent / "none")))

    known = {*DEFENDING, "backbone", "optimizer", "teacher"}
    assert set(constructor_arguments(PrototypeDefense)) == known
    plain = told()
    assert differences(plain, told()) == {}
    unseen = [
        name
        for name, (_, other) in DEFENDING.items()
        if not differences(plain, told(**{name: other}))
    ]
    assert unseen == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (WeightedAverage("size"), WeightedAverage("uniform")),
        (FedAvgM(momentum=0.9), FedAvgM(momentum=0.5)),
        (FedAvgM(weights="size"), FedAvgM(weights="uniform")),
        (ClassificationEncoding(weight=None), ClassificationEncoding(weight="w")),
        (ClassificationEncoding(label_names=["a", "b"]), ClassificationEncoding()),
        (DirichletPartitioner(1.0), DirichletPartitioner(2.0)),
        (NaturalPartitioner("a"), NaturalPartitioner("b")),
        (LabelShardsPartitioner(2), LabelShardsPartitioner(3)),
        (QuantitySkewPartitioner(1.0), QuantitySkewPartitioner(2.0)),
        (FixedOrderSampler([0, 1]), FixedOrderSampler([1, 0])),
        (Attachment(["a"]), Attachment(["b"])),
        (PublicConsensus(server_steps=0), PublicConsensus(server_steps=2)),
        (PublicConsensus(batch_size=8), PublicConsensus(batch_size=16)),
        (ClassConsensus(), PublicConsensus()),
        (GaussianNoise(scale=0.1), GaussianNoise(scale=0.2)),
        (GaussianNoise(scale=0.1), GaussianNoise(scale=0.1, learn_scale=True)),
        (
            GaussianNoise(scale=0.1, learn_scale=True, scale_lr=0.1),
            GaussianNoise(scale=0.1, learn_scale=True, scale_lr=0.2),
        ),
        (DropBlock(block_size=3), DropBlock(block_size=4)),
        (LowRankReconstruction(rank=2), LowRankReconstruction(rank=3)),
        (SoftTargets(kappa=0.5), SoftTargets(kappa=0.25)),
        (SoftTargets(temperature=1.0), SoftTargets(temperature=2.0)),
        (Rewriting(), Rewriting(filter=NoFilter())),
        (Rewriting(), Rewriting(filter=LeakFilter(answer_is_right))),
        (Rewriting(), Rewriting(hint="{reference}")),
        (Rewriting(), Rewriting(hint={"en": HINT}, hint_by="language")),
        (
            Rewriting(hint={"en": HINT}, hint_by="language"),
            Rewriting(hint={"en": HINT}, hint_by="tongue"),
        ),
        (Rewriting(), Rewriting(refresh_every=2)),
        (Rewriting(), Rewriting(greedy=True)),
        (Rewriting(), Rewriting(temperature=1.0)),
        (Rewriting(), Rewriting(top_p=1.0)),
        (Rewriting(), Rewriting(top_k=0)),
        (Rewriting(), Rewriting(max_new_tokens=8)),
        (FittedEncoder(), FittedEncoder(epochs=3)),
        (FittedEncoder(), FittedEncoder(lr=2e-3)),
        (FittedEncoder(), FittedEncoder(max_grad_norm=0.5)),
        (FittedEncoder(), FittedEncoder(batch_size=8)),
        (FittedEncoder(), FittedEncoder(weight_decay=0.1)),
        (FittedEncoder(), FittedEncoder(seed=1)),
        (ConformalGate(0.1), ConformalGate(0.2)),
        (RisingMargin(0.9, 2), RisingMargin(0.9, 3)),
        (RisingMargin(0.9, 2), RisingMargin(0.8, 2)),
    ],
    ids=lambda one: type(one).__name__,
)
def test_parts_are_told_by_their_arguments(one: Any, other: Any) -> None:
    assert differences(described("x", one), described("x", one)) == {}
    assert differences(described("x", one), described("x", other))


def test_what_refers_to_itself_comes_to_an_end() -> None:
    part = Attachment(["a"])
    part.whole = [part]  # type: ignore[attr-defined]
    assert described("x", part)["x.clients"] == ["a"]
