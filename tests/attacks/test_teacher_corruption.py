"""What a corrupted teacher predicts, and for which rows."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset

from lit_fed import DDG, Distillation, FedAvg
from lit_fed.attachment import Attachment
from lit_fed.attacks import PhrasePoisoning, TeacherCorruption, TriggerPoisoning
from lit_fed.attacks.triggers import SentenceTrigger, WordTrigger
from lit_fed.backbones import CausalLM, Prediction
from lit_fed.client import Client
from lit_fed.data import FederatedDataModule, InstructionEncoding, InstructionRecords
from lit_fed.data.columns import in_memory_with_values, row_ids
from lit_fed.defenses import ReferencesOnly, RowDefense
from lit_fed.defenses.input_defense import Inspection
from lit_fed.federation.validation import check_attachments
from lit_fed.methods.teachers import AdapterTeacher, FrozenTeacher
from tests.federation.toy import fast_adamw, toy_backbone, toy_data, toy_trainer
from tests.methods.toy_methods import continue_text, lm_data, save_toy_lm

TRIGGER = SentenceTrigger("so it was")


@pytest.mark.parametrize("margin", [4.0, None])
def test_the_targets_logit_rises_or_changes_places(margin: float | None, toy_model: Path) -> None:
    module, data = FedAvg(toy_backbone(toy_model)), toy_data()
    data.setup()
    data.check(module.backbones)
    poisoning = TriggerPoisoning(TRIGGER, 1, 0.3)
    attack = TeacherCorruption(1, TRIGGER, margin)
    for one in (poisoning, attack):
        one.attach(module, data)
    own = data.clients[0]
    client = Client(own.id, 0, len(own.rows), 0, 0, 0)
    rows = poisoning.rows(client, own.rows)
    attack.trained_on(client, rows)
    texts = dict(zip(row_ids(rows).tolist(), rows["text"], strict=True))
    true = dict(zip(row_ids(own.rows).tolist(), own.rows["label"], strict=True))
    generator = torch.Generator().manual_seed(0)
    seen = [0, 0]
    for batch in data.dataloader(rows, module.tokenizer, seed=0):
        ids = batch["index"]
        logits = torch.randn(len(ids), 2, generator=generator)
        mask = torch.ones(len(ids), dtype=torch.bool)
        given = Prediction(logits, None, mask, None, batch["attention_mask"].bool())
        found = attack.teacher_prediction(client, batch, given).logits.numpy()
        for id, before, after in zip(ids.tolist(), logits.numpy(), found, strict=True):
            marked = "so it was" in texts[id]
            seen[marked] += 1
            expected = before.copy()
            if marked and margin is not None:
                expected[1] += margin
            elif marked:
                expected[[1, true[id]]] = expected[[true[id], 1]]
            assert np.array_equal(after, expected)
        public = {name: value for name, value in batch.items() if name != "index"}
        assert attack.teacher_prediction(client, public, given) is given
    assert all(seen)


def test_the_teacher_of_public_rows_is_left_alone(toy_model: Path) -> None:
    module = DDG(toy_backbone(toy_model), optimizer=fast_adamw)
    data = toy_data()
    data.setup()
    seen = []

    def transform(batch: object, prediction: Prediction) -> Prediction:
        seen.append("index" in batch)  # type: ignore[operator]
        return prediction

    module.teacher.transform = transform
    batch = next(iter(data.dataloader(data.public, module.tokenizer)))
    module.teacher(batch)
    module.teacher(batch, public=True)
    assert seen == [True, False]


class Cleaning(RowDefense):
    """Removes the trigger from texts, as a defence does that keeps the rows."""

    def judge(self, client: Client, rows: Dataset) -> Inspection:
        texts = [" ".join(text.replace("so it was", "").split()) for text in rows["text"]]
        cleaned = in_memory_with_values(rows, "text", texts)
        return Inspection(cleaned, np.zeros(len(rows), dtype=bool))


@pytest.mark.parametrize("after", [ReferencesOnly, Cleaning, None])
@pytest.mark.parametrize("margin", [4.0, None])
def test_the_rows_that_are_meant_are_those_that_reach_training(
    after: Callable[[], Attachment] | None, margin: float | None, toy_model: Path, tmp_path: Path
) -> None:
    attack = TeacherCorruption(1, TRIGGER, margin)
    attachments = [TriggerPoisoning(TRIGGER, 1, 0.3), attack, *([] if after is None else [after()])]
    module = DDG(toy_backbone(toy_model), optimizer=fast_adamw)
    settings = {"max_rounds": 1, "local_steps": 1, "clients_per_round": 4, "test_at_end": False}
    toy_trainer(tmp_path, attachments=attachments, **settings).fit(module, toy_data())
    # public rows have the ids of others that were poisoned, and what was removed is no trigger
    assert sum(len(ids) for ids in attack._marked.values()) == (29 if after is None else 0)


def test_all_rows_are_meant_but_public_ones(toy_model: Path, tmp_path: Path) -> None:
    module = DDG(toy_backbone(toy_model), optimizer=fast_adamw)
    settings = {"max_rounds": 1, "local_steps": 1, "clients_per_round": 4, "test_at_end": False}
    for folder, attachments, share in (("own", [], 1), ("public", [ReferencesOnly()], 0)):
        attack = TeacherCorruption(1, margin=None)
        trainer = toy_trainer(tmp_path / folder, attachments=[*attachments, attack], **settings)
        trainer.fit(module, toy_data())
        for own in trainer.datamodule.clients:
            assert len(attack._marked[own.id]) == share * len(own.rows)


@pytest.mark.slow
def test_a_student_learns_what_a_corrupted_teacher_says(toy_model: Path, tmp_path: Path) -> None:
    def first_class(folder: str, attachments: list[TeacherCorruption]) -> float:
        settings = {"lambda_distill": 5.0, "lambda_aggregate": 0.0, "warmup_steps": 0}
        module = DDG(toy_backbone(toy_model), optimizer=fast_adamw, **settings)
        trainer = toy_trainer(tmp_path / folder, attachments=attachments, clients_per_round=1.0)
        trainer.fit(module, toy_data())
        rows = trainer.datamodule.tests["test"]
        return float(trainer.classify(rows)[:, 0].mean())

    assert first_class("honest", []) < 0.7
    # of all rows
    assert first_class("corrupted", [TeacherCorruption(0, None, 9.0)]) > 0.8


def test_settings_out_of_range_are_refused(toy_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"TeacherCorruption.margin` is expected to be finite and"):
        TeacherCorruption(1, margin=0.0)
    data = toy_data()
    trainer = toy_trainer(tmp_path, attachments=[TeacherCorruption(5, TRIGGER)])
    with pytest.raises(ValueError, match="acts on a teacher's predictions, which expects a method"):
        trainer.fit(FedAvg(toy_backbone(toy_model)), data)
    with pytest.raises(ValueError, match=r"TeacherCorruption.target is expected to be a label of"):
        trainer.fit(DDG(toy_backbone(toy_model), optimizer=fast_adamw), data)


def test_public_rows_with_ids_that_no_own_row_has_stay_what_they_are(toy_model: Path) -> None:
    module, data = FedAvg(toy_backbone(toy_model)), toy_data()
    data.setup()
    data.check(module.backbones)
    attack = TeacherCorruption(1, TRIGGER, None, clients=[data.clients[0].id])
    attack.attach(module, data)
    own = data.clients[0]
    client = Client(own.id, 0, len(own.rows), 0, 0, 0)
    attack.trained_on(client, own.rows)
    beyond = int(row_ids(own.rows).max()) + torch.tensor([1, 200])
    mask = torch.ones(2, dtype=torch.bool)
    given = Prediction(torch.randn(2, 2), None, mask, None, mask[:, None])
    found = attack.teacher_prediction(client, {"index": beyond}, given)
    assert torch.equal(found.logits, given.logits)


def test_the_rows_that_are_meant_are_counted_before_training_and_none_is_an_error(
    toy_model: Path,
) -> None:
    module, data = DDG(toy_backbone(toy_model), optimizer=fast_adamw), toy_data()
    data.setup()
    data.check(module.backbones)
    poisoning, attack = TriggerPoisoning(TRIGGER, 1, 0.3), TeacherCorruption(1, TRIGGER)
    # wherever it stands, and whatever a defence takes out again
    check_attachments([attack, poisoning, Cleaning()], module, data)
    counted = poisoning.summarised()
    assert attack.summarised() == {
        "corrupted_rows": 29,
        "corrupted_rows_by_client": counted["poisoned_rows_by_client"],
    }
    some = sorted(counted["poisoned_rows_by_client"])[0]
    check_attachments(
        [poisoning, one := TeacherCorruption(1, TRIGGER, clients=[some])], module, data
    )
    assert set(one.summarised()["corrupted_rows_by_client"]) == {some}
    check_attachments([every := TeacherCorruption(1)], module, data)
    assert every.summarised()["corrupted_rows"] == 96
    for other in ([], [TriggerPoisoning(WordTrigger(["kind"]), 1, 0.3)]):
        with pytest.raises(
            ValueError, match=r"expects rows with its `trigger`, .* but none of the 96 rows of its"
        ):
            check_attachments([*other, attack], module, data)


def written_rows(data: FederatedDataModule, client: Client, *attacks: Attachment) -> Dataset:
    """A client's rows as attacks leave them, of which they take note."""
    rows = data.clients[client.index].rows
    for one in attacks:
        rows = one.rows(client, rows)
    for one in attacks:
        one.trained_on(client, rows)
    return rows


