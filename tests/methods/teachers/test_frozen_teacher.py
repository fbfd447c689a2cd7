from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lit_fed import DDG, FedAvg
from lit_fed.backbones import Backbone, Prediction
from lit_fed.federation.client.resident_module import ResidentModule
from lit_fed.losses import mean_pool
from lit_fed.methods.teachers import FrozenTeacher, fit_projector
from tests.federation.toy import save_toy_model, toy_backbone, toy_data, toy_trainer
from tests.methods.toy_methods import classify, continue_text, lm_data, save_toy_lm


@pytest.fixture(scope="module")
def student_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_model(tmp_path_factory.mktemp("student") / "model", width=16)


@pytest.fixture(scope="module")
def teacher_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_model(tmp_path_factory.mktemp("teacher") / "model", width=24)


def batches(backbone: Backbone, count: int = 2) -> list[dict[str, Tensor]]:
    data = toy_data()
    data.setup()
    return list(data.dataloader(data.pooled, backbone.tokenizer, batch_size=16))[:count]


def pooled(backbone: Backbone, given: list[dict[str, Tensor]]) -> Tensor:
    with torch.no_grad():
        passes = [backbone.eval()(batch, output_hidden=True) for batch in given]
    return torch.cat([mean_pool(p.hidden, p.attention_mask) for p in passes])


def name_labels(backbone: Backbone, *names: str) -> Backbone:
    backbone.model.config.id2label = dict(enumerate(names))
    return backbone


def test_the_projector_is_the_least_squares_one(student_model: Path, teacher_model: Path) -> None:
    teacher, student = toy_backbone(teacher_model), toy_backbone(student_model)
    given = batches(student, 4)
    assert sum(len(batch["index"]) for batch in given) > 25
    projector = fit_projector(teacher, student, given, ridge=0.0)
    x, y = (pooled(one, given).double().numpy() for one in (teacher, student))
    # What is fitted is compared, not the matrix: layer norms leave the states in a plane.
    design = np.column_stack([x, np.ones(len(x))])
    expected = design @ np.linalg.lstsq(design, y, rcond=1e-6)[0]
    fitted = projector(torch.from_numpy(x).float()).numpy()
    np.testing.assert_allclose(fitted, expected, atol=1e-3)
    assert np.abs(expected - y).max() > 0.01  # so that fitting everything would not do
    assert not any(p.requires_grad for p in projector.parameters())
    with pytest.raises(ValueError, match="`batches` of fit_projector are expected"):
        fit_projector(teacher, student, [])


def test_it_predicts_what_the_model_predicts_in_the_students_size(
    student_model: Path, teacher_model: Path
) -> None:
    backbone, student = toy_backbone(teacher_model), toy_backbone(student_model)
    given = batches(student)
    projector = fit_projector(backbone, student, given)
    teacher = FrozenTeacher(backbone, projector)
    teacher.attach(student)
    for _ in range(2):  # the second time from the cache
        for batch in given:
            prediction = teacher.train()(batch, hidden=True)
            expected = backbone(batch)
            torch.testing.assert_close(prediction.logits, expected.logits)
            torch.testing.assert_close(prediction.hidden, projector(pooled(backbone, [batch])))
            assert not prediction.logits.requires_grad


def test_permuted_labels_are_mapped_by_their_names(
    student_model: Path, teacher_model: Path
) -> None:
    student = name_labels(toy_backbone(student_model), "bad", "good")
    backbone = name_labels(toy_backbone(teacher_model), "good", "bad")
    (batch,) = batches(student, 1)
    teacher = FrozenTeacher(backbone)
    teacher.attach(student)
    torch.testing.assert_close(teacher(batch).logits, backbone(batch).logits[:, [1, 0]])
    named = FrozenTeacher(backbone, labels=["good", "bad"])
    named.attach(toy_backbone(student_model))
    torch.testing.assert_close(named(batch).logits, backbone(batch).logits)


