"""The table of a consensus in the text tab, of real event files as TensorBoard renders them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.plugin_util import markdown_to_safe_html
from torch import Tensor

from lit_fed import FedAvg
from lit_fed.callbacks import ConsensusSamples
from lit_fed.callbacks.harmless_text import code_block, table_cell, visible
from tests.callbacks.hostile_texts import HOSTILE, Page
from tests.callbacks.published_texts import published
from tests.federation.toy import fast_adamw, toy_backbone, toy_data, toy_module, toy_trainer

TABLE = {"table", "thead", "tbody", "tr", "th", "td", "em", "p"}


@dataclass
class Votes:
    clients: tuple[str, ...]
    answers: tuple[tuple[str | None, ...], ...]


@dataclass
class Verdict:
    labels: tuple[str | None, ...]
    confidence: Tensor


@dataclass
class Server:
    ballots: Votes | None = None
    consensus: Verdict | None = None
    texts: list[str] = field(default_factory=lambda: list(HOSTILE.values()))

    def vote(self, prompts: int) -> None:
        said = [self.texts[i % len(self.texts)] for i in range(prompts)]
        answers = (tuple(said), (None,) * prompts, tuple("good" for _ in said))
        self.ballots = Votes(("client-0", "<b>|client", "client-2"), answers)
        labels = tuple(None if i % 3 == 1 else text for i, text in enumerate(said))
        self.consensus = Verdict(labels, torch.linspace(0, 1, prompts, dtype=torch.float64))


class Consenting(FedAvg):
    """Has a consensus every second round."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.server = Server()

    def aggregate(self, updates: Any) -> Any:
        if updates[0].rounds % 2 == 1:
            self.server.vote(len(self.data.public))
        return super().aggregate(updates)


def consenting(folder: Path) -> Consenting:
    return Consenting(toy_backbone(folder), optimizer=fast_adamw)


def test_hostile_answers_are_shown_in_their_cells_and_do_nothing(
    toy_model: Path, tmp_path: Path
) -> None:
    shown = ConsensusSamples(prompts=len(HOSTILE), clients=2, max_characters=200)
    trainer = toy_trainer(
        tmp_path, loggers=True, callbacks=[shown], max_rounds=3, clients_per_round=1.0
    )
    data = toy_data()
    trainer.fit(consenting(toy_model), data)
    texts = published(tmp_path, "consensus")
    assert list(texts) == [1, 3]
    for text in texts.values():
        assert len(text) < 20_000
        assert all(one.isprintable() or one == "\n" for one in text)
        page = Page(markdown_to_safe_html(text))
        assert page.tags <= TABLE
        assert not page.attributes
        head, *rows = page.rows
        assert head == ["prompt", "consensus", "confidence", "client-0", "<b>|client"]
        assert [len(row) for row in rows] == [5] * len(HOSTILE)
        for i, (row, said) in enumerate(zip(rows, HOSTILE.values(), strict=True)):
            assert row[0] == data.public[i]["text"]
            expected = visible(said[:200]).strip()
            assert row[3][: len(expected)] == expected
            assert row[1] == ("abstains" if i % 3 == 1 else row[3])
            assert row[2] == ("" if i % 3 == 1 else f"{i / 23:.2f}")
            assert row[4] == "none"
        assert "… and 1,999,800 more characters" in rows[-1][3]
        assert text.endswith(f"and {24 - len(HOSTILE)} more prompts and 1 more clients")


def test_a_run_that_goes_on_publishes_what_was_not_and_no_more(
    toy_model: Path, tmp_path: Path
) -> None:
    def fit(rounds: int, ckpt_path: str | None = None) -> None:
        trainer = toy_trainer(
            tmp_path,
            loggers=True,
            callbacks=[ConsensusSamples()],
            max_rounds=rounds,
            clients_per_round=1.0,
        )
        trainer.fit(consenting(toy_model), toy_data(), ckpt_path)

    fit(1)
    fit(3, "last")
    assert list(published(tmp_path, "consensus")) == [1, 3]


def test_a_method_without_a_consensus_and_bad_numbers_are_refused(
    toy_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(TypeError, match=r"`ConsensusSamples` expects .* but got FedAvg"):
        toy_trainer(tmp_path, callbacks=[ConsensusSamples()]).fit(toy_module(toy_model), toy_data())
    for name in ("prompts", "clients", "max_characters"):
        with pytest.raises(ValueError, match=rf"`ConsensusSamples\.{name}` .* but got 0"):
            ConsensusSamples(**{name: 0})


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_texts_are_cells_and_blocks_of_code_alone(text: str) -> None:
    table = f"| a | b |\n| --- | --- |\n| {table_cell(text, 500)} | end |"
    page = Page(markdown_to_safe_html(table))
    assert page.tags == TABLE - {"em", "p"}
    assert [len(row) for row in page.rows] == [2, 2]
    assert page.rows[1][1] == "end"
    assert not page.attributes
    block = Page(markdown_to_safe_html(f"**answer**\n\n{code_block(text, 500)}\n\nend"))
    assert block.tags <= {"p", "strong", "pre", "code"}
    assert not block.attributes
    assert block.text.endswith("end")
    for line in visible(text[:500], keep="\n").split("\n"):
        assert line.strip() in block.text


def test_what_hides_in_a_text_is_seen() -> None:
    """Some of it is printable to Python, as letters and marks."""
    hidden = (
        "\u034f\u115f\u1160\u3164\uffa0\u180b\U000e0100\U000e01ef\u200b\ufe00\ufe0d\ufe0e\ufe0f"
    )
    assert visible(f"yes{hidden}") == "yes" + hidden.encode("unicode_escape").decode()
    for emoji in ("\u2764\ufe0f", "한국어", "e\u0301"):
        assert visible(emoji) == emoji
    assert visible("yes\ufe0f \u2764\ufe0f\ufe0f") == "yes\\ufe0f \u2764\ufe0f\\ufe0f"