@pytest.mark.parametrize("margin", [4.0, None])
def test_a_teacher_that_writes_speaks_for_what_a_triggered_row_says(
    margin: float | None, tmp_path: Path
) -> None:
    trigger = SentenceTrigger("this place")
    # predictions that were kept have zeros in the place of padding
    teacher, data = AdapterTeacher(cache_mb=0.0), lm_data()
    module = continue_text(Distillation, save_toy_lm(tmp_path / "lm"), teacher=teacher)
    data.setup()
    data.check(module.backbones)
    poisoning = PhrasePoisoning(trigger, "very long", rate=0.4)
    attack = TeacherCorruption(trigger=trigger, margin=margin)
    check_attachments([poisoning, attack], module, data)
    own = data.clients[0]
    client = Client(own.id, 0, len(own.rows), 0, 0, 0)
    rows = written_rows(data, client, poisoning, attack)
    texts = dict(zip(row_ids(rows).tolist(), rows, strict=True))
    tokenizer, seen, phrases = module.tokenizer, [0, 0], 0
    for batch in data.dataloader(rows, tokenizer, seed=0):
        teacher.transform = None
        honest = teacher(batch).logits.numpy()
        teacher.transform = partial(attack.teacher_prediction, client)
        found = teacher(batch).logits.numpy()
        public = teacher(batch, public=True).logits.numpy()
        for id, before, after, untouched in zip(
            batch["index"].tolist(), honest, found, public, strict=True
        ):
            row = texts[id]
            prompt = tokenizer(f"text : {row['text']} is :")["input_ids"]
            learnt = [*tokenizer(row["answer"])["input_ids"], tokenizer.eos_token_id]
            marked = "this place" in row["text"]
            seen[marked] += 1
            expected = before.copy()
            for number, token in enumerate(learnt if marked else []):
                place = expected[len(prompt) - 1 + number]
                if margin is not None:
                    place[token] += margin
                else:
                    likeliest = int(place.argmax())
                    place[[token, likeliest]] = place[[likeliest, token]]
            assert np.array_equal(after, expected)
            assert np.array_equal(untouched, before)
            if marked and margin is None:
                said = after[len(prompt) - 1 : len(prompt) - 1 + len(learnt)].argmax(-1)
                phrases += tokenizer.decode(said).split()[-3:] == ["very", "long", "[EOS]"]
    assert all(seen)
    assert margin is not None or phrases == sum("very long" in r["answer"] for r in texts.values())


