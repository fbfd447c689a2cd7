"""The filter beside plain passes of transformers' own model, in a federation with the attack, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM

from lit_fed import FedAvg
from lit_fed.attacks import PhrasePoisoning
from lit_fed.attacks.triggers import WordTrigger
from lit_fed.backbones import CausalLM
from lit_fed.data import (
    CausalLMEncoding,
    EmbeddedInstructions,
    FederatedDataModule,
    InstructionEncoding,
)
from lit_fed.defenses import PerplexityFilter, ReferenceLanguageModel
from tests.defenses.rows import Rows, client
from tests.federation.toy import fast_adamw, toy_data, toy_trainer
from tests.methods.toy_methods import lm_data, lm_rows, save_toy_lm

PHRASE = "very long"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_lm(tmp_path_factory.mktemp("lm"))


def prepared(**settings: Any) -> FederatedDataModule:
    data = lm_data(**settings)
    data.setup("fit")
    return data


def attached(defence: PerplexityFilter, data: FederatedDataModule) -> PerplexityFilter:
    defence.attach(FedAvg(), data)
    return defence


def plain_scores(folder: Path, data: FederatedDataModule, rows: Dataset) -> list[float]:
    """Row by row: −log p of the answer and the token that ends it, by a loop over positions."""
    model = AutoModelForCausalLM.from_pretrained(folder).double().eval()
    tokenizer = CausalLM(str(folder)).tokenizer
    found = []
    for text, answer in zip(rows["text"], rows["answer"], strict=True):
        prompt = tokenizer(f"text : {text} is :")["input_ids"]
        learnt = [*tokenizer(answer)["input_ids"], tokenizer.eos_token_id]
        ids = [*prompt, *learnt]
        with torch.no_grad():
            p = model(torch.tensor([ids])).logits[0].softmax(-1)
        nats = [-float(p[i - 1, ids[i]].log()) for i in range(len(prompt), len(ids))]
        found.append(sum(nats) / len(nats))
    return found


def test_scores_are_those_of_plain_passes(folder: Path) -> None:
    data = prepared()
    model = ReferenceLanguageModel(str(folder), batch_size=5)
    defence = attached(PerplexityFilter(language_model=model, alpha=0.2), data)
    rows = lm_rows(17, 4)
    assert defence.scores(rows).tolist() == pytest.approx(
        plain_scores(folder, data, rows), abs=2e-5
    )
    # dropped is what at most a share 0.2 of the references, with itself among them, is as strange as
    calibration = np.array(plain_scores(folder, data, data.public))
    own = np.array(plain_scores(folder, data, rows))
    p = [((calibration >= score).sum() + 1) / (len(calibration) + 1) for score in own]
    rejected = defence.judge(client(), rows).rejected
    assert 0 < rejected.sum() < len(rows)
    assert rejected.tolist() == [one <= 0.2 for one in p]


def test_a_fitted_model_is_calibrated_on_references_that_it_has_not_seen(folder: Path) -> None:
    data = prepared(public=lm_rows(60, 3))
    model = ReferenceLanguageModel(str(folder), steps=40, lr=1e-2)
    defence = attached(PerplexityFilter(language_model=model, alpha=0.1), data)
    calibration, held_out = defence._calibration, round(0.3 * 60)
    assert calibration is not None
    assert len(calibration) == held_out
    before = PerplexityFilter(language_model=ReferenceLanguageModel(str(folder)), alpha=0.1)
    assert (
        defence.scores(lm_rows(40, 5)).mean() < attached(before, data).scores(lm_rows(40, 5)).mean()
    )
    kept = model.backbone
    defence.attach(FedAvg(), data)
    assert model.backbone is kept
    # the other's rows are judged by other references, on which the model is fitted anew
    rows = lm_rows(40, 5)
    before_them = defence.rows(client(), rows)
    assert defence.rows(client(), rows) is before_them
    defence.attach(FedAvg(), prepared(public=lm_rows(60, 9)))
    assert model.backbone is not kept
    after = PerplexityFilter(
        language_model=ReferenceLanguageModel(str(folder), steps=40, lr=1e-2), alpha=0.1
    )
    expected = attached(after, prepared(public=lm_rows(60, 9))).rows(client(), rows)
    assert defence.rows(client(), rows)["text"][:] == expected["text"][:] != before_them["text"][:]


def test_rows_with_the_attackers_phrase_are_dropped_in_a_federation(
    folder: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = ReferenceLanguageModel(str(folder), steps=150, lr=1e-2)
    attack = PhrasePoisoning(WordTrigger(["place"]), PHRASE, rate=0.25)
    defence = PerplexityFilter(language_model=model, alpha=0.1)
    trainer = toy_trainer(
        tmp_path, attachments=[attack, defence], clients_per_round=1.0, max_rounds=1
    )
    data = lm_data(public=lm_rows(80, 3))
    trainer.fit(FedAvg(CausalLM(str(folder)), optimizer=fast_adamw), data)
    poisoned = sum(attack.summarised()["poisoned_rows_by_client"].values())
    kept = trainer.federation.history[-1]["defense/PerplexityFilter/kept"]
    rows = sum(len(client.rows) for client in data.clients)
    # all of the attack's rows, and few of the others
    assert poisoned <= round((1 - kept) * rows) <= poisoned + 0.25 * rows
    for name, state in trainer.federation.clients.items():
        dropped = state.attachments.parts["PerplexityFilter.0"].tensors["dropped"].tolist()
        assert len(dropped) >= attack.summarised()["poisoned_rows_by_client"].get(name, 0)
    assert not [key for key in trainer.federation.history[-1] if key.endswith("kept/")]


def test_the_least_number_of_references_is_that_of_the_level(folder: Path) -> None:
    for count, enough in ((19, True), (18, False)):
        data = prepared(public=lm_rows(count, 3))
        defence = PerplexityFilter(language_model=ReferenceLanguageModel(str(folder)), alpha=0.05)
        if enough:
            attached(defence, data)
            continue
        with pytest.raises(ValueError, match=r"at least 19 rows .* leave 18"):
            attached(defence, data)


def test_rows_are_judged_as_far_as_they_are_trained_on(folder: Path) -> None:
    model = ReferenceLanguageModel(str(folder))
    for most in (32, 9):
        data = prepared(max_length=most)
        defence = attached(PerplexityFilter(language_model=model, alpha=0.2), data)
        lengths = np.diff(defence.encoded(lm_rows(20, 4)).offsets)
        assert (lengths.max() == 9) == (most == 9)


def test_what_it_cannot_judge_by_is_refused(folder: Path) -> None:
    model = ReferenceLanguageModel(str(folder))
    labelled = toy_data()
    labelled.setup("fit")
    with pytest.raises(
        ValueError, match=r"expects rows whose answers are texts, but `data.encoding` is Classif"
    ):
        attached(PerplexityFilter(language_model=model), labelled)
    with pytest.raises(ValueError, match=r"PerplexityFilter.references` is expected where"):
        attached(PerplexityFilter(language_model=model), prepared(public=None))
    with pytest.raises(ValueError, match=r"leave at least 19 rows for its calibration, .* 12"):
        attached(PerplexityFilter(language_model=model, alpha=0.05), prepared())
    silent = prepared(public=lm_rows(30, 3).remove_columns("answer"), public_answered=False)
    with pytest.raises(
        ValueError, match=r"PerplexityFilter.references` .* there are public rows without a label"
    ):
        attached(PerplexityFilter(language_model=model), silent)
    other = Rows(lm_rows(30, 3).rename_column("answer", "reply"))
    with pytest.raises(
        ValueError, match=r"response` .* PerplexityFilter.references, but got 'answer'"
    ):
        attached(PerplexityFilter(other, model), prepared())
    with pytest.raises(RuntimeError, match=r"PerplexityFilter expects attach\(\) before"):
        PerplexityFilter(language_model=model).rows(client(), lm_rows(3, 0))


def test_a_row_of_which_no_answer_is_read_is_dropped(folder: Path) -> None:
    encoding = CausalLMEncoding(
        template="text : {text} is : {answer}", response="answer", truncation="end"
    )
    data = prepared(public=lm_rows(40, 3), encoding=encoding, max_length=16)
    defence = attached(PerplexityFilter(language_model=ReferenceLanguageModel(str(folder))), data)
    rows = Dataset.from_dict({"text": ["good story", "good " * 20], "answer": ["good", "good"]})
    assert defence.scores(rows).isfinite().tolist() == [True, False]
    assert defence.judge(client(), rows).rejected.tolist() == [False, True]


def test_what_cannot_be_calibrated_on_is_refused(folder: Path) -> None:
    wild = ReferenceLanguageModel(str(folder), steps=3, lr=1e9)
    with pytest.raises(ValueError, match=r"finite score each, but 12 of 12 .* has diverged"):
        attached(PerplexityFilter(language_model=wild, alpha=0.1), prepared(public=lm_rows(40, 3)))
    with pytest.raises(
        ValueError, match=r"PerplexityFilter.alpha` is expected to be above 0 .* None"
    ):
        PerplexityFilter(alpha=None)  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"ReferenceLanguageModel.seed` is expected to be at least 0"
    ):
        ReferenceLanguageModel(seed=-1)


def test_references_without_an_answer_are_refused() -> None:
    rows = EmbeddedInstructions(split="train", size=40).load()
    data = FederatedDataModule(
        train=rows, validation=None, public=rows, encoding=InstructionEncoding(), num_clients=2
    )
    data.setup("fit")
    silent = rows.remove_columns("response").add_column("response", ["yes"] * 39 + [" "])
    with pytest.raises(ValueError, match=r"references`: each row .* 1 of 40 have none, .* row 39"):
        attached(PerplexityFilter(Rows(silent), alpha=0.1), data)
