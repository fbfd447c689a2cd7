"""Attacks in whole federations: the same in every execution and after a resume, and told in the summary."""

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lit_fed import DDG
from lit_fed.attachment import Attachment
from lit_fed.attacks import LabelFlipping, Neurotoxin, TeacherCorruption, TriggerPoisoning
from lit_fed.attacks.triggers import SentenceTrigger, WordTrigger
from lit_fed.callbacks import BackdoorEvaluation
from lit_fed.client import Client
from lit_fed.data.columns import row_ids
from lit_fed.federation.validation import check_attachments
from tests.federation.execution.agreement import adamw, assert_same_federation
from tests.federation.execution.federation_cases import poisoned
from tests.federation.toy import toy_backbone, toy_data, toy_module, toy_trainer, without_times

TRIGGER = WordTrigger(["place"])
WAYS: dict[str, Callable[[], list[Attachment]]] = {
    "rows": lambda: [TriggerPoisoning(TRIGGER, 1, 0.2, until=1), LabelFlipping(count=1)],
    "teacher": lambda: [TriggerPoisoning(TRIGGER, 1, 0.2), TeacherCorruption(1, TRIGGER)],
    "upload": lambda: [Neurotoxin(0.2, count=2)],
}


@pytest.mark.parametrize("way", WAYS)
def test_vectorized_clients_are_attacked_as_single_ones_are(
    way: str, toy_model: Path, tmp_path: Path
) -> None:
    state = assert_same_federation(
        lambda: DDG(toy_backbone(toy_model), optimizer=adamw, warmup_steps=0),
        toy_data,
        tmp_path,
        attachments=WAYS[way](),
        callbacks=[BackdoorEvaluation(TRIGGER, 1)],
        local_steps=2,
    )
    assert 0 <= state.history[-1]["backdoor/asr"] <= 100
    assert state.failures == {}


def test_a_run_goes_on_bit_for_bit(toy_model: Path, tmp_path: Path) -> None:
    whole = poisoned(toy_model, tmp_path / "whole").federation
    poisoned(toy_model, tmp_path / "parts", max_rounds=1)
    resumed = poisoned(toy_model, tmp_path / "parts").federation
    assert without_times(resumed.history) == without_times(whole.history)
    assert replace(resumed, history=[], callbacks={}) == replace(whole, history=[], callbacks={})


def test_the_summary_tells_of_every_attack(
    toy_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    poisoned(toy_model, tmp_path, max_rounds=1)
    told = json.loads((tmp_path / "summary.json").read_text())["attachments"]
    triggers, flipped, corrupted, upload = told
    assert (triggers["class"], triggers["rate"], triggers["until"]) == ("TriggerPoisoning", 0.2, 2)
    assert (triggers["trigger"], triggers["trigger.words"]) == ("WordTrigger", ["place"])
    assert triggers["poisoned_rows"] == 19  # 0.2 of 96
    assert sum(triggers["poisoned_rows_by_client"].values()) == 19
    assert (triggers["clients"], triggers["poison"], triggers["target"]) == (None, "dirty", 1)
    assert (flipped["class"], len(flipped["clients"])) == ("LabelFlipping", 1)
    assert set(flipped["poisoned_rows_by_client"]) == set(flipped["clients"])
    assert (corrupted["class"], corrupted["margin"]) == ("TeacherCorruption", 10.0)
    # the word stands in rows of its own as well
    rows = sum(corrupted["corrupted_rows_by_client"].values())
    assert 19 <= corrupted["corrupted_rows"] == rows < 96
    assert f"TeacherCorruption to all clients ({rows} rows)" in capsys.readouterr().out
    assert (upload["class"], upload["ratio"], len(upload["clients"])) == ("Neurotoxin", 0.2, 2)


def test_another_attack_is_another_run(toy_model: Path, tmp_path: Path) -> None:
    def fit(rate: float, ckpt_path: str | None = None) -> None:
        attack = TriggerPoisoning(SentenceTrigger("so it was"), 1, rate)
        trainer = toy_trainer(tmp_path, attachments=[attack], max_rounds=1, local_steps=1)
        trainer.fit(toy_module(toy_model), toy_data(), ckpt_path)

    fit(0.1)
    with pytest.raises(ValueError, match=r"`trainer.attachments.0.rate` is expected to be 0.1 as"):
        fit(0.2, "last")


def test_rows_that_two_attacks_poison_are_said(toy_model: Path) -> None:
    module, data = toy_module(toy_model), toy_data()
    data.setup()
    data.check(module.backbones)

    def attached(*candidates: range | None) -> list[dict[str, set[int]]]:
        triggers = (TRIGGER, WordTrigger(["old"]))
        attacks = [
            TriggerPoisoning(trigger, target, 0.1, "mix", candidates=own)
            for target, (trigger, own) in enumerate(zip(triggers, candidates, strict=True))
        ]
        check_attachments(attacks, module, data)
        chosen: list[dict[str, set[int]]] = [{}, {}]
        for index, own in enumerate(data.clients):
            client = Client(own.id, index, len(own.rows), 0, 0, 0)
            for attack, found in zip(attacks, chosen, strict=True):
                rows = attack.rows(client, own.rows)
                texts = zip(row_ids(rows).tolist(), rows["text"], own.rows["text"], strict=True)
                found[own.id] = {id for id, new, old in texts if new != old}
        return chosen

    with pytest.warns(
        UserWarning, match=r"TriggerPoisoning \(seed 0\) .* both poison 10 of the same"
    ):
        first, second = attached(None, None)
    assert first == second
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, second = attached(range(48), range(48, 96))
    assert not any(first[name] & second[name] for name in first)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clients": ["client-9"]}, "TriggerPoisoning acts on clients that are expected to be"),
        ({"count": 9}, "TriggerPoisoning expects `count` to be at most the 4 clients there are"),
        ({"rate": 0.001}, "expects `rate` to give from 1 row"),
        ({"target": 2}, "target is expected to be a label of the training rows, which are 0, 1"),
        ({"trigger": SentenceTrigger("day " * 15)}, "to have at most the 14 tokens that the model"),
    ],
)
def test_what_is_wrong_is_said_before_training(
    settings: dict[str, Any], message: str, toy_model: Path, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"trigger": TRIGGER, "target": 1} | settings
    trainer = toy_trainer(tmp_path, attachments=[TriggerPoisoning(**given)])
    with pytest.raises(ValueError, match=message) as error:
        trainer.fit(toy_module(toy_model), toy_data())
    assert len(str(error.value).splitlines()) == 1
