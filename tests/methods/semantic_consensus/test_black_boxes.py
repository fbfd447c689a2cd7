"""Black boxes in a semantic consensus: they vote where they answer, and nothing that they do wrong holds up a round."""

from __future__ import annotations

import copy
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from lit_fed import Payload, SemanticConsensus
from lit_fed.attachment import Attachment
from lit_fed.backbones import BlackBox, CallableGenerator, HTTPGenerator, TextGenerator
from lit_fed.data import ClassificationEncoding
from lit_fed.federation import VectorizedClients
from lit_fed.federation.generation import GenerationSettings
from lit_fed.methods.semantic_consensus import (
    ClientGroup,
    ConfidenceWeight,
    DawidSkene,
    EqualWeight,
    LabelAnswers,
    TextAnswers,
)
from lit_fed.methods.semantic_consensus.progress import Progress
from tests.backbones.endpoint.misbehaving_server import (
    Fault,
    MisbehavingServer,
    breaks_off,
    drips_content,
    fails_with,
    floods,
    refuses,
    says,
    says_nothing,
)
from tests.federation.toy import (
    GOOD,
    fast_adamw,
    toy_backbone,
    toy_rows,
    toy_trainer,
    without_times,
)
from tests.methods.semantic_consensus.federations import (
    adapters,
    consensus_rows,
    consenting,
    fitted,
    labels_of,
    small_data,
)
from tests.methods.toy_methods import continue_text, lm_data, lm_rows, save_sober_model, save_toy_lm

KEY = "sk-Very-Secret-0123456789"
PUBLIC = list(toy_rows(20, 3)["text"])
FAULTS: list[Fault] = [
    says_nothing,
    drips_content,
    fails_with(429, Retry_After="0"),
    fails_with(500),
    fails_with(404),
    breaks_off,
    says("<html>"),
    says('{"choices": [{"message": {"content": ""}}]}'),
    says('{"choices": [{"message": {"content": "\\ud800 good"}}]}'),
    says('{"choices": [{"message": {"content": "I cannot tell."}}]}'),
    refuses,
    floods,
]
KINDS = {
    "timeout": 2,
    "rate_limit": 1,
    "server_error": 1,
    "not_found": 1,
    "connection": 1,
    "malformed": 2,
    "empty": 1,
    "unclear": 1,
    "refusal": 1,
    "too_long": 1,
}


