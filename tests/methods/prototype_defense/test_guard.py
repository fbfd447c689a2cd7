"""What the server makes of references, as it is sent, kept and taken back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from lit_fed import Payload, PrototypeDefense
from lit_fed.data import ClassificationEncoding
from lit_fed.defenses import text_drift
from lit_fed.federation.ledger import Ledger
from lit_fed.methods.prototype_defense import PretrainedEncoder
from lit_fed.methods.prototype_defense.guard import Guard
from lit_fed.methods.prototype_defense.text_pairs import split_pairs
from lit_fed.prototypes import PrototypeSet, fit_prototypes
from tests.federation.toy import toy_backbone, toy_data, toy_rows, toy_trainer
from tests.methods.toy_methods import save_sober_model


def made(count: int = 50, width: int = 768, seed: int = 0) -> PrototypeSet:
    states = torch.randn(3 * count, width, generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(3 * count) % 2
    texts = [f"text {i}" for i in range(3 * count)]
    return fit_prototypes(states, labels, count, seed, encoder="e1", names=["a", "b"], texts=texts)


def test_fifty_prototypes_of_width_768_are_153600_bytes() -> None:
    sent = Payload().with_parts(Guard(made()).parts())
    assert sent.parts["prototypes"].nbytes == 50 * 768 * 4 == 153_600
    ledger = Ledger()
    ledger.open_round()
    for client in range(4):
        ledger.record(str(client), down=sent.parts["prototypes"].nbytes)
    assert ledger.down == 4 * 153_600
    # Beside them 6 bytes a prototype, and a line of texts: no reference text is sent.
    assert sent.nbytes - 153_600 == 50 * 6 + len("0" + "e1" + 16 * "d" + "ab")


def test_it_is_read_as_it_was_and_its_texts_stay_with_the_server() -> None:
    projector = {"weight": torch.ones(4, 6), "bias": torch.zeros(4)}
    guard = Guard(
        made(3, 4),
        {"w": torch.ones(2)},
        {"medians": torch.eye(4)},
        projector,
        {1: made(3, 4, seed=1)},
        {"purity": 0.75},
    )
    ours, theirs = (
        Guard.read(Payload.from_bytes(Payload(parts=guard.parts(whole)).to_bytes()).parts)
        for whole in (True, False)
    )
    for read in (ours, theirs):
        assert read is not None
        assert read.agreed_on == guard.agreed_on != guard.prototypes.about
        assert torch.equal(read.deeper[1].vectors, guard.deeper[1].vectors)
        assert torch.equal(read.gate["medians"], torch.eye(4))
        states = torch.randn(2, 6)
        mapped = read.map_of_states()(states)
        torch.testing.assert_close(mapped, F.linear(states, **projector))
    assert (ours.prototypes.references, ours.metrics) == (
        guard.prototypes.references,
        guard.metrics,
    )
    assert (theirs.prototypes.references, theirs.metrics) == ((), {})
    assert Guard.read({}) is None


def test_a_run_from_its_folder_embeds_as_it_did(tmp_path: Path) -> None:
    model = save_sober_model(tmp_path / "model")

    def module() -> PrototypeDefense:
        return PrototypeDefense(toy_backbone(model), num_prototypes=4, lambda_distill=0.0)

    trained = module()
    trainer = toy_trainer(tmp_path / "run", max_rounds=1, test_at_end=False)
    trainer.fit(trained, toy_data(public=toy_rows(40, 3)))
    texts = ["a good film", "the day was cold", "very fine"]
    expected = trained.embed(texts)
    restored = PrototypeDefense.from_run(trainer.log_dir, module())
    assert restored.prototypes.digest == trained.prototypes.digest
    assert restored.prototypes.references == trained.prototypes.references
    torch.testing.assert_close(restored.embed(texts), expected)
    sampled = {id for id, one in trainer.federation.clients.items() if one.rounds}
    assert {c.id for c in trainer.datamodule.clients if trained.judged(c.id)} == sampled
    assert not restored.judged("client-0")
    with pytest.raises(ValueError, match="client 'client-0' are expected to have been judged here"):
        restored.dropped("client-0")
    with pytest.raises(RuntimeError, match=r"prototypes are expected, which a federation's server"):
        module().embed(texts)


def test_pairs_are_embedded_without_data_and_watched_for_drift(tmp_path: Path) -> None:
    model = save_sober_model(tmp_path / "model")
    tables = {}
    for seed, name in enumerate(("train", "validation", "test", "public")):
        rows = toy_rows(60, seed)
        tables[name] = rows.add_column("other", rows["text"][::-1])

    def module() -> PrototypeDefense:
        encoder = PretrainedEncoder()
        settings = {"num_prototypes": 4, "lambda_distill": 0.0, "encoder": encoder}
        return PrototypeDefense(toy_backbone(model), **settings)

    trained = module()
    trainer = toy_trainer(tmp_path / "run", max_rounds=1, test_at_end=False)
    encoding = ClassificationEncoding(text="text", text_pair="other")
    trainer.fit(trained, toy_data(**tables, encoding=encoding, max_length=32))
    validation = tables["validation"]
    pairs = list(zip(validation["text"], validation["other"], strict=True))
    expected = trained.embed_rows(validation)
    restored = PrototypeDefense.from_run(trainer.log_dir, module())
    found = restored.embed(pairs)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(restored.embed(validation["text"]), expected, atol=1e-2)
    assert restored.embed([]).shape == (0, 32)
    windows = list(
        text_drift(
            [*pairs[:20], *[("cruel grey", "cruel grey")] * 20],
            pairs[20:],
            restored.embed,
            restored.prototypes.similarities,
            window=20,
        )
    )
    assert [one.alarm for one in windows] == [False, True]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a", ("a", "b")], "all texts or all pairs of texts, but number 1, .* is a pair"),
        ([("a", "b"), "a"], "all texts or all pairs of texts, but number 1, .* is a text"),
        (["a", None], "texts or pairs of texts, but number 1, counted from 0, is None"),
        ([("a", 3)], "texts or pairs of texts, but number 0, .* is"),
        ([("a", "b", "c")], "texts or pairs of texts, but number 0, .* has 3 texts"),
        ([("a", "b \udc80")], "writable in UTF-8, but number 0, .* has a lone surrogate"),
    ],
)
def test_what_is_no_text_and_no_pair_is_named(texts: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split_pairs(texts)


def test_the_encoders_digest_is_the_same_in_every_process(tmp_path: Path) -> None:
    save_sober_model(tmp_path / "model")
    script = """
import sys
from peft import LoraConfig
from lit_fed import PrototypeDefense
from lit_fed.backbones import SequenceClassifier
peft = LoraConfig(r=2, target_modules=["query", "key", "value", "dense"])
module = PrototypeDefense(SequenceClassifier(sys.argv[1], peft=peft), lambda_distill=0.0)
print(peft.target_modules, module.encoder.digest({}), sep="|")
"""
    told = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "model")],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "2")
    ]
    (one, first), (other, second) = (
        process.communicate()[0].strip().splitlines()[-1].split("|") for process in told
    )
    assert one != other  # peft has a set, whose order is another one in each process
    assert first == second
