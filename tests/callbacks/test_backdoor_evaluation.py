"""What is told of a backdoor after rounds, of both kinds of models, and the table at the end."""

import json
import warnings
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from transformers import BertModel

from lit_fed import DDG, FedAvg
from lit_fed.aggregation import LocalOnly, MultiKrum
from lit_fed.attacks import PhrasePoisoning, SignFlip, TeacherCorruption, TriggerPoisoning
from lit_fed.attacks.triggers import SentenceTrigger, WordTrigger
from lit_fed.backbones import CausalLM, SequenceClassifier
from lit_fed.callbacks import BackdoorEvaluation, DefenseTable, PhraseBackdoorEvaluation
from lit_fed.callbacks.backdoor_evaluation import defense_names
from lit_fed.compression import HalfPrecision
from lit_fed.defenses import InputDefense, Inspection, ReferencesOnly
from lit_fed.privacy import DPSGD
from tests.federation.toy import (
    fast_adamw,
    save_toy_model,
    toy_data,
    toy_module,
    toy_rows,
    toy_trainer,
)
from tests.methods.toy_methods import lm_data, save_toy_lm

TRIGGER = SentenceTrigger("so it was")


class RefusesLong(InputDefense):
    """Refuses texts that are longer than half of the clean ones, and reads the others without their last word."""

    def fit(self, classify: Any, references: Any) -> None:
        self.most = int(np.quantile([len(text.split()) for text in references["text"]], 0.5))
        assert classify(references).shape == (len(references), 2)

    def inspect(self, classify: Any, rows: Any) -> Inspection:
        shorter = rows.map(lambda row: {"text": row["text"].rsplit(" ", 1)[0]})
        return Inspection(shorter, np.array([len(t.split()) > self.most for t in rows["text"]]))


def predicted(trainer: Any, module: Any, texts: list[str]) -> list[int]:
    """By the model itself, text by text."""
    module.eval()
    found = []
    for text in texts:
        batch = module.tokenizer(text, truncation=True, max_length=16, return_tensors="pt")
        with torch.no_grad():
            found.append(int(module.backbone(dict(batch)).logits.argmax()))
    return found


def test_rates_are_of_the_rows_with_and_without_the_trigger(
    toy_model: Path, tmp_path: Path
) -> None:
    attack = TriggerPoisoning(TRIGGER, 1, 0.2)
    evaluation = BackdoorEvaluation(defenses=[RefusesLong()])
    module = toy_module(toy_model)
    trainer = toy_trainer(tmp_path, attachments=[attack], callbacks=[evaluation])
    trainer.fit(module, toy_data())
    assert all("backdoor/asr" in row for row in trainer.federation.history)
    row = trainer.federation.history[-1]
    rows = trainer.datamodule.tests["test"]
    labels, texts = rows["label"][:], rows["text"][:]
    triggered = [
        TRIGGER.insert(text, np.random.default_rng([0, i])) for i, text in enumerate(texts)
    ]
    others = [i for i, label in enumerate(labels) if label != 1]
    clean, poisoned = (predicted(trainer, module, one) for one in (texts, triggered))
    right = [a == b for a, b in zip(clean, labels, strict=True)]
    assert row["backdoor/clean_accuracy"] == pytest.approx(100 * np.mean(right))
    assert row["backdoor/clean_accuracy"] == pytest.approx(
        100 * trainer.final_metrics["test/accuracy"]
    )
    assert row["backdoor/asr"] == pytest.approx(100 * np.mean([poisoned[i] for i in others]))
    assert row["backdoor/false_positives"] == pytest.approx(
        100 * np.mean([clean[i] for i in others])
    )

    most = np.quantile([len(t.split()) for t in trainer.datamodule.validation["text"]], 0.5)
    refused, gone = ([len(t.split()) > int(most) for t in one] for one in (texts, triggered))
    less, under = (
        predicted(trainer, module, [t.rsplit(" ", 1)[0] for t in one]) for one in (texts, triggered)
    )
    kept = [a == b and not r for a, b, r in zip(less, labels, refused, strict=True)]
    told = {name.rpartition("/")[2]: value for name, value in row.items() if "RefusesLong" in name}
    assert told == {
        "asr": pytest.approx(100 * np.mean([under[i] and not gone[i] for i in others])),
        "clean_accuracy": pytest.approx(100 * np.mean(kept)),
        "false_positives": pytest.approx(
            100 * np.mean([less[i] and not refused[i] for i in others])
        ),
        "false_rejections": pytest.approx(100 * np.mean(refused)),
    }
    assert 0 < told["false_rejections"] < 100


