"""Rewriting by the model that a client has downloaded: what it writes, when, and what is told of it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from lit_fed import DDG, FedAvg, FederatedModule, FedProx, FedSD, Payload
from lit_fed.backbones import CausalLM
from lit_fed.backbones.generation.continuation import Continuation
from lit_fed.callbacks import ClientMetrics
from lit_fed.configuration_error import ConfigurationError
from lit_fed.data import (
    CausalLMEncoding,
    ChatRecords,
    ChatTemplate,
    DialogueTemplate,
    FederatedDataModule,
    InstructionEncoding,
    InstructionRecords,
)
from lit_fed.data.columns import row_ids
from lit_fed.federation.run.identity import identity_of
from lit_fed.methods.averaging import REWRITING
from lit_fed.methods.rewriting import LeakFilter, NoFilter, Rewriting, SoftTargets
from tests.federation.toy import save_toy_model, toy_backbone, toy_data, toy_trainer
from tests.methods.rewriting.rewriting_cases import HINT, fedavg, fedsd, fit, rewriting
from tests.methods.toy_chats import chat_rows, save_chat_lm
from tests.methods.toy_methods import continue_text, lm_data, lm_rows, save_toy_lm
from tests.slow import slow_but


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_lm(tmp_path_factory.mktemp("lm") / "model")


def plain_greedy(backbone: CausalLM, prompt: str, new: int) -> str:
    """What the model says most likely, one token after the other, without a cache."""
    tokens = backbone.tokenizer(prompt)["input_ids"]
    begin = len(tokens)
    with torch.no_grad():
        while len(tokens) < begin + new:
            tokens.append(int(backbone.model(torch.tensor([tokens])).logits[0, -1].argmax()))
            if tokens[-1] == backbone.tokenizer.eos_token_id:
                break
    return str(backbone.tokenizer.decode(tokens[begin:], skip_special_tokens=True)).strip()


def own(trainer: Any, client: str) -> Payload:
    return trainer.federation.clients[client].prepared.parts[REWRITING]


def test_clients_train_on_what_the_initial_model_says_of_prompt_and_reference(
    model: Path, tmp_path: Path
) -> None:
    module = fedsd(model, greedy=True)
    seen: list[list[str]] = []
    encode = CausalLMEncoding.encode

    class Spy(CausalLMEncoding):
        def encode(self, rows: Dataset, *args: Any) -> Any:
            seen.append(rows["answer"][:])
            return encode(self, rows, *args)

    data = lm_data(encoding=Spy("text : {text} is : {answer}", response="answer"))
    trainer = fit(module, tmp_path, data)
    fresh = fedavg(model).backbone.eval()
    for client in data.clients:
        prepared = own(trainer, client.id)
        assert prepared.tensors["rows"].tolist() == row_ids(client.rows).tolist()
        for row, text, why in zip(
            client.rows,
            prepared.strings["responses"],
            prepared.strings["reasons"],
            strict=True,
        ):
            written = plain_greedy(fresh, f"text : {row['text']} the {row['answer']} and is :", 6)
            assert (text, why) == ((written, "") if written else (row["answer"], "empty"))
        rewritten = module.rewriting.rows(module, client.rows, prepared)
        assert data.encoding.prompts(rewritten) == data.encoding.prompts(client.rows)
        assert row_ids(rewritten).tolist() == row_ids(client.rows).tolist()
        assert rewritten["answer"][:] == list(prepared.strings["responses"])
        assert rewritten["answer"][:] in seen  # this is what has been trained on
        again = module.rewriting.rows(module, client.rows, prepared)
        assert again._fingerprint == rewritten._fingerprint  # so that it is encoded once


def test_it_is_sampled_by_the_runs_seed(model: Path, tmp_path: Path) -> None:
    def said(number: int, **settings: Any) -> list[Any]:
        trainer = fit(fedsd(model), tmp_path / str(number), max_rounds=1, **settings)
        return [own(trainer, f"client-{n}").strings["responses"] for n in range(2)]

    first = said(0)
    assert said(1) == first
    assert said(2, seed=1) != first
    greedy = fit(fedsd(model, greedy=True), tmp_path / "greedy", max_rounds=1)
    assert own(greedy, "client-0").strings["responses"] != first[0]


def test_the_batch_and_a_cache_change_nothing(model: Path, tmp_path: Path) -> None:
    def said(number: int, **settings: Any) -> list[Any]:
        trainer = fit(fedsd(model, **settings), tmp_path / str(number), max_rounds=1)
        return [own(trainer, f"client-{n}").strings["responses"] for n in range(2)]

    folder = str(tmp_path / "cache")
    whole = said(0, batch_size=32, cache=folder)
    assert list(Path(folder).iterdir())
    assert said(1, batch_size=5) == whole == said(2, cache=folder)
    described = fedsd(model, cache=folder), fedsd(model)
    data = lm_data()
    data.setup()
    one, other = (identity_of(m, data, vars(toy_trainer(tmp_path))) for m in described)
    assert one == other


def test_rows_that_are_alike_are_drawn_each_by_its_own_seed(model: Path, tmp_path: Path) -> None:
    rows = Dataset.from_dict({"text": ["a film"] * 16, "answer": ["good"] * 16})
    data = lm_data(train=rows, validation=None, validation_fraction=0)
    trainer = fit(fedsd(model), tmp_path, data, max_rounds=1)
    assert len(set(own(trainer, "client-0").strings["responses"])) > 1


def test_chats_are_rewritten_by_their_own_template(model: Path, tmp_path: Path) -> None:
    turns = [
        {"role": "user", "content": "the film"},
        {"role": "assistant", "content": "good"},
        {"role": "user", "content": "the book"},
        {"role": "assistant", "content": "bad and cold"},
    ]
    rows = Dataset.from_dict({"messages": [turns] * 8})
    encoding = InstructionEncoding(ChatRecords("messages"), DialogueTemplate())
    tables: dict[str, Any] = {"train": rows, "validation": None, "test": None, "public": None}
    data = lm_data(**tables, encoding=encoding, validation_fraction=0, max_length=64)
    module = fedsd(model, max_new_tokens=2)
    trainer = fit(module, tmp_path, data, max_rounds=1)
    client = data.clients[0]
    prepared = own(trainer, client.id)
    rewritten = module.rewriting.rows(module, client.rows, prepared)
    for row, text in zip(rewritten, prepared.strings["responses"], strict=True):
        assert row["messages"][:3] == turns[:3]
        assert row["messages"][3] == {"role": "assistant", "content": text}
    assert encoding.prompts(rewritten) == encoding.prompts(client.rows)
    (reference,) = set(encoding.prompts(encoding.with_hints(rows, [" the bad"] * 8)))
    assert "the book the bad" in reference


def test_the_share_that_is_replaced_is_told_of_each_client(model: Path, tmp_path: Path) -> None:
    class Half(Rewriting):
        """Whose every second text is empty."""

        def _generated(self, *args: Any) -> list[Continuation]:
            found = super()._generated(*args)
            return [one._replace(text=one.text * (i % 2)) for i, one in enumerate(found)]

    module = continue_text(FedSD, model, rewriting=Half(hint=" {reference}", max_new_tokens=6))
    trainer = fit(module, tmp_path, callbacks=[ClientMetrics()])
    with (tmp_path / "clients.csv").open() as file:
        table = list(csv.DictReader(file))
    for row in table:
        prepared = own(trainer, row["client"])
        reasons = prepared.strings["reasons"]
        assert float(row["rewriting/replaced"]) == sum(map(bool, reasons)) / len(reasons) >= 0.5
        assert reasons.count("empty") >= len(reasons) // 2
        assert float(row["rewriting/tokens"]) == float(prepared.tensors["tokens"]) > 0
    assert len(table) == 4
    history = trainer.federation.history[0]
    assert history["clients/rewriting/replaced/mean"] >= 0.5
    references = {id: a for r in trainer.datamodule.clients for id, a in told(r.rows)}
    prepared = own(trainer, "client-0")
    for id, text, reason in zip(
        prepared.tensors["rows"].tolist(),
        prepared.strings["responses"],
        prepared.strings["reasons"],
        strict=True,
    ):
        assert (text == references[id]) or not reason


@pytest.mark.parametrize("filter", [LeakFilter(judge=lambda row, text: True), NoFilter()])
def test_a_rewriting_that_is_broken_off(model: Path, tmp_path: Path, filter: Any) -> None:
    class Noted(Rewriting):
        def _generated(self, *args: Any) -> list[Continuation]:
            self.found = super()._generated(*args)
            # the toy never ends by itself
            self.found = [one._replace(ended=i % 2 == 0) for i, one in enumerate(self.found)]
            return self.found

    made = Noted(filter=filter, hint=" {reference}", max_new_tokens=6)
    trainer = fit(
        continue_text(FedSD, model, rewriting=made),
        tmp_path,
        lm_data(num_clients=1),
        clients_per_round=1,
    )
    prepared = own(trainer, "client-0")
    broken = "cut" if isinstance(filter, LeakFilter) else ""
    for one, text, reason in zip(
        made.found, prepared.strings["responses"], prepared.strings["reasons"], strict=True
    ):
        if one.text.strip():
            assert reason == ("" if one.ended else broken)
            assert (text == one.text.strip()) or reason
    # as many as were generated, whatever has become of them
    assert prepared.tensors["tokens"] == sum(one.tokens for one in made.found)
    assert max(one.tokens for one in made.found) == 6


def told(rows: Dataset) -> list[tuple[int, str]]:
    return list(zip(row_ids(rows).tolist(), rows["answer"][:], strict=True))


class Notes(Rewriting):
    """Notes in which round who rewrites, and by what weights."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.made: list[tuple[int, str, Payload]] = []
        self.fails = ""

    def prepare(self, module: FederatedModule, rows: Dataset) -> Payload:
        client = module.client
        if client.id == self.fails and client.round == 0:
            raise RuntimeError("not yet")
        weights = {n: p.detach() for n, p in module.backbone.trainable().items()}
        self.made.append((client.round, client.id, Payload(weights)))
        return super().prepare(module, rows)