@pytest.fixture(scope="module")
def sober(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sober_model(tmp_path_factory.mktemp("sober") / "model")


def knows(text: str) -> str:
    return "It is good." if set(GOOD) & set(text.split()) else "Rather bad, I think."


def asking(sober: Path, *generators: TextGenerator, **settings: Any) -> SemanticConsensus:
    """The clients from the second on are black boxes."""
    groups = [ClientGroup(one, [f"client-{n + 1}"]) for n, one in enumerate(generators)]
    return consenting(sober, clients=groups, **{"vote_weight": EqualWeight(), **settings})


def named_data(**settings: Any) -> Any:
    encoding = ClassificationEncoding("text", None, label_names=["bad", "good"])
    return small_data(encoding=encoding, **settings)


def quick(server: MisbehavingServer, **settings: Any) -> HTTPGenerator:
    given = {"timeout": 1.0, "prompt_timeout": 2.0, "max_retries": 1, "concurrency": 8}
    return HTTPGenerator(server.url, "m", **given | settings)


def test_who_never_says_an_answer_is_told_of(
    sober: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def hesitates(text: str) -> str:
        return "Maybe."

    module = asking(sober, CallableGenerator(hesitates))
    said = r"none of the 20 texts that CallableGenerator\(.*hesitates\) .* the first is 'Maybe\.'"
    with pytest.warns(UserWarning, match=said):
        trainer = fitted(tmp_path, module, named_data(), max_rounds=1)
    assert trainer.federation.history[0]["clients/answers/failed/unclear/max"] == 20
    assert (
        "black boxes  client-1: in the clients' means of tests, and not" in capsys.readouterr().out
    )


def test_each_fault_costs_a_vote_in_this_round_and_is_counted(sober: Path, tmp_path: Path) -> None:
    faulty = dict(zip(PUBLIC, FAULTS, strict=False))
    with MisbehavingServer(faulty, answer=knows) as server:
        module = asking(sober, CallableGenerator(knows), quick(server))
        start = time.monotonic()
        trainer = fitted(tmp_path, module, named_data(), max_rounds=1)
        assert time.monotonic() - start < 60
        ballots = module.server.ballots
        assert ballots is not None
        assert ballots.clients == ("client-0", "client-1", "client-2")
        right = ["good" if set(GOOD) & set(text.split()) else "bad" for text in PUBLIC]
        assert list(ballots.answers[1]) == right
        assert list(ballots.answers[2]) == [None] * len(FAULTS) + right[len(FAULTS) :]
        assert None not in ballots.answers[0]
        row = trainer.federation.history[0]
        assert row["clients/answers/missing/max"] == len(FAULTS)
        assert row["clients/answers/missing/min"] == 0
        said = {
            name.split("/")[3]: value
            for name, value in row.items()
            if name.startswith("clients/answers/failed/") and name.endswith("/max")
        }
        assert said == KINDS
        # in the next round it answers, and has its votes
        server.faults.clear()
        again = toy_trainer(tmp_path, clients_per_round=1.0, num_sanity_val_steps=0, max_rounds=2)
        again.fit(module, named_data(), ckpt_path="last")
        assert module.server.ballots is not None
        assert list(module.server.ballots.answers[2]) == right
        assert again.federation.history[1]["clients/answers/missing/max"] == 0
    assert trainer.federation.failures == again.federation.failures == {}


class DownInRound(TextGenerator):
    """A program that fails in one of the rounds, whatever it is asked.

    Attributes:
        asked: How many prompts there were in each call.
    """

    def __init__(self, call: int) -> None:
        self.call, self.asked = call, list[int]()
        self.inside = CallableGenerator(self.answer)

    def answer(self, prompt: str) -> str:
        if len(self.asked) == self.call:
            raise ConnectionError("service is down")
        return knows(prompt)

    def generate(self, prompts: Sequence[str]) -> list[str | None]:
        self.asked.append(len(prompts))
        return self.inside.generate(prompts)

    @property
    def failures(self) -> Any:
        return self.inside.failures

    def check(self) -> None:
        self.inside.check()


def test_a_function_that_is_down_at_the_first_consensus_costs_its_votes_there(
    sober: Path, tmp_path: Path
) -> None:
    box = DownInRound(1)
    with pytest.warns(UserWarning, match="failed for 20 of 20 prompts, .*service is down"):
        trainer = fitted(tmp_path, asking(sober, box), named_data(), max_rounds=2)
    assert trainer.federation.failures == {}
    first, second = trainer.federation.history
    assert first["clients/answers/failed/error/max"] == 20
    assert second["clients/answers/missing/max"] == 0
    assert box.asked[:2] == [20, 20]


@pytest.mark.parametrize("later", [fails_with(401), fails_with(404), fails_with(307, Location="/")])
def test_an_endpoint_that_was_busy_when_it_was_tried_costs_its_votes_alone(
    later: Fault, sober: Path, tmp_path: Path
) -> None:
    with MisbehavingServer({"Hello": fails_with(429)}, otherwise=later) as server:
        module = asking(sober, quick(server, max_retries=0))
        with pytest.warns(UserWarning, match="has no answer to 20 of 20 prompts"):
            trainer = fitted(tmp_path, module, named_data(), max_rounds=1)
    assert trainer.federation.failures == {}
    assert trainer.federation.history[0]["clients/answers/missing/max"] == 20


def test_a_run_goes_on_without_an_endpoint_that_is_gone(sober: Path, tmp_path: Path) -> None:
    def going_on(module: SemanticConsensus, rounds: int) -> Any:
        trainer = toy_trainer(
            tmp_path, clients_per_round=1.0, num_sanity_val_steps=0, max_rounds=rounds
        )
        trainer.fit(module, named_data(), ckpt_path="last")
        return trainer.federation

    with MisbehavingServer(answer=knows) as server:
        box = quick(server, max_retries=0, give_up_after=2)
        module = asking(sober, box)
        fitted(tmp_path, module, named_data(), max_rounds=1)
    said = (
        r"`model\.clients\.0\.backbone`: `base_url` .* ConnectError.* goes on without its answers"
    )
    with pytest.warns(UserWarning, match=said):
        state = going_on(module, 2)
    assert state.failures == {}
    assert state.history[1]["clients/answers/missing/max"] == 20
    # what is wrong, and not just away, is refused as ever
    server = MisbehavingServer(otherwise=fails_with(404))
    with server:
        wrong = asking(sober, quick(server))
        with pytest.raises(
            ValueError, match=r"`model\.clients\.0\.backbone`: `base_url` and `model`"
        ):
            going_on(wrong, 3)


def test_an_evaluation_asks_an_endpoint_once_for_all_its_clients(
    sober: Path, tmp_path: Path
) -> None:
    test = toy_rows(16, 2)
    with MisbehavingServer({test["text"][0]: refuses}, answer=knows) as server:
        groups = [ClientGroup(quick(server), ["client-1", "client-2"])]
        module = consenting(sober, clients=groups, vote_weight=EqualWeight())
        trainer = fitted(tmp_path, module, named_data(test=test), max_rounds=1)
        asked = Counter(request.prompt for request in server.requests)
        assert {asked[text] for text in test["text"]} == {1}
        # the votes are each client's own
        assert {asked[text] for text in set(PUBLIC) - {*test["text"]}} == {2}
        found = trainer.final_metrics
        assert found["clients/test/failed/refusal/min"] == 1
        assert found["clients/test/unanswered/max"] == 1 / 16
        # and asked anew in another one
        trainer.test(module, named_data(test=test))
        again = Counter(request.prompt for request in server.requests)
        assert {again[text] for text in test["text"]} == {2}


@pytest.mark.parametrize(
    "fault",
    [pytest.param(says_nothing, marks=pytest.mark.slow), fails_with(503), floods],
    ids=["silent", "503", "floods"],
)
def test_an_endpoint_that_never_answers_leaves_the_others(
    fault: Fault, sober: Path, tmp_path: Path
) -> None:
    with MisbehavingServer(otherwise=fault) as server:
        dead = quick(server, timeout=0.3, max_retries=0, batch_timeout=2.0)
        module = asking(sober, CallableGenerator(knows), dead)
        trainer = fitted(tmp_path, module, named_data(), max_rounds=2)
    assert trainer.federation.failures == {}
    assert trainer.federation.history[-1]["clients/answers/missing/max"] == 20
    assert consensus_rows(trainer, "answered") == [pytest.approx(2 / 3)] * 2
    assert trainer.final_metrics["clients/test/unanswered/max"] == 1
    assert trainer.final_metrics["clients/test/accuracy/min"] == 0


def test_a_black_box_trains_and_keeps_nothing(sober: Path, tmp_path: Path) -> None:
    module = asking(sober, CallableGenerator(knows))
    trainer = fitted(tmp_path, module, named_data(), max_rounds=3)
    state = trainer.federation.clients["client-1"]
    assert (state.steps, state.optimizer, dict(state.private.tensors)) == (0, Payload(), {})
    # what it has sent, by which it sends what has changed alone
    assert list(state.private.parts) == ["sent"]
    assert "val/loss" not in trainer.federation.history[-1]
    assert list(module.backbones) == ["backbone"]
    assert list(module.black_boxes) == ["clients.0.backbone"]
    assert sorted(path.name for path in (tmp_path / "adapter").iterdir()) == [
        "client-0",
        "client-2",
    ]
    # it is sent prompts and no labels: 20 bits a round
    ledger = trainer.federation.ledger.clients
    assert ledger["client-1"][1] == 3 * 3 < ledger["client-0"][1]
    assert trainer.final_metrics["clients/test/accuracy/max"] == 1
    assert trainer.final_metrics["clients/test/unanswered/mean"] == 0
    trainer.act_as_client(1)
    assert (module.stages, list(module.backbone.parameters())) == ((), [])


def test_its_votes_count(sober: Path, tmp_path: Path) -> None:
    """Two that know outvote a model that has hardly learnt."""
    boxes = [CallableGenerator(knows) for _ in range(2)]
    trainer = fitted(tmp_path, asking(sober, *boxes), named_data(), max_rounds=1)
    assert labels_of(trainer) == tuple(
        "good" if set(GOOD) & set(text.split()) else "bad" for text in PUBLIC
    )
    assert consensus_rows(trainer, "pseudo_label_accuracy") == [1.0]


def test_black_boxes_alone(sober: Path, tmp_path: Path) -> None:
    """Nobody trains; the rounds are there all the same."""
    groups = [ClientGroup(CallableGenerator(knows), [f"client-{n}" for n in range(3)])]
    module = consenting(sober, clients=groups, selector=DawidSkene())
    trainer = fitted(tmp_path, module, named_data(), max_rounds=2)
    assert consensus_rows(trainer, "pseudo_label_accuracy") == [1.0, 1.0]
    assert trainer.final_metrics["clients/test/accuracy/min"] == 1
    assert all(not state.steps for state in trainer.federation.clients.values())


def test_vectorized_is_sequential(sober: Path, tmp_path: Path) -> None:
    def run(name: str, **settings: Any) -> Any:
        module = asking(sober, CallableGenerator(knows))
        data = named_data(num_clients=4)
        return fitted(tmp_path / name, module, data, max_rounds=2, **settings)

    one, many = run("one"), run("many", execution=VectorizedClients(4))
    assert labels_of(one) == labels_of(many)
    assert one.federation.ledger == many.federation.ledger
    for id, own in adapters(one).items():
        torch.testing.assert_close(own, adapters(many)[id], rtol=1e-3, atol=1e-4)


class Locked(TextGenerator):
    """Of which there is no copy, as of a connection."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def generate(self, prompts: Sequence[str]) -> list[str | None]:
        with self.lock:
            return [knows(prompt) for prompt in prompts]


def test_vectorized_clients_copy_no_black_box(sober: Path, tmp_path: Path) -> None:
    module = asking(sober, Locked())
    trainer = fitted(tmp_path, module, named_data(), max_rounds=1, execution=VectorizedClients(3))
    assert trainer.federation.failures == {}
    assert copy.deepcopy(module.clients)[0].backbone is module.clients[0].backbone


class AbsentAtFirst(Attachment):
    """A client that fails in the first round."""

    def upload(self, client: Any, upload: Any, broadcast: Any, memory: Any) -> Any:
        if not client.round:
            raise ValueError("not today")
        return upload, memory


def test_a_round_that_black_boxes_alone_finish_is_no_end_of_the_warm_up(
    sober: Path, tmp_path: Path
) -> None:
    module = asking(sober, CallableGenerator(knows), warmup_rounds=None)
    with pytest.warns(UserWarning, match="'client-0' is left out: not today"):
        trainer = fitted(
            tmp_path,
            module,
            named_data(num_clients=2),
            max_rounds=3,
            attachments=[AbsentAtFirst(["client-0"])],
        )
    server = trainer.federation.server
    assert len(Progress.read(server).losses) == 2
    assert Progress.read(server).rounds == 3


def test_it_resumes_bit_for_bit(sober: Path, tmp_path: Path) -> None:
    def make() -> Any:
        return asking(sober, CallableGenerator(knows))

    whole = fitted(tmp_path / "whole", make(), named_data(), max_rounds=4)
    fitted(tmp_path / "parts", make(), named_data(), max_rounds=2)
    resumed = toy_trainer(
        tmp_path / "parts", max_rounds=4, clients_per_round=1.0, num_sanity_val_steps=0
    )
    resumed.fit(make(), named_data(), ckpt_path="last")
    ours, theirs = whole.federation, resumed.federation
    assert without_times(ours.history) == without_times(theirs.history)
    assert (ours.broadcast, ours.server, ours.clients) == (
        theirs.broadcast,
        theirs.server,
        theirs.clients,
    )


def test_texts(tmp_path: Path) -> None:
    """Language models beside one that only answers."""
    model = save_toy_lm(tmp_path / "model")
    answers = {}

    def writes(prompt: str) -> str:
        answers[prompt] = f"  {prompt.split()[-1]}\x1b[31m, and so on and on and on and on"
        return answers[prompt]

    group = ClientGroup(CallableGenerator(writes), ["client-1"])
    module = continue_text(
        SemanticConsensus,
        model,
        clients=[group],
        warmup_rounds=1,
        consensus_every=1,
        answers=TextAnswers(max_characters=16, max_new_tokens=6),
    )
    data = lm_data(train=lm_rows(60, 0), num_clients=3)
    trainer = fitted(tmp_path / "run", module, data, max_rounds=2)
    ballots = module.server.ballots
    assert ballots is not None
    prompts = module.data.encoding.prompts(module.data.public)
    assert set(answers) == {*prompts, "Hello"}
    assert all(len(text or "") <= 16 and "\x1b" not in text for text in ballots.answers[1] if text)
    assert ballots.answers[1][0].startswith(prompts[0].split()[-1])
    # tokens are no answers: where models have the former's accuracy, it has none
    assert trainer.federation.clients["client-1"].steps == 0
    assert trainer.final_metrics["clients/test/accuracy/min"] > 0
    trainer.act_as_client(1)
    assert module.answer_metrics(data.public) == {}
    # asked by a callback, such as an evaluation of generated texts, it answers like any model
    settings = GenerationSettings(stop=["\x1b", " on"])
    with pytest.warns(UserWarning, match=r"no answer to 1 of 2 prompts \(error 1\)"):
        assert trainer.generate(["one two", ""], settings, client=1) == ["  two", ""]
    with pytest.raises(ValueError, match=r"`sampling` and `cache` are expected to be left out"):
        trainer.generate(["one"], GenerationSettings(cache=str(tmp_path)), client=1)


def test_the_key_is_in_no_file_of_a_run(
    sober: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIT_FED_TEST_KEY", KEY)

    def tells(exchange: Any) -> None:
        exchange.answer(f"good {exchange.request.headers['Authorization']}")

    with MisbehavingServer(otherwise=tells) as server:
        asked = quick(server, api_key_env="LIT_FED_TEST_KEY")
        fitted(tmp_path, asking(sober, asked), named_data(), max_rounds=2, loggers=True)
        assert server.requests[0].headers["Authorization"] == f"Bearer {KEY}"
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".safetensors" for path in files)
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def test_what_is_wrong_shows_before_training(
    sober: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(message: str, *generators: TextGenerator, **settings: Any) -> None:
        with pytest.raises(ValueError, match=message):
            fitted(tmp_path / "run", asking(sober, *generators, **settings), named_data())

    with MisbehavingServer(otherwise=fails_with(404)) as server:
        refused(r"`model\.clients\.0\.backbone`: `base_url` and `model` are", quick(server))
    refused(r"`model\.clients\.0\.backbone`: `base_url` is expected .* ConnectError", quick(server))
    box = CallableGenerator(knows)
    refused(r"`model\.vote_weight` .* black box", box, vote_weight=ConfidenceWeight())
    refused(r"leave out `model\.answers\.epsilon`", box, answers=LabelAnswers(epsilon=1.0))
    with pytest.raises(ValueError, match=r"`model\.clients\.0\.optimizer` .* trains nothing"):
        consenting(sober, clients=[ClientGroup(box, ["client-1"], fast_adamw)])
    with pytest.raises(TypeError, match=r"`model\.clients\.0\.backbone` is expected"):
        consenting(sober, clients=[ClientGroup(knows, ["client-1"])])  # type: ignore[arg-type]


class Odd(TextGenerator):
    """Gives what it is told to."""

    def __init__(self, said: Any) -> None:
        self.said = said

    def generate(self, prompts: Sequence[str]) -> Any:
        if isinstance(self.said, Exception):
            raise self.said
        return self.said


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("good", "is expected to give a list of texts, but gave str"),
        (["good"], "an answer, or None, for each of 2 prompts, but gave 1"),
        (["good", 3], "is expected to give texts, or None, but gave 3"),
    ],
)
def test_what_is_no_list_of_answers_is_named(said: Any, message: str, toy_model: Path) -> None:
    with pytest.raises((TypeError, ValueError), match=f"Odd object .* {message}"):
        BlackBox(Odd(said), toy_backbone(toy_model)).generate(["a", "b"])


def test_a_box_that_fails_in_an_evaluation_has_answered_nothing(
    sober: Path, tmp_path: Path
) -> None:
    groups = [ClientGroup(Odd(ConnectionError("service is down")), ids=["client-1"])]
    module = consenting(sober, clients=groups)
    with pytest.warns(UserWarning, match="counts as having answered nothing: ConnectionError"):
        trainer = fitted(tmp_path, module, max_rounds=1)
    assert trainer.final_metrics["clients/test/unanswered/max"] == 1
    assert trainer.final_metrics["clients/test/failed/error/max"] == 16
    assert trainer.federation.failures["client-1"] == 1
