"""The card of an exported folder: read back by huggingface_hub, and its code run."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard

from lit_fed.attacks import SignFlip
from lit_fed.callbacks.citations import papers
from lit_fed.privacy import DPSGD
from tests.federation.toy import toy_data, toy_module, toy_rows, toy_trainer


def code_of(card: str) -> str:
    """The first block of Python."""
    return card.split("```python\n")[1].split("```")[0]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, toy_model: Path) -> Any:
    folder = tmp_path_factory.mktemp("run")
    tests = {"near": toy_rows(16, 2), "far": toy_rows(16, 3)}
    module, data = toy_module(toy_model), toy_data(test=tests)
    trainer = toy_trainer(folder, max_rounds=2, attachments=[SignFlip(count=1)])
    trainer.fit(module, data)
    return trainer, module, folder


def test_the_hub_reads_the_card(run: Any) -> None:
    trainer, _, folder = run
    card = ModelCard.load(folder / "adapter" / "README.md")
    data = card.data
    assert (data.library_name, data.license) == ("peft", "unknown")
    assert data.pipeline_tag == "text-classification"
    assert {"federated-learning", "fedavg", "lora"} <= set(data.tags)
    assert data.base_model is None  # a folder, which is no name on the hub
    found = {(r.metric_type, r.dataset_split): r.metric_value for r in data.eval_results}
    assert found == {
        (metric, name): trainer.final_metrics[f"test/{metric}" + "/far" * (name == "far")]
        for metric in ("loss", "accuracy")
        for name in ("near", "far")
    }
    assert "license: unknown # to be filled in" in (folder / "adapter" / "README.md").read_text(
        "utf-8"
    )


def test_the_card_says_what_was_done_and_no_name_of_a_client_or_a_folder(run: Any) -> None:
    trainer, _, folder = run
    text = (folder / "adapter" / "README.md").read_text("utf-8")
    assert "| clients | 4, of which 3 have trained, on 96 rows in all |" in text
    assert f"| bytes up | {trainer.federation.ledger.up:,} (" in text
    assert "| rounds | 2 |" in text
    assert "no (ε, δ) is claimed" in text
    assert "**Some clients were attackers in this run.**" in text
    assert "| SignFlip | attack | 1 |" in text
    assert "https://arxiv.org/abs/1602.05629" in text
    assert not re.search(r"client-\d", text)
    assert str(folder.parent) not in text
    assert "More Information Needed" not in text


def test_the_cards_code_loads_the_model(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, module, folder = run
    monkeypatch.chdir(folder / "adapter")
    scope: dict[str, Any] = {}
    exec(code_of(Path("README.md").read_text("utf-8")), scope)
    trainer.act_as_server()
    module.eval()
    batch = dict(scope["tokenizer"](["the good film", "a day"], padding=True, return_tensors="pt"))
    with torch.no_grad():
        torch.testing.assert_close(scope["model"](**batch).logits, module(batch).logits)


def test_privacy_is_told(toy_model: Path, tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path, max_rounds=1, privacy=DPSGD(noise_multiplier=1.0))
    trainer.fit(toy_module(toy_model), toy_data())
    text = (tmp_path / "adapter" / "README.md").read_text("utf-8")
    assert re.search(r"ε is [\d.]+ at most, at δ 1e-05, for single rows of a client", text)


def test_papers_are_those_that_docstrings_name() -> None:
    class Own:
        """A method. See "a note" of Doe et al., 2020, and
        Roe, "How Clients That Differ Are Averaged", 2021, https://example.org/1. It is
        Poe et al., "Another Title of a Paper" (2022)."""

    assert [tuple(paper) for paper in papers(Own)] == [
        ("Roe", "How Clients That Differ Are Averaged", "2021", "https://example.org/1"),
        ("Poe", "Another Title of a Paper", "2022", ""),
    ]
    assert papers(int) == []