def notes(model: Path, **settings: Any) -> FederatedModule:
    given = {"hint": " {reference}", "max_new_tokens": 2}
    return continue_text(FedSD, model, rewriting=Notes(**given | settings))


def test_all_rewrite_again_by_the_global_model_of_that_moment(model: Path, tmp_path: Path) -> None:
    fit(module := notes(model, refresh_every=2), tmp_path / "four", max_rounds=4)
    made = module.rewriting.made
    assert [(number, who) for number, who, _ in made] == [
        (0, "client-0"),
        (0, "client-1"),
        (2, "client-0"),
        (2, "client-1"),
    ]
    after_two = fit(notes(model, refresh_every=2), tmp_path / "two").federation.broadcast
    assert made[0][2] == fedavg(model).initial_broadcast()
    assert made[2][2] == made[3][2] == after_two.main != made[0][2]


def test_a_late_client_rewrites_by_the_global_model_of_that_moment(
    model: Path, tmp_path: Path
) -> None:
    module = notes(model)
    module.rewriting.fails = "client-1"
    with (
        pytest.warns(UserWarning, match="'client-1' could not prepare: not yet"),
        pytest.warns(UserWarning, match="'client-1' is left out"),
    ):
        fit(module, tmp_path, max_rounds=2, min_clients=1)
    (early, late) = module.rewriting.made
    assert early[:2] == (0, "client-0")
    assert late[:2] == (1, "client-1")
    assert late[2] != early[2]