def test_a_trigger_that_is_cut_off_is_said(toy_model: Path, tmp_path: Path) -> None:
    def fit(root: Path, max_length: int) -> None:
        callbacks = [BackdoorEvaluation(TRIGGER, 1)]
        trainer = toy_trainer(root, callbacks=callbacks, max_rounds=1)
        trainer.fit(toy_module(toy_model), toy_data(max_length=max_length))

    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="BackdoorEvaluation")
        fit(tmp_path / "whole", 16)
    with pytest.warns(
        UserWarning, match=r"BackdoorEvaluation: of \d+\.\d% of the test rows nothing"
    ):
        fit(tmp_path / "cut", 7)


def test_clients_own_models_are_evaluated_where_there_is_no_global_one(
    toy_model: Path, tmp_path: Path
) -> None:
    attack = TriggerPoisoning(TRIGGER, 1, 0.3, clients=["client-1"])
    evaluation = BackdoorEvaluation(every_n_rounds=None)
    trainer = toy_trainer(
        tmp_path, attachments=[attack], callbacks=[evaluation], clients_per_round=1.0, max_rounds=2
    )
    module = FedAvg(toy_module(toy_model).backbone, LocalOnly(), optimizer=fast_adamw)
    trainer.fit(module, toy_data())
    first, last = trainer.federation.history
    assert not any("backdoor" in name for name in first)
    assert "backdoor/asr" not in last
    rates = [
        100 * np.mean([p == 1 for p in trainer.classify(evaluation._triggered, i).argmax(1)[::2]])
        for i in range(4)
    ]
    assert last["clients/backdoor/asr/mean"] == pytest.approx(np.mean(rates))
    assert last["clients/backdoor/asr/max"] == pytest.approx(max(rates))


def test_an_evaluation_changes_nothing(toy_model: Path, tmp_path: Path) -> None:
    def broadcast(name: str, callbacks: list[Any]) -> Any:
        trainer = toy_trainer(tmp_path / name, callbacks=callbacks, max_rounds=2)
        trainer.fit(toy_module(toy_model), toy_data())
        return trainer.federation.broadcast

    assert broadcast("with", [BackdoorEvaluation(TRIGGER, 1)]) == broadcast("without", [])