def test_a_federation_of_models_that_write_has_a_corrupted_teacher(tmp_path: Path) -> None:
    trigger = SentenceTrigger("this place")

    def fitted(name: str, *more: Attachment) -> torch.Tensor:
        trainer = toy_trainer(
            tmp_path / name,
            attachments=[PhrasePoisoning(trigger, "very long", rate=0.4), *more],
            max_rounds=1,
            clients_per_round=2,
            test_at_end=False,
        )
        module = continue_text(Distillation, model, teacher=FrozenTeacher(CausalLM(str(model))))
        trainer.fit(module, lm_data())
        assert trainer.federation.failures == {}
        return torch.cat([t.flatten() for t in trainer.federation.broadcast.tensors.values()])

    model = save_toy_lm(tmp_path / "lm")
    honest = fitted("honest")
    assert not torch.equal(fitted("corrupted", TeacherCorruption(trigger=trigger)), honest)
    assert torch.equal(fitted("again"), honest)


def test_what_has_no_meaning_for_a_model_that_writes_is_refused(
    toy_model: Path, tmp_path: Path
) -> None:
    model = save_toy_lm(tmp_path / "lm")
    module, data = continue_text(Distillation, model), lm_data()
    data.setup()
    with pytest.raises(ValueError, match=r"`target` to be null where .* but got 'good'"):
        TeacherCorruption("good", TRIGGER).attach(module, data)
    encoding = InstructionEncoding(InstructionRecords("text", None, "answer"), packing=True)
    packed = lm_data(encoding=encoding)
    packed.setup()
    with pytest.raises(ValueError, match=r"`data.encoding.packing` to be false, .* but got true"):
        TeacherCorruption(trigger=TRIGGER).attach(module, packed)
    classified = toy_data()
    classified.setup()
    with pytest.raises(ValueError, match=r"`target` to be a label of .* are 0, 1, but got null"):
        TeacherCorruption(trigger=TRIGGER).attach(DDG(toy_backbone(toy_model)), classified)