def test_a_trial_run_rewrites_no_more_rows_than_it_trains_on(model: Path, tmp_path: Path) -> None:
    data = lm_data(batch_size=4)
    trainer = fit(fedsd(model), tmp_path, data, fast_dev_run=2)
    for client in data.clients:
        written = own(trainer, client.id).tensors["rows"].tolist()
        assert len(client.rows) > 8
        assert written == row_ids(client.rows).tolist()[:8]


def test_without_a_rewriting_nothing_is_prepared(model: Path, tmp_path: Path) -> None:
    assert not fedavg(model).prepares
    assert fedsd(model).prepares
    trainer = fit(fedavg(model), tmp_path, max_rounds=1)
    assert all(one.prepared is None for one in trainer.federation.clients.values())


@pytest.mark.parametrize("method", slow_but(DDG, of=[FedProx, DDG]))
def test_other_methods_have_it_as_well(
    method: type[FederatedModule], model: Path, tmp_path: Path
) -> None:
    trainer = fit(continue_text(method, model, rewriting=rewriting()), tmp_path, max_rounds=1)
    alike = fit(fedsd(model), tmp_path / "fedsd", max_rounds=1)
    assert own(trainer, "client-1") == own(alike, "client-1")


def test_a_prompt_without_room_for_an_answer_keeps_its_reference(
    model: Path, tmp_path: Path
) -> None:
    rows = Dataset.from_dict({"text": ["good " * 58, "a film"] * 4, "answer": ["bad"] * 8})
    data = lm_data(train=rows, validation=None, public=None, validation_fraction=0, max_length=64)
    trainer = fit(fedsd(model), tmp_path, data, max_rounds=1)
    for client in data.clients:
        reasons = own(trainer, client.id).strings["reasons"]
        long = [len(text) > 10 for text in client.rows["text"]]
        assert [reason == "long" for reason in reasons] == long