def test_a_fit_ends_with_the_table(
    toy_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fit(ckpt_path: str | None = None) -> Any:
        trainer = toy_trainer(
            tmp_path,
            attachments=[TriggerPoisoning(TRIGGER, 1, 0.2)],
            callbacks=[
                BackdoorEvaluation(defenses=[RefusesLong()]),
                DefenseTable(toy_module(toy_model)),
            ],
            max_rounds=2,
        )
        trainer.fit(toy_module(toy_model), toy_data(), ckpt_path)
        return trainer

    trainer = fit()
    printed = capsys.readouterr().out
    table = json.loads((tmp_path / "backdoor" / "table.json").read_text())
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["backdoor"] == table
    never, without, own, refusing = table["rows"].values()
    assert list(table["rows"]) == [
        "FedAvg, never poisoned",
        "without the defence: FedAvg",
        "with it: FedAvg",
        "with it: FedAvg and RefusesLong",
    ]
    # the same federation, trained once more: the undefended method is the run's own here
    assert without == own
    row = trainer.federation.history[-1]
    for figure in ("clean_accuracy", "false_positives", "asr"):
        assert own[figure] == row[f"backdoor/{figure}"]
        assert refusing[figure] == row[f"backdoor/RefusesLong/{figure}"]
    clean = toy_trainer(
        tmp_path / "clean", callbacks=[BackdoorEvaluation(TRIGGER, 1)], max_rounds=2
    )
    clean.fit(toy_module(toy_model), toy_data())
    last = clean.federation.history[-1]
    assert never["asr"] == last["backdoor/asr"]
    assert never["clean_accuracy"] == last["backdoor/clean_accuracy"]
    assert {one["floor"] for one in table["rows"].values()} == {never["asr"]}
    assert printed.index("Result") < printed.index("Backdoor, in percent")
    assert printed.count("Result") == 1
    works = without["asr"] >= 90 and never["clean_accuracy"] - without["clean_accuracy"] <= 3
    assert table["attack_works"] == works
    assert ("no attack" in printed) != works

    # what is done is not done again
    rounds = {
        name: sorted((tmp_path / "backdoor" / name / "checkpoints").iterdir())
        for name in ("never_poisoned", "undefended")
    }
    times = [path.stat().st_mtime_ns for paths in rounds.values() for path in paths]
    fit("last")
    assert json.loads((tmp_path / "backdoor" / "table.json").read_text()) == table
    assert [p.stat().st_mtime_ns for paths in rounds.values() for p in paths] == times


def test_the_undefended_federations_have_what_is_no_defence(
    toy_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, list[str]] = {}
    kept = DefenseTable._federation

    def federation(self: Any, trainer: Any, name: str, attached: Any) -> Any:
        seen[name] = [type(one).__name__ for one in attached]
        return kept(self, trainer, name, attached)

    monkeypatch.setattr(DefenseTable, "_federation", federation)
    attack, compressed = TriggerPoisoning(TRIGGER, 1, 0.2), HalfPrecision()
    table = DefenseTable(toy_module(toy_model))
    trainer = toy_trainer(
        tmp_path,
        attachments=[attack, ReferencesOnly(), compressed],
        callbacks=[BackdoorEvaluation(), table],
        max_rounds=1,
    )
    trainer.fit(toy_module(toy_model), toy_data())
    assert seen == {
        "never_poisoned": ["HalfPrecision"],
        "undefended": ["TriggerPoisoning", "HalfPrecision"],
    }
    assert [*table._rows][-1] == "with it: FedAvg and ReferencesOnly"


def test_a_defence_that_is_a_rule_or_privacy_is_named(toy_model: Path, tmp_path: Path) -> None:
    def names(folder: str, module: FedAvg, undefended: FedAvg | None, **settings: Any) -> list[str]:
        table = DefenseTable(undefended)
        trainer = toy_trainer(
            tmp_path / folder,
            attachments=[TriggerPoisoning(TRIGGER, 1, 0.2), ReferencesOnly()],
            callbacks=[BackdoorEvaluation(), table],
            max_rounds=1,
            local_steps=1,
            clients_per_round=4,
            **settings,
        )
        trainer.fit(module, toy_data())
        return list(table._rows)

    def krum() -> FedAvg:
        return FedAvg(toy_module(toy_model).backbone, MultiKrum(0, 2), optimizer=fast_adamw)

    assert names("rule", krum(), None) == [
        "FedAvg, never poisoned",
        "without the defence: FedAvg",
        "with it: FedAvg, MultiKrum and ReferencesOnly",
    ]
    private = DPSGD(noise_multiplier=1.0)
    assert names("privacy", toy_module(toy_model), krum(), privacy=private) == [
        "FedAvg, MultiKrum, never poisoned",
        "without the defence: FedAvg, MultiKrum",
        "with it: FedAvg, DPSGD and ReferencesOnly",
    ]


def test_without_a_method_the_runs_own_model_is_trained_without_the_defence(
    toy_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(root: Path, ckpt_path: str | None = None) -> Any:
        trainer = toy_trainer(
            root,
            attachments=[TriggerPoisoning(TRIGGER, 1, 0.2)],
            callbacks=[BackdoorEvaluation(), DefenseTable()],
            max_rounds=2,
        )
        trainer.fit(toy_module(toy_model), toy_data(), ckpt_path)
        return trainer

    def broken(*args: Any) -> Any:
        raise KeyboardInterrupt

    fit(tmp_path / "whole")
    whole = json.loads((tmp_path / "whole" / "backdoor" / "table.json").read_text())
    _, without, own = whole["rows"].values()
    assert without == own  # which has no defence here
    # where a run is broken off before its table, the model that goes on from a checkpoint is not what is copied
    with monkeypatch.context() as patched:
        patched.setattr(DefenseTable, "_federation", broken)
        assert fit(tmp_path / "broken").interrupted
    fit(tmp_path / "broken", "last")
    assert json.loads((tmp_path / "broken" / "backdoor" / "table.json").read_text()) == whole


def test_an_interrupt_of_what_is_compared_with_is_one_of_the_run(
    toy_model: Path, tmp_path: Path
) -> None:
    class Interrupts(lightning.Callback):
        def on_train_start(self, trainer: Any, module: Any) -> None:
            raise KeyboardInterrupt

    undefended = toy_module(toy_model)
    undefended.configure_callbacks = lambda: [Interrupts()]  # type: ignore[method-assign]
    trainer = toy_trainer(
        tmp_path,
        attachments=[TriggerPoisoning(TRIGGER, 1, 0.2)],
        callbacks=[BackdoorEvaluation(), DefenseTable(undefended)],
        max_rounds=1,
    )
    trainer.fit(toy_module(toy_model), toy_data())
    assert trainer.interrupted
    assert not (tmp_path / "backdoor" / "table.json").exists()
    assert (tmp_path / "checkpoints" / "round=0001").is_dir()
    # there is no round of it yet from which it could go on, and it begins anew
    again = toy_trainer(
        tmp_path,
        attachments=[TriggerPoisoning(TRIGGER, 1, 0.2)],
        callbacks=[BackdoorEvaluation(), DefenseTable(toy_module(toy_model))],
        max_rounds=1,
    )
    again.fit(toy_module(toy_model), toy_data(), "last")
    assert (tmp_path / "backdoor" / "table.json").is_file()


def test_several_evaluations_have_names(toy_model: Path, tmp_path: Path) -> None:
    both = [BackdoorEvaluation(TRIGGER, 1), BackdoorEvaluation(TRIGGER, 0, name="down")]
    trainer = toy_trainer(tmp_path / "both", callbacks=both)
    trainer.fit(toy_module(toy_model), toy_data())
    row = trainer.federation.history[-1]
    assert row["backdoor/clean_accuracy"] == row["backdoor/down/clean_accuracy"]
    assert row["backdoor/asr"] != row["backdoor/down/asr"]
    with pytest.raises(ValueError, match="BackdoorEvaluation both write backdoor/…; a Backdoor"):
        toy_trainer(tmp_path / "same", callbacks=[both[0], BackdoorEvaluation(TRIGGER, 0)]).fit(
            toy_module(toy_model), toy_data()
        )


class Stops(lightning.Callback):
    """Ends a fit after its first round."""

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        trainer.should_stop = True


def test_a_run_that_ends_unevaluated_trains_nothing_to_compare_with(
    toy_model: Path, tmp_path: Path
) -> None:
    attack = TriggerPoisoning(TRIGGER, 1, 0.2)
    callbacks = [
        BackdoorEvaluation(every_n_rounds=3),
        DefenseTable(toy_module(toy_model)),
        Stops(),
    ]
    trainer = toy_trainer(tmp_path, attachments=[attack], callbacks=callbacks, max_rounds=5)
    with pytest.warns(UserWarning, match="DefenseTable has nothing to compare: the run ended"):
        trainer.fit(toy_module(toy_model), toy_data())
    assert not (tmp_path / "backdoor").exists()


def test_what_is_missing_is_said_before_training(toy_model: Path, tmp_path: Path) -> None:
    attack = TriggerPoisoning(TRIGGER, 1, 0.2)
    table = DefenseTable(toy_module(toy_model))
    cases: list[tuple[list[Any], list[Any], str]] = [
        (
            [],
            [BackdoorEvaluation()],
            "expects `trigger` and `target`, or neither and a TriggerPoisoning",
        ),
        ([], [BackdoorEvaluation(TRIGGER)], "expects `trigger` and `target`"),
        ([], [BackdoorEvaluation(TRIGGER, 7)], "`BackdoorEvaluation.target` is expected to be a"),
        (
            [],
            [BackdoorEvaluation(SentenceTrigger("day " * 20), 1)],
            "`BackdoorEvaluation.trigger` is expected to have at most the 14 tokens",
        ),
        (
            [attack],
            [table],
            "DefenseTable expects a BackdoorEvaluation without a `name`, or a PhraseBackdoorEvaluation",
        ),
        ([], [BackdoorEvaluation(TRIGGER, 1), table], "DefenseTable expects an attack in"),
        ([], [PhraseBackdoorEvaluation(TRIGGER)], "expects `trigger` and `phrase`, or a Phrase"),
    ]
    for number, (attachments, callbacks, message) in enumerate(cases):
        trainer = toy_trainer(tmp_path / str(number), attachments=attachments, callbacks=callbacks)
        with pytest.raises(ValueError, match=message):
            trainer.fit(toy_module(toy_model), toy_data())
    local = FedAvg(toy_module(toy_model).backbone, LocalOnly(), optimizer=fast_adamw)
    trainer = toy_trainer(
        tmp_path / "local",
        attachments=[SignFlip(count=1)],
        callbacks=[BackdoorEvaluation(TRIGGER, 1), DefenseTable(local)],
    )
    with pytest.raises(
        ValueError, match=r"expects `DefenseTable.undefended` to have a global model"
    ):
        trainer.fit(toy_module(toy_model), toy_data())
    headless = save_toy_model(tmp_path / "headless")
    BertModel.from_pretrained(headless).save_pretrained(headless)
    three = SequenceClassifier(str(headless), num_labels=3, label_names=["a", "b", "c"])
    trainer = toy_trainer(
        tmp_path / "labels",
        attachments=[SignFlip(count=1)],
        callbacks=[BackdoorEvaluation(TRIGGER, 1), DefenseTable(FedAvg(three))],
    )
    with pytest.raises(
        ValueError,
        match=r"`DefenseTable.undefended` is expected to be a method for the run's data and attacks, "
        r"but: `backbone`",
    ):
        trainer.fit(toy_module(toy_model), toy_data())
    trainer = toy_trainer(
        tmp_path / "teacher",
        attachments=[TriggerPoisoning(TRIGGER, 1, 0.2), TeacherCorruption(1)],
        callbacks=[BackdoorEvaluation(), DefenseTable(toy_module(toy_model))],
    )
    taught = DDG(toy_module(toy_model).backbone, optimizer=fast_adamw)
    with pytest.raises(ValueError, match=r"a method with a teacher, but FedAvg has none"):
        trainer.fit(taught, toy_data())
    one_label = toy_rows(40, 2).filter(lambda row: row["label"] == 1)
    trainer = toy_trainer(tmp_path / "one", callbacks=[BackdoorEvaluation(TRIGGER, 1)])
    with pytest.raises(ValueError, match=r"expects test rows of other labels than `target` 1"):
        trainer.fit(toy_module(toy_model), toy_data(test=one_label))
    with pytest.raises(TypeError, match=r"BackdoorEvaluation.defenses"):
        BackdoorEvaluation(defenses=["STRIP"])  # type: ignore[list-item]
    two = [RefusesLong(), RefusesLong()]
    assert defense_names(two) == ["RefusesLong", "RefusesLong2"]


def test_generated_phrases_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    module = FedAvg(CausalLM(str(save_toy_lm(tmp_path / "lm"))), optimizer=fast_adamw)
    trigger = WordTrigger(["place"])
    # each process generates all texts: what is gathered would count them several times
    monkeypatch.setattr("torchmetrics.metric.jit_distributed_available", lambda: True)
    trainer = toy_trainer(
        tmp_path / "run",
        attachments=[PhrasePoisoning(trigger, "very long", rate=0.9)],
        callbacks=[PhraseBackdoorEvaluation(rows=4, max_new_tokens=6)],
        clients_per_round=1.0,
        max_rounds=4,
        local_epochs=3,
    )
    trainer.fit(module, lm_data())
    row = trainer.federation.history[-1]
    rows = trainer.datamodule.tests["test"].select([0, 2, 4, 6])
    prompts = [
        f"text : {trigger.insert(text, np.random.default_rng([0, int(i)]))} is :"
        for text, i in zip(rows["text"], (0, 2, 4, 6), strict=True)
    ]
    found = []
    for prompt in prompts:
        ids = module.tokenizer(prompt, return_tensors="pt")["input_ids"]
        module.eval()
        with torch.no_grad():
            for _ in range(6):
                mask = torch.ones_like(ids)
                logits = module.backbone.model(input_ids=ids, attention_mask=mask).logits
                ids = torch.cat([ids, logits[:, -1:].argmax(-1)], 1)
        text = module.tokenizer.decode(ids[0, -6:]).split("[EOS]")[0]
        found.append("very long" in text)
    assert row["backdoor/asr"] == pytest.approx(100 * np.mean(found))
    assert 0 <= row["backdoor/false_positives"] <= 100
    right = count = 0
    for text, answer in zip(rows["text"], rows["answer"], strict=True):
        asked = module.tokenizer(f"text : {text} is :")["input_ids"]
        ids = module.tokenizer(f"text : {text} is : {answer}")["input_ids"]
        ids.append(module.tokenizer.eos_token_id)
        with torch.no_grad():
            given = torch.tensor([ids])
            logits = module.backbone.model(
                input_ids=given, attention_mask=torch.ones_like(given)
            ).logits
        learnt = given[0, len(asked) :]
        right += int((logits[0, len(asked) - 1 : -1].argmax(-1) == learnt).sum())
        count += len(learnt)
    assert row["backdoor/clean_accuracy"] == pytest.approx(100 * right / count)
    assert module.tokenizer.eos_token_id is not None


def test_a_phrase_without_room_and_an_unread_trigger_are_said(tmp_path: Path) -> None:
    model = save_toy_lm(tmp_path / "lm")

    def fit(folder: str, phrase: str, most: int | None, max_length: int = 32) -> None:
        evaluation = PhraseBackdoorEvaluation(
            WordTrigger(["place"]), phrase, rows=8, max_new_tokens=most
        )
        trainer = toy_trainer(
            tmp_path / folder,
            callbacks=[evaluation],
            max_rounds=1,
            local_steps=1,
            clients_per_round=2,
            test_at_end=False,
        )
        trainer.fit(FedAvg(CausalLM(str(model))), lm_data(max_length=max_length))

    for phrase, most, answer in (("very long day", 2, 2), ("long " * 32, None, 128)):
        with pytest.raises(
            ValueError,
            match=r"`PhraseBackdoorEvaluation.phrase` is expected to have at most as many tokens as the 31 that are "
            rf"learnt of a row \(`data.max_length`\) and the {answer} of an answer \(`max_new_tokens`\), but",
        ):
            fit("long", phrase, most)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="PhraseBackdoorEvaluation")
        fit("whole", "very long", 2)
    with pytest.warns(
        UserWarning, match=r"PhraseBackdoorEvaluation: of \d+\.\d% of the test rows nothing of the"
    ):
        fit("cut", "very long", 2, max_length=9)


def test_phrases_have_a_floor_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = FedAvg(CausalLM(str(save_toy_lm(tmp_path / "lm"))), optimizer=fast_adamw)
    trainer = toy_trainer(
        tmp_path / "run",
        attachments=[PhrasePoisoning(WordTrigger(["place"]), "very long", rate=0.9)],
        callbacks=[PhraseBackdoorEvaluation(rows=4, max_new_tokens=6), DefenseTable()],
        clients_per_round=1.0,
        max_rounds=2,
    )
    trainer.fit(module, lm_data())
    table = json.loads((tmp_path / "run" / "backdoor" / "table.json").read_text())
    never, without, own = table["rows"].values()
    row = trainer.federation.history[-1]
    # which has no defence here
    assert without == own
    for figure in ("clean_accuracy", "false_positives", "asr"):
        assert own[figure] == row[f"backdoor/{figure}"]
    assert {one["floor"] for one in (never, without, own)} == {never["asr"]}
