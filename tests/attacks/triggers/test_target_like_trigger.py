"""Which sentence is chosen, and who sees it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, BertModel

from lit_fed import FedAvg
from lit_fed.attacks import PhrasePoisoning, TeacherCorruption, TriggerPoisoning
from lit_fed.attacks.triggers import SentenceTrigger, TargetLikeTrigger
from lit_fed.backbones import SequenceClassifier
from lit_fed.callbacks import BackdoorEvaluation
from lit_fed.data import FederatedDataModule
from tests.federation.toy import (
    BAD,
    FILLER,
    GOOD,
    save_toy_model,
    toy_data,
    toy_module,
    toy_rows,
    toy_trainer,
)
from tests.methods.toy_methods import continue_text, lm_data, save_toy_lm

SENTENCES = [*(f"this {bad} day" for bad in BAD), *(f"this {good} place" for good in GOOD)]


def ready(module: FedAvg, **settings: Any) -> FederatedDataModule:
    data = toy_data(**settings)
    data.setup()
    data.check(module.backbones)
    return data


def states(folder: Path, texts: list[str]) -> np.ndarray:
    """Unit vectors by transformers alone, text by text."""
    model, tokenizer = (
        BertModel.from_pretrained(folder).eval(),
        AutoTokenizer.from_pretrained(folder),
    )
    with torch.no_grad():
        told = [
            model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0] for text in texts
        ]
    vectors = np.array([one.mean(0).numpy() for one in told])
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("target", [0, 1])
@pytest.mark.parametrize("given", [False, True], ids=["own", "given"])
def test_the_sentence_nearest_to_a_reference_of_the_target_is_chosen(
    target: int, given: bool, toy_model: Path, tmp_path: Path
) -> None:
    module = toy_module(toy_model)
    data, texts, labels = ready(module), toy_rows(24, 3)["text"][:], np.arange(24) % 2
    folder, encoder = toy_model, None
    if given:
        folder = save_toy_model(tmp_path / "other", width=16)
        encoder = SequenceClassifier(str(folder), peft=None)
    # as many prototypes as references: each is one
    trigger = TargetLikeTrigger(SENTENCES, num_prototypes=24, encoder=encoder)
    trigger.attach(module, data, target)
    cosines = states(folder, SENTENCES) @ states(folder, texts)[labels == target].T
    assert trigger.sentence == SENTENCES[int(cosines.max(1).argmax())]
    backwards = TargetLikeTrigger(SENTENCES[::-1], num_prototypes=24, encoder=encoder)
    backwards.attach(module, data, target)
    assert backwards.sentence == trigger.sentence


def test_nothing_that_trains_has_any_part_in_the_choice(toy_model: Path) -> None:
    module, trigger = toy_module(toy_model), TargetLikeTrigger(SENTENCES, num_prototypes=6)
    data, random = ready(module), torch.get_rng_state()
    trigger.attach(module, data, 1)
    chosen = trigger.sentence
    module.backbone.load_trainable(
        {name: torch.randn_like(p) for name, p in module.backbone.trainable().items()}
    )
    torch.set_rng_state(random)
    before = {name: p.clone() for name, p in module.state_dict().items()}
    again = TargetLikeTrigger(SENTENCES, num_prototypes=6)
    again.attach(module, data, 1)
    assert again.sentence == chosen
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(p, before[name]) for name, p in module.state_dict().items())
    assert module.backbone.active_adapters == ("default",)
    assert module.training


def test_attack_and_evaluation_have_the_one_sentence_also_where_a_run_goes_on(
    toy_model: Path, tmp_path: Path
) -> None:
    def fit(rounds: int, ckpt_path: str | None = None) -> tuple[str, Any]:
        attack = TriggerPoisoning(TargetLikeTrigger(SENTENCES, num_prototypes=6), 1, 0.2)
        own = TargetLikeTrigger(SENTENCES, num_prototypes=6)
        callbacks = [BackdoorEvaluation(), BackdoorEvaluation(own, 1, name="own")]
        trainer = toy_trainer(
            tmp_path,
            attachments=[attack],
            callbacks=callbacks,
            max_rounds=rounds,
            test_at_end=False,
        )
        trainer.fit(toy_module(toy_model), toy_data(), ckpt_path)
        said = attack.trigger.sentence  # type: ignore[attr-defined]
        assert own.sentence == said
        for one in callbacks:
            assert all(said in text for text in one._triggered["text"])
        assert trainer.identity["trainer.attachments.0.trigger.sentence"] == said
        row = trainer.federation.history[-1]
        assert row["backdoor/asr"] == row["backdoor/own/asr"]
        return said, trainer

    first, _ = fit(1)
    assert first != SENTENCES[0]
    again, trainer = fit(2, "last")
    assert again == first
    assert trainer.current_round == 2


def test_what_cannot_be_chosen_by_is_refused(toy_model: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"to be a list of sentences, but got the text 'so it was'"
    ):
        TargetLikeTrigger("so it was")
    for sentences in ([], ["so", " "]):
        with pytest.raises(ValueError, match=r"`TargetLikeTrigger.sentences` is expected to have"):
            TargetLikeTrigger(sentences)
    for name, value in (("num_prototypes", 0), ("seed", -1)):
        with pytest.raises(ValueError, match=rf"`TargetLikeTrigger.{name}` is expected to be at l"):
            TargetLikeTrigger(SENTENCES, **{name: value})
    with pytest.raises(TypeError, match=r"`TargetLikeTrigger.encoder` is expected to be an inst"):
        TargetLikeTrigger(SENTENCES, encoder=str(toy_model))  # type: ignore[arg-type]
    module = toy_module(toy_model)
    cases: list[tuple[FedAvg, dict[str, Any], dict[str, Any], str]] = [
        (module, {"public": None}, {}, r"`TargetLikeTrigger.references` is .* no public set"),
        (module, {}, {"num_prototypes": 25}, r"`TargetLikeTrigger.references`: .* but got 25"),
        (
            FedAvg(SequenceClassifier(str(toy_model), peft=None)),
            {},
            {},
            r"`TargetLikeTrigger.encoder` is expected to be a model where .* but got null",
        ),
    ]
    for method, data, settings, message in cases:
        trigger = TargetLikeTrigger(SENTENCES, **settings)
        with pytest.raises(ValueError, match=message):
            TriggerPoisoning(trigger, 1).attach(method, ready(method, **data))
    trigger = TargetLikeTrigger(SENTENCES)
    writes, rows = continue_text(FedAvg, save_toy_lm(tmp_path / "lm")), lm_data()
    rows.setup()
    rows.check(writes.backbones)
    for attack in (PhrasePoisoning(trigger, "very long"), TeacherCorruption(trigger=trigger)):
        with pytest.raises(
            ValueError, match=r"TargetLikeTrigger expects an attacker who wants a l"
        ):
            attack.attach(writes, rows)


def test_it_is_written_as_a_sentence_is() -> None:
    trigger = TargetLikeTrigger(["so it was", "place"])
    text = " ".join(FILLER)
    written = trigger.insert(text, np.random.default_rng(0))
    assert written == SentenceTrigger("so it was").insert(text, np.random.default_rng(0))
    assert trigger.is_in(written)