def test_a_long_reference_takes_no_room_from_other_rows(model: Path, tmp_path: Path) -> None:
    def limits(answers: list[str]) -> dict[str, int]:
        rows = Dataset.from_dict({"text": ["a film"] * len(answers), "answer": answers})
        given: dict[str, Any] = {"train": rows, "validation": None, "public": None}
        data = lm_data(**given, validation_fraction=0, max_length=64)
        asked: dict[str, int] = {}

        class Spy(Rewriting):
            def _generated(
                self, backbone: Any, prompts: Any, keys: Any, limit: int, *a: Any
            ) -> Any:
                asked.update(dict.fromkeys(keys, limit))
                return super()._generated(backbone, prompts, keys, limit, *a)

        module = continue_text(FedSD, model, rewriting=Spy(hint=HINT, filter=NoFilter()))
        trainer = fit(module, tmp_path / f"{len(answers)}", data, max_rounds=1)
        reasons = {
            str(row): reason
            for client in data.clients
            for row, reason in zip(
                own(trainer, client.id).tensors["rows"].tolist(),
                own(trainer, client.id).strings["reasons"],
                strict=True,
            )
        }
        assert {
            row for row, reason in reasons.items() if reason == "long"
        } == reasons.keys() - asked
        return asked

    short, middle, long = "bad", "bad " * 20, "bad " * 50
    # of the model's 64 tokens the prompt and the hint take 8, and the reference
    assert limits([short] * 8) == {str(i): 32 for i in range(8)}
    found = limits([short] * 7 + [middle, long])
    assert found == {**{str(i): 32 for i in range(7)}, "7": 64 - 8 - 20}


THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}"
    "{{ m.content.split('</think>')[-1].lstrip() }}{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""A chat template that takes what has been thought off what the assistant says."""


def chat_data(rows: Dataset, template: ChatTemplate | None = None) -> FederatedDataModule:
    encoding = InstructionEncoding(InstructionRecords(context=None), template)
    return FederatedDataModule(
        rows, encoding=encoding, num_clients=2, batch_size=4, max_length=128, validation_fraction=0
    )


def test_a_rewriting_that_the_template_changes_goes_back_to_its_reference(tmp_path: Path) -> None:
    class Thinks(Rewriting):
        def _generated(
            self, backbone: Any, prompts: Any, keys: Any, *args: Any
        ) -> list[Continuation]:
            texts = [f"{'<think>so</think>' * (int(key) % 2)}It is {key}." for key in keys]
            return [Continuation(text, 4, True) for text in texts]

    backbone = CausalLM(str(save_chat_lm(tmp_path / "model")))
    module = FedSD(backbone, rewriting=Thinks(filter=NoFilter()))
    trainer = toy_trainer(tmp_path / "run", max_rounds=1, clients_per_round=2, local_steps=1)
    trainer.fit(module, chat_data(chat_rows(8), ChatTemplate(THINKING)))
    assert not trainer.federation.failures
    for client in trainer.datamodule.clients:
        prepared, ids = own(trainer, client.id), row_ids(client.rows).tolist()
        assert list(prepared.strings["reasons"]) == ["template" * (row % 2) for row in ids]
        for row, text, reference in zip(
            ids, prepared.strings["responses"], client.rows["response"][:], strict=True
        ):
            assert text == (reference if row % 2 else f"It is {row}.")


def test_a_response_that_is_another_one_by_now_is_trained_on_as_it_is(
    model: Path, tmp_path: Path
) -> None:
    module = fedsd(model)
    trainer = fit(module, tmp_path, max_rounds=1)
    client = trainer.datamodule.clients[0]
    prepared = own(trainer, client.id)
    texts = ["another", *client.rows["answer"][1:]]
    changed = trainer.datamodule.encoding.with_responses(client.rows, texts)
    rewritten = module.rewriting.rows(module, changed, prepared)
    assert rewritten["answer"][:] == ["another", *prepared.strings["responses"][1:]]


def test_a_run_that_goes_on_with_another_rewriting_rewrites_again(
    model: Path, tmp_path: Path
) -> None:
    fit(notes(model), tmp_path, max_rounds=1)
    other = notes(model, max_new_tokens=3)
    fit(other, tmp_path, ckpt_path="last", max_rounds=2, resume_with_changes=True)
    assert [(number, who) for number, who, _ in other.rewriting.made] == [
        (1, "client-0"),
        (1, "client-1"),
    ]
    alike = notes(model, max_new_tokens=3)
    changes = {"max_rounds": 3, "gradient_clip_val": 1.0, "resume_with_changes": True}
    fit(alike, tmp_path, ckpt_path="last", **changes)
    assert not alike.rewriting.made