def test_what_it_cannot_teach_is_refused_by_name(
    student_model: Path, teacher_model: Path, tmp_path: Path
) -> None:
    student = toy_backbone(student_model)
    backbone = name_labels(toy_backbone(teacher_model), "neutral", "good")
    message = r"`model\.teacher` is .* LABEL_0, LABEL_1, but knows neutral, good"
    with pytest.raises(ValueError, match=message):
        classify(DDG, student_model, teacher=FrozenTeacher(backbone))
    with pytest.raises(ValueError, match="2 labels, good, but knows neutral, good"):
        FrozenTeacher(backbone, labels=["good"]).attach(student)
    folder, other = save_toy_lm(tmp_path / "first"), save_toy_lm(tmp_path / "second")
    file = other / "tokenizer.json"
    file.write_text(file.read_text().replace('"text"', '"said"'))
    writing = continue_text(FedAvg, folder).backbone
    with pytest.raises(ValueError, match=r"student's tokenizer, whose \d+ tokens a language model"):
        FrozenTeacher(continue_text(FedAvg, other).backbone).attach(writing)
    with pytest.raises(ValueError, match="predicts, but is a SequenceClassifier"):
        continue_text(
            DDG, save_toy_lm(tmp_path / "lm"), teacher=FrozenTeacher(toy_backbone(teacher_model))
        )


def test_a_federation_learns_from_it_and_leaves_it_alone(
    student_model: Path, teacher_model: Path, tmp_path: Path
) -> None:
    backbone = toy_backbone(teacher_model)
    projector = fit_projector(backbone, toy_backbone(student_model), batches(backbone))
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    teacher = FrozenTeacher(backbone, projector)
    module = classify(DDG, student_model, teacher=teacher, center=True)
    assert set(module.backbones) == {"backbone", "teacher.backbone"}
    assert module.backbone.adapters == ("default",)
    inside = {id(p) for p in [*backbone.parameters(), *backbone.buffers(), *projector.parameters()]}
    assert not inside & {id(t) for t in ResidentModule(module)._live}
    assert not inside & {id(p) for p in module.parameters() if p.requires_grad}
    assert set(module.private_state().tensors) == {
        "running_deviation.mean",
        "running_deviation.count",
    }
    trainer = toy_trainer(tmp_path, max_rounds=2)
    trainer.fit(module, toy_data())
    first = trainer.federation.history[0]
    assert first["clients/train/distill/mean"] > 0
    assert first["clients/train/align/mean"] > 0
    names = set(module.backbone.trainable())
    assert set(trainer.federation.broadcast.tensors) == names
    for state in trainer.federation.clients.values():
        assert len(state.private.tensors) == 2
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


def test_a_language_model_teaches_another_one(tmp_path: Path) -> None:
    folder = save_toy_lm(tmp_path / "lm")
    frozen = continue_text(DDG, folder).backbone
    module = continue_text(
        DDG, folder, teacher=FrozenTeacher(frozen), lambda_aggregate=0.0, lambda_align=0.0
    )
    trainer = toy_trainer(tmp_path / "run", max_rounds=1, clients_per_round=2)
    trainer.fit(module, lm_data())
    assert trainer.federation.history[0]["clients/train/distill/mean"] > 0


@pytest.mark.parametrize("kind", ["adapter", "frozen"])
def test_every_prediction_passes_the_transform(
    kind: str, student_model: Path, teacher_model: Path
) -> None:
    settings: dict[str, Any] = {}
    if kind == "frozen":
        settings["teacher"] = FrozenTeacher(toy_backbone(teacher_model))
    module = classify(DDG, student_model, **settings)
    (batch,) = batches(module.backbone, 1)
    plain = module.teacher(batch)
    seen: list[Tensor] = []

    def double(given: Mapping[str, Tensor], prediction: Prediction) -> Prediction:
        seen.append(given["index"])
        return Prediction(
            2 * prediction.logits, None, prediction.mask, None, prediction.attention_mask
        )

    module.teacher.transform = double
    for _ in range(2):  # also what comes from the cache, and only once each
        torch.testing.assert_close(module.teacher(batch).logits, 2 * plain.logits)
    assert [index.tolist() for index in seen] == [batch["index"].tolist()] * 2
    module.teacher.transform = None
    torch.testing.assert_close(module.teacher(batch).logits, plain.logits)


@pytest.mark.parametrize("change", [{"pad_token": "[UNK]"}, {"padding_side": "left"}, {}])
def test_a_teacher_that_pads_otherwise_reads_rows_itself(
    change: dict[str, str], student_model: Path
) -> None:
    teacher = FrozenTeacher(toy_backbone(student_model))
    for name, value in change.items():
        setattr(teacher.backbone.tokenizer, name, value)
    teacher.attach(toy_backbone(student_model))
    assert teacher.reads_itself == bool(change)
