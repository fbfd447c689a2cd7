"""Rows before and after their rewriting in the text tab, of real event files as TensorBoard renders them."""

from pathlib import Path

import pytest
from tensorboard.plugin_util import markdown_to_safe_html

from lit_fed import FedAvg, FedSD
from lit_fed.callbacks import RewritingSamples
from lit_fed.methods.rewriting import NoFilter, SoftTargets
from tests.callbacks.hostile_texts import Page
from tests.callbacks.published_texts import published
from tests.federation.toy import toy_data
from tests.methods.rewriting.rewriting_cases import fit, rewriting
from tests.methods.toy_methods import classify, continue_text, lm_data, save_toy_lm


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_lm(tmp_path_factory.mktemp("lm") / "model")


def test_a_table_has_what_each_client_trains_on(lm: Path, tmp_path: Path) -> None:
    data = lm_data(num_clients=3)
    module = continue_text(FedSD, lm, rewriting=rewriting(refresh_every=2))
    shown = RewritingSamples(rows=2, clients=2)
    trainer = fit(module, tmp_path, data, callbacks=[shown], loggers=True, max_rounds=3)
    texts = published(tmp_path, "rewriting")
    assert list(texts) == [1, 3]
    head, *rows = Page(markdown_to_safe_html(texts[3])).rows
    assert head == ["client", "prompt", "reference", "trained on"]
    expected = []
    for index in (0, 1):
        client = data.clients[index]
        own = trainer.act_as_client(index)
        prepared = trainer.federation.clients[client.id].prepared
        # as the client trains: by the module's own way to its rows
        trained = own.local_data(client.rows, "train") if prepared else client.rows
        for row in (0, len(client.rows) // 2):
            given, used = client.rows[row], trained[row]
            expected.append(
                [client.id, f"text : {given['text']} is :", given["answer"], used["answer"]]
            )
    assert [[cell.strip() for cell in row] for row in rows] == expected
    assert any(row[2] != row[3] for row in expected)


def test_a_reference_in_the_place_of_a_rewriting_has_its_reason(lm: Path, tmp_path: Path) -> None:
    class Nothing(NoFilter):
        def reason(self, candidate: object) -> str:
            return "leak"

        @property
        def reasons(self) -> tuple[str, ...]:
            return ("leak",)

    module = continue_text(FedSD, lm, rewriting=rewriting(filter=Nothing()))
    fit(module, tmp_path, callbacks=[RewritingSamples(rows=100, max_characters=4)], loggers=True)
    (text,) = published(tmp_path, "rewriting").values()
    _, *rows = Page(markdown_to_safe_html(text)).rows
    assert len(rows) == 48
    assert {row[3] for row in rows} == {"the reference: leak"}
    assert all("… and" in row[1] for row in rows)


def test_a_rehearsal_shows_what_it_has_rewritten(lm: Path, tmp_path: Path) -> None:
    module = continue_text(FedSD, lm, rewriting=rewriting())
    fit(module, tmp_path, callbacks=[RewritingSamples()], fast_dev_run=1)


def test_refusals(lm: Path, toy_model: Path, tmp_path: Path) -> None:
    soft = classify(FedSD, toy_model, rewriting=SoftTargets())
    for module, data, got in (
        (continue_text(FedAvg, lm), lm_data(), "of FedAvg is NoneType"),
        (soft, toy_data(), "of FedSD is SoftTargets"),
    ):
        with pytest.raises(TypeError, match=f"clients rewrite texts .* {got}"):
            fit(module, tmp_path, data, callbacks=[RewritingSamples()])
    with pytest.raises(ValueError, match=r"`RewritingSamples\.rows` is expected"):
        RewritingSamples(rows=0)
