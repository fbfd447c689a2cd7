"""Row defences in rounds: what is trained on, counted, kept with clients and reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lit_fed import Payload
from lit_fed.attacks import TriggerPoisoning
from lit_fed.attacks.triggers import WordTrigger
from lit_fed.callbacks import RunSummary
from lit_fed.data import ClassificationEncoding, FederatedDataModule
from lit_fed.defenses import ONION, STRIP, ReferencesOnly
from lit_fed.federation import SequentialClients, VectorizedClients
from tests.defenses.rows import TRIGGER, WithoutWord, client
from tests.federation.toy import (
    save_toy_model,
    toy_data,
    toy_module,
    toy_rows,
    toy_trainer,
    without_times,
)


@pytest.fixture(scope="module")
def toy_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_model(tmp_path_factory.mktemp("model"))


def test_rows_are_dropped_cleaned_and_counted_once() -> None:
    rows = toy_rows(60, 0)
    defence = WithoutWord(TRIGGER, cut=True)
    kept = defence.rows(client(), rows)
    texts, labels = rows["text"][:], rows["label"][:]
    clean = [i for i, text in enumerate(texts) if TRIGGER not in text.split()]
    assert 0 < len(clean) < 60
    assert kept["text"][:] == [texts[i].split(" ", 1)[1] for i in clean]
    assert kept["label"][:] == [labels[i] for i in clean]
    assert defence.rows(client(), rows) is kept
    assert defence.rows(client(), toy_rows(60, 0)) is kept
    assert defence.calls == 1
    _, memory = defence.upload(client(), Payload(), Payload(), Payload())
    counts = memory.tensors["counts"].tolist()
    assert list(memory.strings["classes"]) == ["0", "1"]
    assert counts[0] == [labels.count(0), labels.count(1)]
    assert counts[1] == counts[2] == [sum(labels[i] == y for i in clean) for y in (0, 1)]
    assert memory.tensors["dropped"].tolist() == sorted(set(range(60)) - set(clean))


def test_rows_of_which_none_is_dropped_stay_the_same_object() -> None:
    rows = toy_rows(12, 0)
    assert WithoutWord("nowhere").rows(client(), rows) is rows
    assert len(WithoutWord("nowhere").rows(client(), rows.select([]))) == 0


def test_a_defence_disturbs_no_random_numbers() -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    expected = (torch.rand(1), np.random.rand())
    torch.manual_seed(1)
    np.random.seed(1)
    WithoutWord(TRIGGER).rows(client(), toy_rows(12, 0))
    assert (torch.rand(1), np.random.rand()) == expected


def test_bad_rows_are_refused() -> None:
    rows = toy_rows(4, 0)
    with pytest.raises(ValueError, match="text` is expected to name a column of the r"):
        WithoutWord(TRIGGER).rows(client(), rows.rename_column("text", "note"))
    every = rows.select([0]).map(lambda row: {"text": TRIGGER})
    with pytest.raises(ValueError, match="leave rows of client 'client-0', but drops all 1"):
        WithoutWord(TRIGGER).rows(client(), every)


def fitted(model: Path, root: Path, **settings: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    trainer = toy_trainer(root, attachments=[WithoutWord(TRIGGER)], **settings)
    module = toy_module(model)
    trainer.fit(module, toy_data())
    return trainer, trainer.federation.broadcast.tensors


def test_clean_rows_that_are_lost_are_told_from_poisoned_ones(
    toy_model: Path, tmp_path: Path
) -> None:
    attack = TriggerPoisoning(WordTrigger(["cf"]), 1, 0.2)
    trainer = toy_trainer(
        tmp_path,
        attachments=[attack, WithoutWord("cf"), WithoutWord(TRIGGER)],
        max_rounds=1,
        clients_per_round=1.0,
    )
    trainer.fit(toy_module(toy_model), toy_data())
    row = trainer.federation.history[-1]
    # all that is poisoned has the word, and nothing else has
    assert row["defense/WithoutWord/poisoned_rows_kept"] == 0.0
    assert row["defense/WithoutWord/clean_rows_lost"] == 0.0
    summary = json.loads((tmp_path / "summary.json").read_text())
    first, second = summary["defenses"].values()
    poisoned = sum(len(one["dropped_rows"]) for one in first.values())
    assert poisoned == round(0.2 * 96)
    # the second defence sees what is left, of which nothing is poisoned
    clean = sum(sum(one["total"].values()) for one in second.values())
    assert clean == 96 - poisoned
    lost = sum(len(one["dropped_rows"]) for one in second.values())
    assert 0 < lost < clean
    assert all("clean_rows_lost" not in one for one in second.values())


def test_rows_that_an_attack_has_left_by_now_were_poisoned_when_they_were_judged(
    toy_model: Path, tmp_path: Path
) -> None:
    attack = TriggerPoisoning(WordTrigger(["cf"]), 1, 0.2, until=1)
    trainer = toy_trainer(
        tmp_path, attachments=[attack, WithoutWord("cf")], max_rounds=2, clients_per_round=1
    )
    trainer.fit(toy_module(toy_model), toy_data())
    first, last = trainer.federation.history
    assert first["defense/WithoutWord/poisoned_rows_kept"] == 0.0
    # the second client came when the attack was over; of the first nothing else is known by now
    assert len(trainer.federation.clients) == 2
    assert last["defense/WithoutWord/poisoned_rows_kept"] == 0.0
    assert last["defense/WithoutWord/clean_rows_lost"] == 0.0


def test_of_rows_that_are_not_the_clients_own_nobody_says_which_are_poisoned(
    toy_model: Path, tmp_path: Path
) -> None:
    attack = TriggerPoisoning(WordTrigger(["cf"]), 1, 0.2)
    attachments = [attack, ReferencesOnly(), WithoutWord(TRIGGER)]
    trainer = toy_trainer(tmp_path, attachments=attachments, max_rounds=1)
    trainer.fit(toy_module(toy_model), toy_data(public=toy_rows(24, 5)))
    row = trainer.federation.history[-1]
    assert 0 < row["defense/WithoutWord/kept"] < 1
    assert "defense/WithoutWord/poisoned_rows_kept" not in row


def test_what_acts_on_rows_later_changes_nothing_of_what_a_defence_saw(
    toy_model: Path, tmp_path: Path
) -> None:
    attack = TriggerPoisoning(WordTrigger(["cf"]), 1, 0.2)
    attachments = [attack, WithoutWord("cf"), ReferencesOnly(), WithoutWord(TRIGGER)]
    trainer = toy_trainer(tmp_path, attachments=attachments, max_rounds=1)
    trainer.fit(toy_module(toy_model), toy_data(public=toy_rows(24, 5)))
    row = trainer.federation.history[-1]
    assert row["defense/WithoutWord/poisoned_rows_kept"] == 0.0
    assert 0 < row["defense/WithoutWord_3/kept"] < 1
    assert "defense/WithoutWord_3/poisoned_rows_kept" not in row


@pytest.mark.slow
def test_every_execution_trains_on_what_is_kept(toy_model: Path, tmp_path: Path) -> None:
    trainer, expected = fitted(toy_model, tmp_path / "a", execution=SequentialClients())
    _, found = fitted(toy_model, tmp_path / "b", execution=VectorizedClients(clients_at_once=3))
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5)
    without = toy_trainer(tmp_path / "c", attachments=[])
    without.fit(toy_module(toy_model), toy_data())
    assert any(
        not torch.equal(without.federation.broadcast.tensors[n], t) for n, t in expected.items()
    )
    # by hand, of the rows of the clients that have trained
    trained = [one for one in toy_data_clients() if one.id in trainer.federation.clients]
    texts = [text for one in trained for text in one.rows["text"][:]]
    share = sum(TRIGGER not in text.split() for text in texts) / len(texts)
    row = trainer.federation.history[-1]
    assert row["defense/WithoutWord/kept"] == pytest.approx(share)
    assert row["defense/WithoutWord/kept/1"] == 1.0
    assert row["defense/WithoutWord/changed"] == 0.0


def toy_data_clients() -> Any:
    data = toy_data()
    data.setup("fit")
    return data.clients


@pytest.mark.slow
def test_a_run_that_goes_on_keeps_what_was_counted(toy_model: Path, tmp_path: Path) -> None:
    whole, expected = fitted(toy_model, tmp_path / "whole")
    fitted(toy_model, tmp_path / "part", max_rounds=1)
    trainer = toy_trainer(tmp_path / "part", attachments=[WithoutWord(TRIGGER)])
    trainer.fit(toy_module(toy_model), toy_data(), ckpt_path="last")
    found = trainer.federation.broadcast.tensors
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert without_times(trainer.federation.history) == without_times(whole.federation.history)
    summary = json.loads((tmp_path / "part" / "summary.json").read_text())
    assert any(isinstance(one, RunSummary) for one in trainer.callbacks)
    counted = summary["defenses"]["WithoutWord"]
    assert set(counted) == set(trainer.federation.clients)
    for one in counted.values():
        dropped = sum(one["total"].values()) - sum(one["kept"].values())
        assert dropped == len(one["dropped_rows"])


def test_columns_that_are_not_named_are_those_of_the_data(toy_model: Path) -> None:
    rows = toy_rows(24, 0).rename_columns({"text": "note", "label": "urgent"})
    pairs = rows.add_column("answer", ["x"] * 24)
    found = WithoutWord(TRIGGER, text=None, label=None)  # the same for other data
    for table, pair in ((pairs, "answer"), (rows, None)):
        data = FederatedDataModule(
            train=table,
            test=table,
            encoding=ClassificationEncoding("note", pair, "urgent"),
            num_clients=2,
        )
        data.setup("fit")
        found.attach(toy_module(toy_model), data)
        assert (found.text, found.text_pair, found.label) == ("note", pair, "urgent")
        named = WithoutWord(TRIGGER, text="answer", label="note")
        named.attach(toy_module(toy_model), data)
        assert (named.text, named.text_pair, named.label) == ("answer", None, "note")
        for inputs in (ONION(), STRIP()):
            with pytest.raises(RuntimeError, match=r"expects attach\(\) before the first rows"):
                _ = inputs.column
            inputs.attach(data.encoding, table)
            assert inputs.column == "note"
    numbers = rows.remove_columns("note").add_column("note", list(range(24)))
    with pytest.raises(ValueError, match=r"`STRIP.text` is expected to name a column of texts whe"):
        STRIP().attach(ClassificationEncoding("note", None, "urgent"), numbers)