# ---------------------------------------------------------------- bad input


def test_rewritings_that_are_all_empty_are_an_error_before_training(
    model: Path, tmp_path: Path
) -> None:
    module = fedsd(model, greedy=True)
    with torch.no_grad():  # all tokens are as likely, and the first one is padding
        module.backbone.model.get_base_model().model.norm.weight.zero_()
    with pytest.raises(
        ConfigurationError, match=r"of the 48 rows of all clients 48 rewritings are empty"
    ):
        fit(module, tmp_path)


def test_a_model_that_cannot_write_is_refused(tmp_path: Path) -> None:
    module = FedAvg(toy_backbone(save_toy_model(tmp_path / "m")), rewriting=Rewriting())
    with pytest.raises(
        ConfigurationError, match=r"to be one that generates, .* SequenceClassifier"
    ):
        toy_trainer(tmp_path / "run").fit(module, toy_data())


def test_an_encoding_without_a_place_for_the_reference_is_refused(
    model: Path, tmp_path: Path
) -> None:
    data = lm_data(encoding=CausalLMEncoding("text : {answer}", response="answer"))
    with pytest.raises(ConfigurationError, match=r"to have a column before the response"):
        fit(fedsd(model), tmp_path, data)


def test_a_model_that_writes_gets_no_soft_targets(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"one that classifies, .* CausalLM"):
        fit(continue_text(FedAvg, model, rewriting=SoftTargets()), tmp_path)


def test_a_column_of_the_hint_has_to_be_there(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"hint` is expected to name a column .*'other'"):
        fit(fedsd(model, hint="{other} {reference}"), tmp_path)


def test_every_row_has_to_have_a_hint(model: Path, tmp_path: Path) -> None:
    rows = Dataset.from_dict({"text": ["a"] * 4, "answer": ["bad"] * 4, "in": ["en", "zh"] * 2})
    given: dict[str, Any] = {"train": rows, "validation": None, "validation_fraction": 0}
    hints = {"en": " {reference}", "zh": " and {reference}"}
    module = fedsd(model, hint=hints, hint_by="in")
    assert module.rewriting._hints(rows, ["x"] * 4) == [" x", " and x"] * 2
    fit(module, tmp_path / "both", lm_data(**given), max_rounds=1)
    with pytest.raises(ConfigurationError, match=r"for every value of column 'in', .* 'zh'"):
        fit(
            fedsd(model, hint={"en": "{reference}"}, hint_by="in"),
            tmp_path / "one",
            lm_data(**given),
        )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"hint": "Say it again."}, r"hint` is expected to have \{reference\}"),
        ({"hint": "{reference} {}"}, r"hint` is expected to have \{reference\} and else plain"),
        ({"hint": "{reference!r}"}, r"hint` is expected to have \{reference\} and else plain"),
        ({"hint": {"en": "{reference}"}}, r"hint_by` is expected to name a column"),
        ({"hint_by": "language"}, r"to be null where it is one, but got 'language'"),
        ({"hint": {"en": "no"}, "hint_by": "a"}, r"hint` is expected to have \{reference\}"),
        ({"hint": "{reference"}, r"hint` is not well-formed"),
        ({"top_p": 0.0}, r"top_p` is expected to be above 0 and at most 1, but got 0\.0"),
        ({"top_k": -1}, r"top_k` is expected to be at least 0"),
        ({"temperature": 0.0}, r"temperature` is expected to be finite and above 0"),
        ({"refresh_every": 0}, r"refresh_every` is expected to be at least 1"),
        ({"batch_size": 0}, r"batch_size` is expected to be at least 1"),
        ({"max_new_tokens": 0}, r"max_new_tokens` is expected to be at least 1"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Rewriting(**settings)


def test_a_filter_has_to_be_one() -> None:
    with pytest.raises(TypeError, match=r"rewriting\.filter` is expected to be an instance"):
        Rewriting(filter="leak")  # type: ignore[arg-type]


def test_hints_stand_alone_where_the_column_is_empty() -> None:
    encoding = CausalLMEncoding("{text}\n{context}: {answer}", response="answer")
    rows = Dataset.from_dict({"text": ["a", "b"], "context": ["c", None], "answer": ["d", "e"]})
    hinted = encoding.with_hints(rows, ["\nx", "\ny"])
    assert encoding.prompts(hinted) == ["a\nc\nx: ", "b\ny: "]
    assert hinted["answer"][:] == ["d", "e"]
    assert encoding.prompts(lm_rows(0, 0).add_column("context", [])) == []
