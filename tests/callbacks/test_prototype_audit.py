"""The audit's page and table: what they say, and that texts do nothing there."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugin_util import markdown_to_safe_html

from lit_fed import PrototypeDefense
from lit_fed.callbacks import PrototypeAudit
from lit_fed.callbacks.audit import (
    Audit,
    AuditedClient,
    AuditedPrototype,
    audited_prototypes,
    reasons,
)
from lit_fed.callbacks.audit_page import audit_page
from lit_fed.callbacks.harmless_text import visible
from lit_fed.callbacks.prototype_view import prototypes_of
from lit_fed.methods.prototype_defense import PretrainedEncoder
from tests.callbacks.hostile_texts import HOSTILE, Page
from tests.callbacks.prototyped import Dropped, embed, prototyped, prototypes
from tests.federation.toy import (
    save_toy_model,
    toy_backbone,
    toy_data,
    toy_module,
    toy_rows,
    toy_trainer,
)

TAGS = {"html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "h3", "p", "code"}
TAGS |= {"div", "b", "span", "nav", "a", "table", "thead", "tbody", "tr", "th", "td"}
TAGS |= {"dl", "dt", "dd", "i", "ol", "li", "details", "summary"}
ATTRIBUTES = {"lang", "charset", "name", "http-equiv", "content", "class", "id", "style", "href"}
ATTRIBUTES |= {"data-name"}


@pytest.fixture(scope="module")
def toy_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_model(tmp_path_factory.mktemp("model"))


def test_a_prototype_is_counted_as_by_hand() -> None:
    held, before = prototypes(moved=0.3), prototypes().vectors
    rows = toy_rows(40, 1)
    states = torch.nn.functional.normalize(embed(rows["text"][:]), dim=-1).double().numpy()
    nearest = (states @ held.vectors.double().numpy().T).argmax(1)
    labels = np.array(rows["label"][:])
    found = audited_prototypes(held, nearest, labels, before)
    assert [one.index for one in found] == list(range(9))
    for one in found:
        own = labels[nearest == one.index]
        number = int(held.classes[one.index])
        assert one.class_name == ("no class" if number < 0 else ("bad", "good")[number])
        assert one.usage == len(own)
        assert one.count == one.index
        if number >= 0 and len(own):
            assert one.agreement == pytest.approx(float((own == number).mean()))
        else:
            assert one.agreement is None
        cosine = float(held.vectors[one.index].double() @ before[one.index].double())
        assert one.drift == pytest.approx(1 - cosine, abs=1e-6)
    assert found[0].flags[-1] == "moved"
    assert "other labels" in found[7].flags
    assert found[8].flags == ("unused",)
    assert all(one.drift is None for one in audited_prototypes(held, nearest, labels, None))


def test_reasons_are_counted() -> None:
    rows = [Dropped("", "", "", 0.0, reason) for reason in ("a", "b", "b")]
    assert list(reasons(rows).items()) == [("b", 2), ("a", 1)]


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_texts_are_texts_on_the_page(text: str) -> None:
    one = AuditedPrototype(0, text, (text,), 1, 1, 0.5, None)
    row = Dropped(text, text, text, 0.5, text)
    page = audit_page(Audit(1, 0, text, text, 1, (one,), (AuditedClient(text, 2, [row]),)), 500)
    page.encode("utf-8")
    assert len(page) < 60_000 + 30 * len(text[:10_000])
    read = Page(page)
    assert read.tags <= TAGS
    assert {name for name, _ in read.attributes} <= ATTRIBUTES
    assert all(
        value is not None and value.startswith("#")
        for name, value in read.attributes
        if name == "href"
    )
    assert visible(text[:100], keep="\n").strip() in read.text
    assert all(sign.isprintable() or sign == "\n" for sign in page)


def test_clients_that_were_not_judged_here_are_told_from_those_that_lost_nothing() -> None:
    row = Dropped("a", "b", "c", 0.5, "d")
    clients = (
        AuditedClient("one", 4, [row]),
        AuditedClient("two", 6, ()),
        AuditedClient("three", 90, None),
    )
    page = Page(audit_page(Audit(1, 0, "d", "e", 0, (), clients)))
    assert "1 of 10rows dropped" in page.text
    cells = {row[0]: row[1:] for row in page.rows if len(row) == 5}
    assert cells["one"] == ["4", "1", "25.0%", "d: 1"]
    assert cells["two"][:3] == ["6", "0", "0.0%"]
    assert cells["three"] == [
        "90",
        "–",
        "–",
        "not judged in the process that has written this page",
    ]


def test_the_page_loads_nothing() -> None:
    page = audit_page(Audit(1, 0, "d", "e", 0, (), ()))
    assert "default-src 'none'" in page
    for word in ("http:", "https:", "src=", "url(", "@import", "<script", "<link"):
        assert word not in page


def test_a_run_writes_the_page_and_goes_on(toy_model: Path, tmp_path: Path) -> None:
    logging.getLogger("tensorboard").setLevel(logging.ERROR)

    def fit(rounds: int, ckpt_path: str | None = None) -> None:
        audit = PrototypeAudit(every_n_rounds=2, max_rows=3, max_characters=200)
        trainer = toy_trainer(tmp_path, loggers=True, callbacks=[audit], max_rounds=rounds)
        module = prototyped(toy_model, list(HOSTILE.values()))
        module.rounds = 0 if ckpt_path is None else 1
        trainer.fit(module, toy_data(), ckpt_path)

    fit(1)
    first = Page((tmp_path / "prototypes.html").read_text("utf-8"))
    assert "Prototypes after round 1" in first.text
    assert {value for row in first.rows for value in row} >= {"bad", "good", "no class"}
    # there is no version before
    assert "moved farthest" in first.text
    assert "–moved farthest" in first.text
    fit(3, "last")
    page = Page((tmp_path / "prototypes.html").read_text("utf-8"))
    assert "Prototypes after round 3" in page.text
    assert "Version 3" in page.text
    assert "–moved farthest" not in page.text
    assert f"{len(HOSTILE)} dropped, the first 3 of them here" in page.text
    client = next(row for row in page.rows if row[0] == "client-1" and len(row) == 5)
    assert client[2] == str(len(HOSTILE))
    accumulator = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
    accumulator.Reload()
    tag = "prototypes/text_summary"
    events = accumulator.Tensors(tag)
    assert [event.step for event in events] == [1, 2, 3]
    table = Page(markdown_to_safe_html(events[-1].tensor_proto.string_val[0].decode()))
    assert len(table.rows) == 10
    assert table.rows[0][0] == "prototype"
    assert [row[0] for row in table.rows[1:]] == [str(i) for i in range(9)]


def test_a_rounds_row_has_the_figures_of_the_validation_rows(
    toy_model: Path, tmp_path: Path
) -> None:
    trainer = toy_trainer(tmp_path, callbacks=[PrototypeAudit()], max_rounds=1)
    module = prototyped(toy_model, [])
    trainer.fit(module, toy_data())
    row = trainer.federation.history[-1]
    held = prototypes_of(module)
    assert held is not None
    rows = toy_rows(40, 1)
    states = torch.nn.functional.normalize(embed(rows["text"][:]), dim=-1).double().numpy()
    cosines = states @ held.vectors.double().numpy().T
    nearest, labels = cosines.argmax(1), np.array(rows["label"][:])
    used = np.bincount(nearest, minlength=len(held))
    shares = used[used > 0] / used.sum()
    pure = sum(np.bincount(labels[nearest == one]).max() for one in np.unique(nearest))
    assert row["prototypes/coverage"] == pytest.approx(100 * (1 - cosines.max(1) <= 0.3).mean())
    entropy = -(shares * np.log(shares)).sum() / np.log(len(held))
    assert row["prototypes/usage_entropy"] == pytest.approx(100 * entropy)
    assert row["prototypes/dead"] == pytest.approx(100 * (used == 0).mean())
    assert row["prototypes/purity"] == pytest.approx(100 * pure / len(labels))


def test_the_first_move_of_adapted_prototypes_is_told(toy_model: Path, tmp_path: Path) -> None:
    module = PrototypeDefense(
        toy_backbone(toy_model),
        num_prototypes=4,
        encoder=PretrainedEncoder(),
        assignment="nearest",
        adaptation=0.5,
        lambda_distill=0.0,
    )
    trainer = toy_trainer(tmp_path, callbacks=[PrototypeAudit()], max_rounds=1, test_at_end=False)
    trainer.fit(module, toy_data())
    page = Page((tmp_path / "prototypes.html").read_text("utf-8"))
    assert "Version 1" in page.text
    assert "–moved farthest" not in page.text
    before, after = module.guarding.guard.prototypes.vectors, module.prototypes.vectors
    farthest = float((1 - (before * after).sum(-1)).max())
    assert f"{farthest:.3f}moved farthest" in page.text


def test_a_method_without_prototypes_is_refused(toy_model: Path, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"`PrototypeAudit` expects a method .* but got FedAvg"):
        toy_trainer(tmp_path, callbacks=[PrototypeAudit()]).fit(toy_module(toy_model), toy_data())
    for name in ("max_rows", "max_characters", "every_n_rounds"):
        with pytest.raises(ValueError, match=rf"`PrototypeAudit\.{name}` .* but got 0"):
            PrototypeAudit(**{name: 0})
