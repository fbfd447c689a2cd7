"""Callbacks that generate: answers in TensorBoard, and metrics of them in a round's row."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from datasets import Dataset
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.text import CharErrorRate

from lit_fed import FedAvg, FederatedModule, FedSD, FedSDR, SemanticConsensus
from lit_fed.aggregation import LocalOnly
from lit_fed.attacks.triggers import WordTrigger
from lit_fed.backbones import CausalLM, Sampling, TextGenerator
from lit_fed.callbacks import (
    ClientSimilarity,
    GenerationEvaluation,
    PhraseBackdoorEvaluation,
    SampleGenerations,
)
from lit_fed.cli import main
from lit_fed.data import (
    ChatRecords,
    DialogueTemplate,
    FederatedDataModule,
    InstructionEncoding,
    NaturalPartitioner,
)
from lit_fed.methods.rewriting import NoFilter, Rewriting
from lit_fed.methods.semantic_consensus import ClientGroup
from lit_fed.metrics import LengthRatio
from tests.callbacks.published_texts import published
from tests.federation.toy import toy_data, toy_module, toy_trainer, without_times
from tests.methods.toy_chats import save_chat_lm
from tests.methods.toy_methods import continue_text, lm_data, lm_rows, save_toy_lm

# what no answer of a random model is without
SETTINGS: dict[str, Any] = {"max_new_tokens": 3}


class Told(Metric):
    """Keeps what it is told."""

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.add_state("count", torch.tensor(0), "sum")
        self.seen: list[dict[str, Any]] = []

    def update(
        self, preds: Sequence[str], source: Sequence[str], rows: Sequence[Mapping[str, Any]]
    ) -> None:
        self.seen.append({"preds": preds, "source": source, "rows": rows})
        self.count += len(preds)

    def compute(self) -> Tensor:
        return self.count.float()


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_lm(tmp_path_factory.mktemp("lm") / "model")


def trainer_with(root: Path, *callbacks: Any, **settings: Any) -> Any:
    given = {"max_rounds": 2, "clients_per_round": 1.0, "callbacks": list(callbacks)}
    return toy_trainer(root, **given | settings)


def personal(lm: Path) -> FederatedModule:
    """A method with a global model whose clients have their own beside it."""
    rewriting = Rewriting(filter=NoFilter(), hint=" the {reference} and", max_new_tokens=2)
    return continue_text(FedSDR, lm, rewriting=rewriting, private_steps=1, shared_steps=1)


def test_answers_of_validation_rows_stand_in_tensorboard(lm: Path, tmp_path: Path) -> None:
    module = continue_text(FedAvg, lm)
    trainer = trainer_with(tmp_path, SampleGenerations(rows=2, **SETTINGS), loggers=True)
    trainer.fit(module, lm_data())
    shown = published(trainer.log_dir, "generations")
    assert list(shown) == [1, 2]
    rows = lm_rows(8, 1)
    trainer.act_as_server()
    for text, expected in itertools.islice(zip(rows["text"], rows["answer"], strict=True), 2):
        prompt = f"text : {text} is : "
        (answer,) = module.backbone.generate([prompt], **SETTINGS)
        said = f"**prompt**\n\n    {prompt}\n\n**answer**\n\n    {answer}\n\n**expected**\n\n    {expected}"
        assert said in shown[2]
    assert shown[2].count("**prompt**") == 2


def test_prompts_of_ones_own_every_second_round(lm: Path, tmp_path: Path) -> None:
    callback = SampleGenerations(
        ["good", "bad and"], every_n_rounds=2, sampling=Sampling(1.0, seed=2), **SETTINGS
    )
    trainer = trainer_with(tmp_path, callback, loggers=True, max_rounds=3)
    trainer.fit(continue_text(FedAvg, lm), lm_data())
    shown = published(trainer.log_dir, "generations")
    assert list(shown) == [2, 3]  # and the last one
    assert "**prompt**\n\n    bad and\n\n**answer**\n\n" in shown[3]
    assert "expected" not in shown[3]


def test_a_rounds_row_has_what_metrics_say(lm: Path, tmp_path: Path) -> None:
    told = Told()
    callback = GenerationEvaluation({"cer": CharErrorRate(), "count": told}, **SETTINGS)
    module = continue_text(FedAvg, lm)
    trainer = trainer_with(tmp_path, callback)
    trainer.fit(module, lm_data(test={"near": lm_rows(6, 2), "far": lm_rows(4, 3)}))
    first, last = trainer.federation.history
    assert not any(name.startswith("test/c") for name in first)
    rows = lm_rows(6, 2)
    prompts = [f"text : {text} is : " for text in rows["text"]]
    trainer.act_as_server()
    answers = module.backbone.generate(prompts, **SETTINGS)
    assert told.seen[0] == {"preds": answers, "source": rows["text"][:], "rows": list(rows)}
    expected = CharErrorRate()(answers, rows["answer"][:])
    assert last["test/cer"] == pytest.approx(float(expected))
    assert (last["test/count"], last["test/count/far"]) == (6, 4)
    assert not any(name.startswith("clients/test/") for name in last)


def test_clients_own_models_answer_their_own_rows(lm: Path, tmp_path: Path) -> None:
    def of(count: int, seed: int) -> Dataset:
        rows = lm_rows(count, seed)
        return rows.add_column("author", [("ann", "bo")[i % 2] for i in range(count)])

    told = Told()
    callback = GenerationEvaluation(
        {"count": told}, own_column="author", rows=4, source="author", every_n_rounds=1, **SETTINGS
    )
    module = continue_text(FedAvg, lm, aggregation=LocalOnly())
    data = lm_data(
        train=of(48, 0), test=of(8, 2), partitioner=NaturalPartitioner("author"), num_clients=None
    )
    trainer = trainer_with(tmp_path, callback)
    trainer.fit(module, data)
    for row in trainer.federation.history:
        own = {name: value for name, value in row.items() if name.startswith("clients/test/count")}
        assert own == {
            f"clients/test/count/{of}": value
            for of, value in {"mean": 2, "std": 0, "min": 2, "max": 2}.items()
        }
        assert "test/count" not in row
    rows = of(8, 2)  # of which they take turns
    for index, (name, seen) in enumerate(zip(("ann", "bo"), told.seen[2:], strict=True)):
        assert seen["source"] == [name] * 2
        assert [one["text"] for one in seen["rows"]] == [
            rows[index]["text"],
            rows[index + 4]["text"],
        ]
        trainer.act_as_client(index)
        prompts = [f"text : {one['text']} is : " for one in seen["rows"]]
        assert seen["preds"] == module.backbone.generate(prompts, **SETTINGS)


def test_a_chat_that_goes_on_is_asked_for_the_turn_that_is_learnt(tmp_path: Path) -> None:
    def table(count: int) -> Dataset:
        first = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b c"}]
        after = [*first, {"role": "user", "content": "what else?"}]
        return Dataset.from_dict(
            {"messages": [after] * count, "right": [True, False] * (count // 2)}
        )

    told, ratio = Told(), LengthRatio()
    callbacks = [
        GenerationEvaluation({"count": told, "length": ratio}, own_column="right", **SETTINGS),
        ClientSimilarity(),
    ]
    data = FederatedDataModule(
        table(8),
        test=table(4),
        encoding=InstructionEncoding(ChatRecords()),
        partitioner=NaturalPartitioner("right"),
        batch_size=4,
        max_length=128,
        validation_fraction=0,
    )
    trainer = trainer_with(tmp_path / "run", *callbacks, max_rounds=1, local_steps=1)
    module = FedAvg(CausalLM(str(save_chat_lm(tmp_path / "model"))))
    trainer.fit(module, data)
    (row,) = trainer.federation.history
    assert [client.id for client in trainer.datamodule.clients] == ["false", "true"]
    assert [len(turns) for seen in told.seen for turns in (seen["rows"][0]["messages"],)] == [2] * 3
    # of two words each; without them there would be nothing to compare with
    assert 0 <= row["test/length"] < float("inf")
    assert row["groups/test/count/min"] == 2
    assert row["similarity/jensen_shannon"] == 0


def test_global_and_personalised_beside_each_other(lm: Path, tmp_path: Path) -> None:
    callback = GenerationEvaluation(
        {"count": Told()}, split="validation", personalised=True, **SETTINGS
    )
    trainer = trainer_with(tmp_path, callback, max_rounds=1)
    # 24 rows a client, of which it holds 6 out
    trainer.fit(personal(lm), lm_data(client_validation_fraction=0.25))
    (row,) = trainer.federation.history
    assert (row["val/count"], row["clients/val/count/mean"]) == (8, 6)


def test_global_and_personalised_answer_the_same_rows(lm: Path, tmp_path: Path) -> None:
    def of(count: int, seed: int) -> Dataset:
        rows = lm_rows(count, seed)
        return rows.add_column("author", [("ann", "bo", "ann")[i % 3] for i in range(count)])

    rewriting = Rewriting(filter=NoFilter(), hint=" the {reference} and", max_new_tokens=2)
    for name, module in (
        ("own", personal(lm)),
        ("none", continue_text(FedSD, lm, rewriting=rewriting)),
    ):
        told = Told()
        callback = GenerationEvaluation(
            {"cer": CharErrorRate(), "count": told},
            personalised=True,
            own_column="author",
            rows=6,
            **SETTINGS,
        )
        data = lm_data(
            train=of(48, 0),
            test=of(12, 2),
            partitioner=NaturalPartitioner("author"),
            num_clients=None,
        )
        trainer = trainer_with(tmp_path / name, callback, max_rounds=1)
        trainer.fit(module, data)
        (row,) = trainer.federation.history
        asked = [[one["text"] for one in seen["rows"]] for seen in told.seen]
        together, ann, bo = asked[:3]
        assert (len(together), len(ann), len(bo)) == (6, 4, 2)
        assert sorted(together) == sorted([*ann, *bo])
        # the global model's answers to each group are those that it has given
        answers = dict(zip(together, told.seen[0]["preds"], strict=True))
        assert [answers[text] for text in ann] == told.seen[1]["preds"]
        expected = dict(zip(lm_rows(12, 2)["text"], lm_rows(12, 2)["answer"], strict=True))
        rates = [
            float(CharErrorRate()([answers[t] for t in own], [expected[t] for t in own]))
            for own in (ann, bo)
        ]
        assert row["groups/test/cer/max"] == pytest.approx(max(rates))
        assert row["groups/test/cer/mean"] == pytest.approx(sum(rates) / 2)
        # its clients' own models answer those; of a method whose clients have none no other model does
        assert asked[3:] == ([ann, bo] if name == "own" else [])
        assert ("clients/test/cer/mean" in row) == (name == "own")


def test_a_run_that_goes_on_equals_one_that_went_through(lm: Path, tmp_path: Path) -> None:
    def callbacks() -> list[Any]:
        sampling = Sampling(1.0, top_p=0.9, seed=1)
        evaluation = GenerationEvaluation(
            {"cer": CharErrorRate()}, every_n_rounds=1, sampling=sampling, **SETTINGS
        )
        return [evaluation, SampleGenerations(rows=2, sampling=sampling, **SETTINGS)]

    whole = trainer_with(tmp_path / "whole", *callbacks(), loggers=True)
    whole.fit(continue_text(FedAvg, lm), lm_data())
    begun = trainer_with(tmp_path / "parts", *callbacks(), loggers=True, max_rounds=1)
    begun.fit(continue_text(FedAvg, lm), lm_data())
    resumed = trainer_with(tmp_path / "parts", *callbacks(), loggers=True)
    resumed.fit(continue_text(FedAvg, lm), lm_data(), ckpt_path="last")
    assert without_times(resumed.federation.history) == without_times(whole.federation.history)
    assert all("test/cer" in row for row in resumed.federation.history)
    assert published(tmp_path / "parts", "generations") == published(
        tmp_path / "whole", "generations"
    )


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (
            lambda: SampleGenerations([]),
            ValueError,
            "`SampleGenerations.prompts` is expected to have",
        ),
        (
            lambda: SampleGenerations("good"),
            TypeError,
            "`SampleGenerations.prompts` .* list of texts",
        ),
        (lambda: SampleGenerations(rows=0), ValueError, "`SampleGenerations.rows` .* at least 1"),
        (lambda: SampleGenerations(stop=[""]), ValueError, "`stop` is expected to have no empty"),
        (
            lambda: GenerationEvaluation({}),
            ValueError,
            "`GenerationEvaluation.metrics` .* is empty",
        ),
        (
            lambda: GenerationEvaluation({"cer": CharErrorRate}),  # type: ignore[dict-item]  # the fault
            TypeError,
            "`GenerationEvaluation.metrics.cer` is expected to be a torchmetrics.Metric",
        ),
        (
            lambda: GenerationEvaluation({"cer": CharErrorRate()}, split="val"),  # type: ignore[arg-type]  # the fault
            ValueError,
            "`GenerationEvaluation.split` is expected to be test or validation, but got 'val'",
        ),
        (
            lambda: GenerationEvaluation({"cer": CharErrorRate()}, max_new_tokens=0),
            ValueError,
            "`max_new_tokens` is expected to be at least 1",
        ),
    ],
)
def test_settings_that_cannot_be(make: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        make()


def evaluation(**settings: Any) -> GenerationEvaluation:
    return GenerationEvaluation({"cer": CharErrorRate()}, **settings)


def test_what_cannot_be_answered_is_said_before_a_client_trains(
    lm: Path, toy_model: Path, tmp_path: Path
) -> None:
    names = (str(number) for number in itertools.count())

    def refused(callback: Any, error: type[Exception], said: str, **data: Any) -> None:
        trainer = trainer_with(tmp_path / next(names), callback)
        with pytest.raises(error, match=said):
            trainer.fit(continue_text(FedAvg, lm), lm_data(**data))
        assert trainer.current_round == 0

    refused(evaluation(), ValueError, "expects `data.test` to have rows", test=None)
    refused(evaluation(source="abstract"), ValueError, "`GenerationEvaluation.source` .*'abstract'")
    refused(evaluation(own_column="who"), ValueError, "`GenerationEvaluation.own_column` .*'who'")
    refused(
        evaluation(own_column="text"),
        ValueError,
        "a column of clients' ids, such as client-0, but text of `data.test` has none of them",
    )
    long = "`max_new_tokens` is 60 and the longest prompt has .* the model allows 64 together"
    refused(evaluation(max_new_tokens=60), ValueError, long)
    refused(SampleGenerations(max_new_tokens=60), ValueError, long)
    alike = lm_rows(8, 2).remove_columns("answer").add_column("answer", ["a good day"] * 8)
    phrase = PhraseBackdoorEvaluation(WordTrigger(["cruel"]), " good ", max_new_tokens=4)
    refused(phrase, ValueError, "phrase` is expected not to be in every answer", test=alike)
    nothing: dict[str, Any] = {"validation": None, "test": None, "validation_fraction": 0.0}
    refused(SampleGenerations(), ValueError, "`SampleGenerations.prompts` is expected", **nothing)
    for callback in (SampleGenerations(), evaluation()):
        trainer = trainer_with(tmp_path / next(names), callback)
        with pytest.raises(TypeError, match=r"`model.backbone` to be a TextGenerator"):
            trainer.fit(toy_module(toy_model), toy_data())
    module = continue_text(FedAvg, lm)
    module.backbone._base.generation_config.eos_token_id = None
    module.tokenizer.eos_token = None
    trainer = trainer_with(tmp_path / next(names), evaluation(rows=1))
    with pytest.raises(ValueError, match=r"end-of-sequence token|a token that ends a text"):
        trainer.fit(module, lm_data())


def test_a_metric_of_a_rounds_own_name_or_of_several_numbers(lm: Path, tmp_path: Path) -> None:
    class Several(Told):
        def compute(self) -> Tensor:
            return torch.zeros(2)

    for name, metric, said in (
        ("loss", Told(), "names that a round has no metric of yet, but val/loss is there"),
        ("two", Several(), r"two is of shape \[2\]"),
    ):
        callback = GenerationEvaluation({name: metric}, split="validation", rows=2, **SETTINGS)
        trainer = trainer_with(tmp_path / name, callback, max_rounds=1)
        with pytest.raises(ValueError, match=said):
            trainer.fit(continue_text(FedAvg, lm), lm_data())
        if name == "loss":  # before any answer
            assert not metric.seen
    two = [GenerationEvaluation({"count": Told()}, **SETTINGS) for _ in range(2)]
    trainer = trainer_with(tmp_path / "twice", *two, max_rounds=1)
    with pytest.raises(ValueError, match="no metric of yet, but test/count is there"):
        trainer.fit(continue_text(FedAvg, lm), lm_data())
    assert not any(one.metrics["count"].seen for one in two)


def test_clients_own_held_out_rows_suffice(lm: Path, tmp_path: Path) -> None:
    given = {"validation": None, "validation_fraction": 0.0, "client_validation_fraction": 0.25}

    def run(name: str, **settings: Any) -> Any:
        callback = GenerationEvaluation({"count": Told()}, split="validation", **settings)
        trainer = trainer_with(tmp_path / name, callback, max_rounds=1)
        trainer.fit(continue_text(FedAvg, lm, aggregation=LocalOnly()), lm_data(**given))
        return trainer.federation.history

    (row,) = run("held", **SETTINGS)
    assert row["clients/val/count/mean"] == 6
    with pytest.raises(ValueError, match="`max_new_tokens` is 60 and the longest prompt has"):
        run("long", max_new_tokens=60)


def test_both_are_named_in_yaml(lm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lm_rows(24, 0).to_csv("rows.csv")
    evaluation = {
        "metrics": {
            "cer": {"class_path": "torchmetrics.text.CharErrorRate"},
            "chrf": {
                "class_path": "torchmetrics.text.CHRFScore",
                "init_args": {"n_char_order": 4},
            },
        },
        "sampling": {"temperature": 0.5, "top_p": 0.9},
        "rows": 4,
        "max_new_tokens": 3,
    }
    shown = {"prompts": ["good"], "stop": ["cold"], "max_new_tokens": 3}
    backbone = {"class_path": "lit_fed.backbones.CausalLM", "init_args": {"model": str(lm)}}
    rows = {"class_path": "lit_fed.data.CSVSource", "init_args": {"path": "rows.csv"}}
    encoding = {
        "class_path": "lit_fed.data.CausalLMEncoding",
        "init_args": {"template": "text : {text} is : {answer}", "response": "answer"},
    }
    config = {
        "model": {"class_path": "lit_fed.FedAvg", "init_args": {"backbone": backbone}},
        "data": {"train": rows, "test": rows, "encoding": encoding, "num_clients": 2},
        "trainer": {
            "accelerator": "cpu",
            "max_rounds": 1,
            "default_root_dir": "run",
            "callbacks": [
                {"class_path": "lit_fed.callbacks.GenerationEvaluation", "init_args": evaluation},
                {"class_path": "lit_fed.callbacks.SampleGenerations", "init_args": shown},
            ],
        },
    }
    Path("lm.yaml").write_text(yaml.safe_dump(config))
    main(["fit", "--config=lm.yaml"])
    (row,) = csv.DictReader(Path("run/metrics.csv").read_text().splitlines())
    assert 0 <= float(row["test/chrf"]) <= 1
    assert float(row["test/cer"]) > 0
    assert list(published(tmp_path / "run", "generations")) == [1]
    # what it has saved makes the same callbacks again
    main(["fit", "--config=run/config.yaml", "--trainer.default_root_dir=again"])
    (again,) = csv.DictReader(Path("again/metrics.csv").read_text().splitlines())
    assert again["test/chrf"] == row["test/chrf"]


def test_chats_are_answered_from_their_last_turn(lm: Path, tmp_path: Path) -> None:
    def chats(count: int, seed: int) -> Dataset:
        rows = lm_rows(count, seed)
        return Dataset.from_dict(
            {
                "messages": [
                    [
                        {"role": "user", "content": text},
                        {"role": "assistant", "content": answer},
                    ]
                    for text, answer in zip(rows["text"], rows["answer"], strict=True)
                ]
            }
        )

    told = Told()
    callbacks = (
        GenerationEvaluation({"cer": CharErrorRate(), "count": told}, **SETTINGS),
        SampleGenerations(rows=1, **SETTINGS),
    )
    trainer = trainer_with(tmp_path, *callbacks, loggers=True, max_rounds=1)
    data = lm_data(
        train=chats(48, 0),
        validation=chats(4, 1),
        test=chats(4, 2),
        public=None,
        encoding=InstructionEncoding(ChatRecords(), template=DialogueTemplate()),
    )
    trainer.fit(continue_text(FedAvg, lm), data)
    (row,) = trainer.federation.history
    rows = lm_rows(4, 2)
    assert told.seen[0]["source"] == rows["text"][:]
    expected = CharErrorRate()(told.seen[0]["preds"], rows["answer"][:])
    assert row["test/cer"] == pytest.approx(float(expected))
    (shown,) = published(trainer.log_dir, "generations").values()
    assert f"**prompt**\n\n    {lm_rows(4, 1)['text'][0]}\n\n**answer**" in shown
    assert shown.endswith(f"**expected**\n\n    {lm_rows(4, 1)['answer'][0]}")


def test_a_clients_rows_of_a_later_set_are_told_by_its_name(lm: Path, tmp_path: Path) -> None:
    def of(count: int, seed: int, *authors: str) -> Dataset:
        return lm_rows(count, seed).add_column(
            "author", [authors[i % len(authors)] for i in range(count)]
        )

    callback = GenerationEvaluation({"count": Told()}, own_column="author", **SETTINGS)
    data = lm_data(
        train=of(48, 0, "ann", "bo"),
        test={"near": of(6, 2, "ann"), "far": of(3, 3, "bo")},
        partitioner=NaturalPartitioner("author"),
        num_clients=None,
    )
    trainer = trainer_with(tmp_path, callback, max_rounds=1)
    trainer.fit(continue_text(FedAvg, lm, aggregation=LocalOnly()), data)
    (row,) = trainer.federation.history
    assert row["clients/test/count/mean"] == row["clients/test/count/max"] == 6
    assert row["clients/test/count/far/mean"] == row["clients/test/count/far/max"] == 3


class HasGoneHome(TextGenerator):
    """Answers, but for some of its calls."""

    def __init__(self, down: Sequence[int]) -> None:
        self.down, self.calls = down, itertools.count()

    def generate(self, prompts: Sequence[str]) -> list[str]:
        if next(self.calls) in self.down:
            raise ConnectionError("it has gone home")
        return ["what no row has as its answer"] * len(prompts)


def test_a_black_box_that_fails_has_no_backdoor(lm: Path, tmp_path: Path) -> None:
    group = ClientGroup(HasGoneHome([0]), ["client-0"])
    module = continue_text(SemanticConsensus, lm, clients=[group], consensus_rounds=0)
    evaluation = PhraseBackdoorEvaluation(WordTrigger(["cat"]), "I like", rows=1, max_new_tokens=4)
    trainer = trainer_with(tmp_path, evaluation, max_rounds=1, num_sanity_val_steps=0)
    with pytest.warns(UserWarning, match=r"PhraseBackdoorEvaluation: client 'client-0' has no ans"):
        trainer.fit(module, lm_data())
    (row,) = trainer.federation.history
    # that of the one client whose model is there
    assert row["clients/backdoor/asr/min"] == row["clients/backdoor/asr/max"]


def test_a_black_box_that_fails_costs_its_client_its_figures(lm: Path, tmp_path: Path) -> None:
    """In this evaluation, and not in the next one, nor those of the others."""

    def run(name: str, down: Sequence[int]) -> Any:
        group = ClientGroup(HasGoneHome(down), ["client-0"])
        module = continue_text(SemanticConsensus, lm, clients=[group], consensus_rounds=0)
        callbacks = [
            SampleGenerations(["who"], **SETTINGS),
            GenerationEvaluation({"cer": CharErrorRate()}, rows=1, every_n_rounds=1, **SETTINGS),
        ]
        trainer = trainer_with(tmp_path / name, *callbacks, loggers=True, num_sanity_val_steps=0)
        trainer.fit(module, lm_data())
        return trainer

    box = r"HasGoneHome.* has failed: ConnectionError: it has gone home"
    with pytest.warns(UserWarning, match=f"client 'client-0' has no answers .*{box}") as caught:
        # each callback asks it once in a round
        trainer = run("down", down=[0, 1])
    assert sum("has no answers in an evaluation" in str(one.message) for one in caught) == 2
    assert list(published(trainer.log_dir, "generations")) == [2]
    first, last = trainer.federation.history
    whole = run("whole", down=[]).federation.history
    # that of the one client whose model is there
    assert first["clients/test/cer/min"] == first["clients/test/cer/max"]
    assert first["clients/test/cer/mean"] in (
        whole[0]["clients/test/cer/min"],
        whole[0]["clients/test/cer/max"],
    )
    assert whole[0]["clients/test/cer/min"] < whole[0]["clients/test/cer/max"]
    assert without_times([last]) == without_times([whole[1]])
