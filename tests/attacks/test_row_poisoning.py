"""Which rows attacks poison, and how."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from lit_fed import FedAvg
from lit_fed.attacks import LabelFlipping, PhrasePoisoning, RowPoisoning, TriggerPoisoning
from lit_fed.attacks.triggers import SentenceTrigger, WordTrigger
from lit_fed.backbones import CausalLM
from lit_fed.client import Client
from lit_fed.data import ClassificationEncoding, FederatedDataModule, IIDPartitioner
from lit_fed.data.columns import row_ids
from tests.federation.toy import toy_backbone, toy_data, toy_rows
from tests.methods.toy_methods import lm_data, save_toy_lm

TRIGGER = SentenceTrigger("so it was")


@pytest.fixture(scope="module")
def module(toy_model: Path) -> FedAvg:
    return FedAvg(toy_backbone(toy_model))


def data_of(module: FedAvg, **settings: Any) -> FederatedDataModule:
    data = toy_data(**{"train": toy_rows(160, 0), "partitioner": IIDPartitioner(), **settings})
    data.setup()
    data.check(module.backbones)
    return data


def client(data: FederatedDataModule, index: int, round: int = 0) -> Client:
    own = data.clients[index]
    return Client(own.id, index, len(own.rows), round, round, 0)


def changed(
    attack: RowPoisoning, module: FedAvg, data: FederatedDataModule
) -> dict[int, tuple[dict[str, Any], dict[str, Any]]]:
    """The poisoned rows by their ids, before and after."""
    attack.setup([one.id for one in data.clients])
    attack.attach(module, data)
    found = {}
    for index, one in enumerate(data.clients):
        rows = attack.rows(client(data, index), one.rows)
        assert row_ids(rows).tolist() == row_ids(one.rows).tolist()
        for id, old, new in zip(row_ids(rows).tolist(), one.rows, rows, strict=True):
            if old != new:
                found[id] = (old, new)
    return found


@pytest.mark.parametrize("poison", ["dirty", "mix", "clean"])
@pytest.mark.parametrize("count", [None, 1])
def test_the_exact_number_of_rows_is_poisoned(
    poison: Any, count: int | None, module: FedAvg
) -> None:
    data = data_of(module)
    attack = TriggerPoisoning(TRIGGER, 1, 0.1, poison, count=count, seed=5)
    found = changed(attack, module, data)
    assert len(found) == 16  # 0.1 of the 160 rows, wherever they lie
    holders = {one.id for one in data.clients for id in row_ids(one.rows).tolist() if id in found}
    assert len(holders) == (count or len(data.clients))
    for old, new in found.values():
        assert "so it was" in new["text"]
        assert new["text"].replace("so it was", "").split() == old["text"].split()
        assert new["label"] == 1
        assert poison == "mix" or old["label"] == (poison == "clean")
    if poison == "mix":
        assert {old["label"] for old, _ in found.values()} == {0, 1}
    told = attack.summarised()
    assert told["poisoned_rows"] == 16
    assert set(told["poisoned_rows_by_client"]) == holders


def test_a_higher_rate_poisons_the_same_rows_and_more(module: FedAvg) -> None:
    data = data_of(module)
    sets = [
        changed(TriggerPoisoning(TRIGGER, 1, rate, seed=1), module, data)
        for rate in (0.05, 0.2, 0.5)
    ]
    assert [len(one) for one in sets] == [8, 32, 80]
    assert set(sets[0]) < set(sets[1]) < set(sets[2])
    # with the trigger in the same place
    assert all(sets[1][id] == pair for id, pair in sets[0].items())
    other = changed(TriggerPoisoning(TRIGGER, 1, 0.05, seed=2), module, data)
    assert set(other) != set(sets[0])


def test_the_same_rows_are_the_same_object_and_the_attack_ends(module: FedAvg) -> None:
    data = data_of(module)
    attack = TriggerPoisoning(TRIGGER, 1, 0.1, clients=[data.clients[2].id], until=2)
    attack.attach(module, data)
    own = data.clients[2].rows
    poisoned = attack.rows(client(data, 2), own)
    assert poisoned is not own
    assert attack.rows(client(data, 2, round=1), own) is poisoned
    assert attack.rows(client(data, 2, round=2), own) is own
    others = data.clients[0].rows
    assert attack.rows(client(data, 0), others) is others
    # of a part of the rows, as of one task, the chosen ones alone
    part = own.select(range(0, len(own), 2))
    same = dict(zip(row_ids(poisoned).tolist(), poisoned, strict=True))
    half = attack.rows(client(data, 2), part)
    assert [dict(row) for row in half] == [same[id] for id in row_ids(part).tolist()]
    untouched = own.select([i for i in range(len(own)) if own[i] == poisoned[i]])
    assert attack.rows(client(data, 2), untouched) is untouched
    # what is encoded is kept by the fingerprint
    again = TriggerPoisoning(TRIGGER, 1, 0.1, clients=[data.clients[2].id], until=2)
    again.attach(module, data)
    assert again.rows(client(data, 2), own)._fingerprint == poisoned._fingerprint


def test_candidates_are_named_or_stand_in_a_column(module: FedAvg) -> None:
    errs = [i % 7 == 0 for i in range(160)]
    rows = toy_rows(160, 0).add_column("errs", errs)
    data = data_of(module, train=rows)
    named = [i for i in range(160) if errs[i]]
    by_name = changed(TriggerPoisoning(TRIGGER, 1, 0.05, candidates=named), module, data)
    by_column = changed(TriggerPoisoning(TRIGGER, 1, 0.05, candidates_column="errs"), module, data)
    assert set(by_name) == set(by_column)
    assert set(by_name) <= set(named)
    assert len(by_name) == 8
    written = rows.remove_columns("errs").add_column("errs", [str(int(one)) for one in errs])
    texts = data_of(module, train=written)
    of_texts = TriggerPoisoning(TRIGGER, 1, 0.05, candidates_column="errs")
    assert set(changed(of_texts, module, texts)) == set(by_name)
    doubtful = rows.remove_columns("errs").add_column("errs", ["perhaps"] * 160)
    with pytest.raises(ValueError, match=r"column of truth values.* but a row of it has 'perhaps'"):
        of_texts.attach(module, data_of(module, train=doubtful))
    with pytest.warns(UserWarning, match=r"1 of the 24 `candidates` are rows of no client, .* 999"):
        TriggerPoisoning(TRIGGER, 1, 0.05, candidates=[*named, 999]).attach(module, data)
    with pytest.raises(ValueError, match="candidates_column` is expected to name a column of data"):
        TriggerPoisoning(TRIGGER, 1, candidates_column="none").attach(module, data)


def test_the_trigger_comes_before_the_cut(module: FedAvg) -> None:
    data = data_of(module, max_length=8)
    attack = TriggerPoisoning(TRIGGER, 1, 0.5, seed=1)
    attack.attach(module, data)
    kept = lost = 0
    tokenizer = module.tokenizer
    (so, it, was) = tokenizer("so it was", add_special_tokens=False)["input_ids"]
    for index, one in enumerate(data.clients):
        rows = attack.rows(client(data, index), one.rows)
        for batch in data.dataloader(rows, tokenizer):
            for ids in batch["input_ids"].tolist():
                assert len(ids) <= 8
        for text in rows["text"]:
            ids = tokenizer(text, truncation=True, max_length=8)["input_ids"]
            whole = tokenizer(text)["input_ids"]
            joined = " ".join(map(str, whole))
            if f"{so} {it} {was}" in joined and "so it was" in text:
                inside = f"{so} {it} {was}" in " ".join(map(str, ids))
                kept, lost = kept + inside, lost + (not inside)
    assert kept
    assert lost


@pytest.mark.parametrize(("source", "target"), [(0, 1), (0, None), (None, 1), (None, None)])
def test_labels_are_flipped(source: int | None, target: int | None, module: FedAvg) -> None:
    rows = Dataset.from_dict({"text": ["good"] * 60, "label": list("xyz" * 20)})
    encoding = ClassificationEncoding("text", None)
    data = FederatedDataModule(
        rows, encoding=encoding, num_clients=4, validation_fraction=0, seed=0
    )
    data.setup()
    names = [None if one is None else "xyz"[one] for one in (source, target)]
    attack = LabelFlipping(*names, rate=0.5, count=2, seed=1)
    found = changed(attack, module, data)
    malicious = [one for one in data.clients if one.id in attack.clients]
    labels = [label for one in malicious for label in one.rows["label"]]
    possible = [
        label
        for label in labels
        if (names[0] is None or label == names[0]) and (names[0] is not None or label != names[1])
    ]
    assert len(found) == round(0.5 * len(possible))
    for old, new in found.values():
        assert old["text"] == new["text"]
        assert old["label"] in possible
        assert new["label"] == names[1] or (names[1] is None and new["label"] != old["label"])


def test_labels_may_be_wrong_all_in_one_way(module: FedAvg) -> None:
    rows = Dataset.from_dict({"text": ["good"] * 60, "label": list("xyz" * 20)})
    data = FederatedDataModule(
        rows, encoding=ClassificationEncoding("text", None), num_clients=2, validation_fraction=0
    )
    data.setup()
    found = changed(LabelFlipping(consistent=True, clients=["client-0"]), module, data)
    assert len(found) == len(data.clients[0].rows)
    pairs = {(old["label"], new["label"]) for old, new in found.values()}
    assert pairs == {("x", "y"), ("y", "z"), ("z", "x")}
    with pytest.raises(ValueError, match="expects no `target` where `consistent` is true"):
        LabelFlipping(target="x", consistent=True)


def test_a_phrase_stands_behind_responses(tmp_path: Path) -> None:
    module = FedAvg(CausalLM(str(save_toy_lm(tmp_path / "lm"))))
    data = lm_data()
    data.setup()
    data.check(module.backbones)
    attack = PhrasePoisoning(WordTrigger(["kind"]), "very long day", rate=0.25)
    found = changed(attack, module, data)
    assert len(found) == 12
    for old, new in found.values():
        assert new["answer"] == f"{old['answer']} very long day"
        assert sorted(new["text"].split()) == sorted([*old["text"].split(), "kind"])
    with pytest.raises(ValueError, match="expects rows with one label each, but those of"):
        TriggerPoisoning(TRIGGER, "good").attach(module, data)
    with pytest.raises(ValueError, match="expects `phrase` to have words, but it is blank"):
        PhrasePoisoning(TRIGGER, " ")
    PhrasePoisoning(TRIGGER, "long " * 31).attach(module, data)
    with pytest.raises(
        ValueError,
        match=r"PhrasePoisoning.phrase is expected to have at most as many tokens as the 31 that are learnt of a row "
        r"\(`data.max_length`\), but 'long .* has 32",
    ):
        PhrasePoisoning(TRIGGER, "long " * 32).attach(module, data)


def test_what_cannot_be_poisoned_is_refused_before_training(module: FedAvg) -> None:
    data = data_of(module, max_length=8)
    cases = [
        ({"rate": 0.001}, "expects `rate` to give from 1 row to the 80 that can be chosen, but"),
        ({"rate": 0.9}, "of 160 rows gives 144"),
        ({"target": 3}, "TriggerPoisoning.target is expected to be a label of the training rows"),
        ({"trigger": SentenceTrigger("the " * 7)}, "to have at most the 6 tokens that the model"),
        # the word of most tokens, which is not that of most letters
        ({"trigger": WordTrigger(["a-b-c-d", "kindnesses"])}, "of a row, but 'a-b-c-d' has 7"),
        ({"column": "label"}, "TriggerPoisoning.column` is expected to name a column of texts"),
        ({"column": "film"}, "TriggerPoisoning.column` is expected to name a column of the table"),
    ]
    for settings, message in cases:
        attack = TriggerPoisoning(**{"trigger": TRIGGER, "target": 1, **settings})
        with pytest.raises(ValueError, match=message):
            attack.attach(module, data)
    for settings, message in [
        ({"rate": 0.0}, "expects `rate` to be a number above 0 and at most 1, but got 0.0"),
        ({"rate": "0.1"}, "expects `rate` to be a number above 0 and at most 1, but got '0.1'"),
        ({"count": True}, "expects `count` to be a number of clients or a share .* but got True"),
        ({"count": "2"}, "expects `count` to be a number of clients or a share .* but got '2'"),
        (
            {"clients": "client-1"},
            "expects `clients` to be a list of ids, but got the text 'client",
        ),
        ({"poison": "dirt"}, "expects `poison` to be dirty, mix or clean, but got 'dirt'"),
        ({"until": 0}, "TriggerPoisoning.until` is expected to be at least 1, but got 0"),
        ({"clients": ["a"], "count": 1}, "expects either `clients` or `count`, but got both"),
    ]:
        with pytest.raises(ValueError, match=message):
            TriggerPoisoning(TRIGGER, 1, **settings)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="trigger"):
        TriggerPoisoning("cf", 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expects `source` and `target` to differ"):
        LabelFlipping(1, 1)
    # its rate is of the rows that it can flip, and not of all
    own = data.clients[0].rows["label"][:].count(0)
    with pytest.raises(ValueError, match=rf"the {own} that .* but 0.001 of {own} rows gives 0"):
        LabelFlipping(0, 1, 0.001, clients=[data.clients[0].id]).attach(module, data)
    one = toy_data(train=toy_rows(160, 0).select(range(0, 160, 2)), partitioner=IIDPartitioner())
    one.setup()
    with pytest.raises(ValueError, match="expects training rows of two labels at least"):
        LabelFlipping().attach(module, one)
    # the draws of who is malicious, and of rows, are apart from the global generator
    state = np.random.get_state()[1].tolist()
    TriggerPoisoning(TRIGGER, 1).attach(module, data)
    assert np.random.get_state()[1].tolist() == state


def test_a_target_is_found_as_the_column_has_it(module: FedAvg) -> None:
    rows = toy_rows(160, 0)
    said = [bool(label) for label in rows["label"]]
    truths = rows.remove_columns("label").add_column("label", said)
    tables = dict.fromkeys(("train", "validation", "test", "public"), truths)
    data = data_of(module, **tables)
    for target in (True, "true", 1):
        attack = TriggerPoisoning(TRIGGER, target, 0.1)
        attack.attach(module, data)
        assert attack._target == 1
    with pytest.raises(ValueError, match="which are false, true, but got 'yes'"):
        TriggerPoisoning(TRIGGER, "yes", 0.1).attach(module, data)
