"""Semantic consensus in small federations: what is exchanged, learnt, kept and left out."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import ClassLabel
from torch import Tensor
from transformers import BertModel

from lit_fed import FedAvg, Payload
from lit_fed.aggregation import LocalOnly
from lit_fed.attachment import Attachment
from lit_fed.backbones import CallableGenerator, SequenceClassifier
from lit_fed.client import Client
from lit_fed.configuration_error import ConfigurationError
from lit_fed.data import ClassificationEncoding
from lit_fed.federation import VectorizedClients
from lit_fed.methods.semantic_consensus import (
    Ballots,
    ClientGroup,
    ConfidenceWeight,
    Consensus,
    EqualWeight,
    LabelAnswers,
    MajorityVote,
    MostDisagreed,
    RandomClient,
    RandomizedResponse,
    Selector,
    SoftConsensus,
)
from lit_fed.methods.semantic_consensus.exchange import Labels, unpacked
from lit_fed.methods.semantic_consensus.prompt_choice import PromptChoice
from lit_fed.methods.semantic_consensus.prompts import prompt_digest
from tests.federation.toy import (
    fast_adamw,
    save_toy_model,
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
    gone_on,
    labels_of,
    small_data,
)
from tests.methods.toy_methods import save_sober_model


@pytest.fixture(scope="module")
def sober(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sober_model(tmp_path_factory.mktemp("sober") / "model")


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("narrow") / "model"
    return save_toy_model(folder, width=16, extra_words=("unheard", "of"))


class Fixed(Selector):
    """The labels that it is given, at a confidence."""

    def __init__(self, confidence: float) -> None:
        self.confidence = confidence

    def __call__(self, ballots: Ballots, seed: int) -> Consensus:
        labels = tuple("01"[place % 2] for place in range(ballots.num_prompts))
        return Consensus(labels, torch.full((len(labels),), self.confidence), {})


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_texts_alone_are_exchanged_and_counted(sober: Path, tmp_path: Path) -> None:
    trainer = fitted(tmp_path, consenting(sober, only_changed=False), max_rounds=3)
    assert trainer.federation.ledger.rounds[0] == (3 * (20 + 16), 3 * 3)
    # 20 labels of one character, as many confidences in half precision, and 20 bits
    labelled = sum(map(bool, labels_of(trainer)))
    assert trainer.federation.ledger.rounds[1][0] == 3 * (20 + 16)
    assert trainer.federation.ledger.rounds[1][1] <= 3 * (20 + 2 * 20 + 3)
    assert labelled > 0
    assert not trainer.federation.broadcast.tensors.keys() - {"asked"}
    first, second, third = adapters(trainer).values()
    assert not same(first, second)
    assert not same(second, third)
    assert "clients/test/accuracy/min" in trainer.final_metrics
    folders = sorted(path.name for path in (tmp_path / "adapter").iterdir())
    assert folders == ["client-0", "client-1", "client-2"]


def test_without_a_consensus_each_client_is_alone_bit_for_bit(sober: Path, tmp_path: Path) -> None:
    alone = fitted(tmp_path / "a", consenting(sober, consensus_rounds=0), max_rounds=2)
    method = FedAvg(toy_backbone(sober), LocalOnly(), optimizer=fast_adamw)
    local = fitted(tmp_path / "b", method, max_rounds=2)
    assert alone.final_metrics == local.final_metrics
    assert alone.federation.ledger.up == alone.federation.ledger.down == 0


def test_labels_that_abstain_and_no_weight_change_nothing(sober: Path, tmp_path: Path) -> None:
    def after(name: str, **settings: Any) -> dict[str, Any]:
        return adapters(fitted(tmp_path / name, consenting(sober, **settings), max_rounds=2))

    class Abstains(Selector):
        def __call__(self, ballots: Ballots, seed: int) -> Consensus:
            count = ballots.num_prompts
            return Consensus((None,) * count, torch.zeros(count), {})

    alone = after("alone", consensus_rounds=0)
    for name, settings in {
        "abstains": {"selector": Abstains()},
        "eta": {"eta": 0.0, "selector": Fixed(1.0)},
    }.items():
        found = after(name, **settings)
        assert all(same(found[id], alone[id]) for id in alone), name
    sure, half = after("sure", selector=Fixed(1.0)), after("half", selector=Fixed(0.5))
    plain = after("plain", selector=Fixed(0.5), weigh_by_confidence=False)
    assert not any(same(sure[id], alone[id]) for id in alone)
    assert not any(same(sure[id], half[id]) for id in alone)
    assert all(same(sure[id], plain[id]) for id in alone)
    # a confidence of one half and η of one half are the same to a single term
    eta = after("half eta", selector=Fixed(1.0), eta=0.5)
    for id in alone:
        for name in alone[id]:
            torch.testing.assert_close(half[id][name], eta[id][name])


def test_one_client_learns_from_itself(sober: Path, tmp_path: Path) -> None:
    module = consenting(sober)
    trainer = fitted(tmp_path, module, small_data(num_clients=1), max_rounds=2)
    assert module.server.ballots is not None
    assert module.server.consensus is not None
    assert module.server.consensus.labels == module.server.ballots.answers[0]
    assert consensus_rows(trainer, "abstain_rate") == [0.0, 0.0]


def test_self_training_is_one_client_of_each_and_sends_nothing(sober: Path, tmp_path: Path) -> None:
    data = {"num_clients": 1, "partitioner": None}
    own = fitted(tmp_path / "a", consenting(sober, self_training=True), small_data(**data))
    assert own.federation.ledger.up == 0
    assert "labels" not in own.federation.broadcast.parts
    believed = consenting(sober, vote_weight=ConfidenceWeight(), weigh_by_confidence=False)
    voted = fitted(tmp_path / "b", believed, small_data(**data))
    own_plain = consenting(sober, self_training=True, weigh_by_confidence=False)
    plain = fitted(tmp_path / "c", own_plain, small_data(**data))
    assert same(adapters(plain)["client-0"], adapters(voted)["client-0"])
    assert not same(adapters(plain)["client-0"], adapters(own)["client-0"])


class EveryOther(PromptChoice):
    """Half of the prompts, drawn anew each time."""

    def __call__(self, count: int, confidence: Tensor | None, seed: int) -> Tensor:
        chosen = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
        return chosen < count // 2


def test_own_labels_of_prompts_that_are_left_out_stay(sober: Path, tmp_path: Path) -> None:
    own = consenting(sober, self_training=True, prompt_choice=EveryOther())
    trainer = fitted(tmp_path, own, small_data(num_clients=1, partitioner=None), max_rounds=4)
    held = Labels.read(trainer.federation.clients["client-0"].private.parts["labels"])
    assert held is not None
    assert len(held.places) > len(held.texts) // 2


def test_two_clients_abstain_where_they_differ(sober: Path, tmp_path: Path) -> None:
    module = consenting(sober, vote_weight=EqualWeight())
    trainer = fitted(tmp_path, module, small_data(num_clients=2), max_rounds=2)
    assert module.server.ballots is not None
    one, other = module.server.ballots.answers
    expected = tuple(a if a == b else "" for a, b in zip(one, other, strict=True))
    assert labels_of(trainer) == expected


def test_it_is_labelled_once_or_every_other_round(sober: Path, tmp_path: Path) -> None:
    def rounds(name: str, **settings: Any) -> list[int]:
        trainer = fitted(tmp_path / name, consenting(sober, **settings), max_rounds=5)
        return [i for i, row in enumerate(trainer.federation.history) if row["bytes/up"]]

    assert rounds("every", warmup_rounds=2, consensus_every=2) == [1, 3]
    assert rounds("once", warmup_rounds=2, consensus_rounds=1) == [1]


def test_the_warm_up_ends_when_validation_stops_improving(sober: Path, tmp_path: Path) -> None:
    def still(params: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(params, lr=0.0)

    module = consenting(sober, warmup_rounds=None, optimizer=still)
    trainer = fitted(tmp_path, module, max_rounds=4)
    assert [bool(row["bytes/up"]) for row in trainer.federation.history] == [False] * 3 + [True]
    blind = consenting(sober, warmup_rounds=None)
    with pytest.raises(ValueError, match=r"`trainer\.limit_val_batches` is expected not to be 0"):
        fitted(tmp_path / "blind", blind, max_rounds=1, limit_val_batches=0)


def test_clients_that_train_together_do_as_one_after_the_other(
    sober: Path, narrow: Path, tmp_path: Path
) -> None:
    def run(name: str, **settings: Any) -> Any:
        group = ClientGroup(toy_backbone(narrow), ["client-1", "client-2"], slow)
        module = consenting(sober, clients=[group], vote_weight=ConfidenceWeight())
        data = small_data(num_clients=4)
        return fitted(tmp_path / name, module, data, accumulate_grad_batches=2, **settings)

    def slow(params: Any) -> torch.optim.Optimizer:
        return torch.optim.AdamW(params, lr=1e-3)

    alone, together = run("alone"), run("together", execution=VectorizedClients(4))
    assert labels_of(alone) == labels_of(together)
    assert alone.federation.ledger == together.federation.ledger
    widths = set()
    for id, own in adapters(alone).items():
        widths.add(max(tensor.shape[-1] for tensor in own.values()))
        for name, tensor in own.items():
            torch.testing.assert_close(tensor, adapters(together)[id][name], rtol=1e-3, atol=1e-4)
    assert len(widths) == 2


def test_a_group_has_its_own_optimizer_and_leaves_other_models(sober: Path, narrow: Path) -> None:
    def slow(params: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(params, lr=0.5)

    group = ClientGroup(toy_backbone(narrow), ["client-1"], slow)
    module = consenting(sober, clients=[group])
    assert list(module.backbones) == ["backbone", "clients.0.backbone"]
    for index, kind in enumerate((torch.optim.AdamW, torch.optim.SGD)):
        module.act_as(Client(f"client-{index}", index, 1, 0, 0, 0))
        optimizer = module.configure_optimizers()
        assert type(optimizer) is kind
        moved = {id(p) for group in optimizer.param_groups for p in group["params"]}
        assert moved == {id(p) for p in module.backbone.trainable().values()}


def test_it_resumes_bit_for_bit(toy_model: Path, narrow: Path, tmp_path: Path) -> None:
    def make() -> Any:
        return consenting(
            toy_model,
            backbone=toy_backbone(toy_model, dropout=0.1),
            clients=[ClientGroup(toy_backbone(narrow, dropout=0.1), ["client-2"])],
            vote_weight=ConfidenceWeight(),
            prompt_choice=MostDisagreed(7),
        )

    given = {"clients_per_round": 2}
    whole = fitted(tmp_path / "whole", make(), max_rounds=5, **given)
    fitted(tmp_path / "parts", make(), max_rounds=2, **given)
    resumed = toy_trainer(tmp_path / "parts", max_rounds=5, num_sanity_val_steps=0, **given)
    resumed.fit(make(), small_data(), ckpt_path="last")
    ours, theirs = whole.federation, resumed.federation
    assert without_times(ours.history) == without_times(theirs.history)
    assert (ours.broadcast, ours.server, ours.clients) == (
        theirs.broadcast,
        theirs.server,
        theirs.clients,
    )
    assert ours.ledger == theirs.ledger
    assert whole.final_metrics == resumed.final_metrics
    server = type(make()).from_run(tmp_path / "whole", make())
    assert server.server_state() == ours.server


def test_changes_alone_make_the_same_consensus_in_fewer_bytes(sober: Path, tmp_path: Path) -> None:
    every = fitted(tmp_path / "every", consenting(sober, only_changed=False), max_rounds=4)
    changes = fitted(tmp_path / "changes", consenting(sober), max_rounds=4)
    assert labels_of(every) == labels_of(changes)
    assert consensus_rows(every, "churn") == consensus_rows(changes, "churn")
    assert all(same(a, adapters(changes)[id]) for id, a in adapters(every).items())
    assert changes.federation.ledger.rounds[-1][0] < every.federation.ledger.rounds[-1][0]


def test_what_was_sent_before_all_of_it_was_is_no_last_answer(tmp_path: Path, sober: Path) -> None:
    """A service answers, then answers otherwise while all is sent, then no more: it has no vote left."""
    said: list[str | None] = ["0"]

    def answering(only_changed: bool) -> Any:
        service = CallableGenerator(lambda prompt: said[0])
        group = ClientGroup(service, ["client-1"])
        equal = EqualWeight()
        return consenting(sober, clients=[group], only_changed=only_changed, vote_weight=equal)

    fitted(tmp_path, answering(True), max_rounds=1)
    said[0] = "1"
    gone_on(tmp_path, answering(False), 2)
    said[0] = None
    module = answering(True)
    gone_on(tmp_path, module, 3)
    votes = module.server.ballots
    assert votes.answers[votes.clients.index("client-1")] == (None,) * 20


def test_a_run_that_goes_on_asks_no_more_often_than_it_may(tmp_path: Path, sober: Path) -> None:
    fitted(tmp_path, consenting(sober), max_rounds=2)
    with pytest.raises(ConfigurationError, match=r"`model\.consensus_rounds` .* at least 3"):
        gone_on(tmp_path, consenting(sober, consensus_rounds=2), 3)
    trainer = gone_on(tmp_path, consenting(sober, consensus_rounds=3), 4)
    assert [bool(row["bytes/up"]) for row in trainer.federation.history] == [True] * 3 + [False]


def test_a_budget_of_all_prompts_leaves_nothing_out(sober: Path, tmp_path: Path) -> None:
    runs = [
        fitted(tmp_path / str(budget), consenting(sober, prompt_choice=choice), max_rounds=3)
        for budget, choice in {20: MostDisagreed(20), 0: None, 5: MostDisagreed(5)}.items()
    ]
    assert labels_of(runs[0]) == labels_of(runs[1])
    assert runs[0].federation.ledger == runs[1].federation.ledger
    assert runs[2].federation.ledger.up < runs[1].federation.ledger.up


class Sends(Attachment):
    """Sends something else than the client's answers."""

    def __init__(self, texts: Any, digest: str | None = None) -> None:
        super().__init__(["client-1"])
        self.texts, self.digest = texts, digest

    def upload(self, client: Any, upload: Any, broadcast: Any, memory: Any) -> Any:
        strings = {**upload.strings, "texts": self.texts(upload.strings["texts"])}
        if self.digest is not None:
            strings["digest"] = [self.digest]
        return Payload(upload.tensors, strings), memory


class Listens(Attachment):
    """Counts the answers that a client says have changed."""

    def __init__(self) -> None:
        super().__init__(["client-1"])
        self.changed: list[int] = []

    def upload(self, client: Any, upload: Any, broadcast: Any, memory: Any) -> Any:
        self.changed.append(int(unpacked(upload.tensors["changed"], 20).sum()))
        return upload, memory


def test_who_has_sent_nothing_yet_says_so_of_every_answer(sober: Path, tmp_path: Path) -> None:
    """Of a client of that name that was there before the server may know others."""
    silent = ClientGroup(CallableGenerator(lambda prompt: None), ["client-1"])
    module = consenting(sober, clients=[silent], vote_weight=EqualWeight())
    listens = Listens()
    fitted(tmp_path, module, max_rounds=2, attachments=[listens])
    assert listens.changed == [20, 0]


@pytest.mark.parametrize(
    ("attachment", "said"),
    [
        (Sends(lambda texts: texts[1:]), "20 texts in 'texts', but holds 19"),
        (Sends(lambda texts: texts, "0123"), "those of another round, '0123'"),
    ],
)
def test_answers_to_other_prompts_are_refused_by_name(
    attachment: Attachment, said: str, sober: Path, tmp_path: Path
) -> None:
    module = consenting(sober, only_changed=False)
    with pytest.warns(UserWarning, match=f"client 'client-1' is left out: .*{said}"):
        trainer = fitted(tmp_path, module, max_rounds=1, attachments=[attachment])
    assert module.server.ballots is not None
    assert module.server.ballots.clients == ("client-0", "client-2")
    assert trainer.federation.failures == {"client-1": 1}


class Repeats(Attachment):
    """Sends in each round what its client has sent first."""

    def __init__(self) -> None:
        super().__init__(["client-1"])
        self.first: Payload | None = None

    def upload(self, client: Any, upload: Any, broadcast: Any, memory: Any) -> Any:
        self.first = self.first or upload
        return self.first, memory


def test_answers_of_another_round_are_refused_by_name(sober: Path, tmp_path: Path) -> None:
    """They would count for the prompts of this round, where only some are asked."""
    module = consenting(sober, only_changed=False)
    with pytest.warns(
        UserWarning, match=r"round 2: client 'client-1' is left out: .*another round"
    ):
        trainer = fitted(tmp_path, module, max_rounds=2, attachments=[Repeats()])
    assert trainer.federation.failures == {"client-1": 1}


def test_the_saving_is_what_all_answers_would_have_been_beside_what_was_sent(
    sober: Path, tmp_path: Path
) -> None:
    every = fitted(tmp_path / "every", consenting(sober, only_changed=False), max_rounds=4)
    few = fitted(tmp_path / "few", consenting(sober), max_rounds=4)
    assert not consensus_rows(every, "bytes_saved")
    saved = consensus_rows(few, "bytes_saved")
    for (whole, _), (sent, _), one in zip(
        every.federation.ledger.rounds, few.federation.ledger.rounds, saved, strict=True
    ):
        assert whole - sent == one
    # at first all have changed, and three bytes of each client say so
    assert saved[0] == -9
    assert saved[-1] > 0
    some = consenting(sober, prompt_choice=MostDisagreed(4), only_changed=False)
    trainer = fitted(tmp_path / "some", some, max_rounds=2)
    # 16 of 20 answers of one character
    assert consensus_rows(trainer, "bytes_saved") == [0, 3 * 16]


def test_models_with_other_numbers_of_labels_without_names_are_refused(
    sober: Path, tmp_path: Path
) -> None:
    headless = save_toy_model(tmp_path / "headless")
    BertModel.from_pretrained(headless).save_pretrained(headless)
    wide = SequenceClassifier(str(headless), num_labels=3)
    module = consenting(sober, clients=[ClientGroup(wide, ["client-0"])])
    said = (
        r"labels without names expects .*`model.backbone` has 2, `model.clients.0.backbone` has 3"
    )
    with pytest.raises(ValueError, match=said):
        fitted(tmp_path / "run", module)
    named = ClassificationEncoding("text", None, label_names=["bad", "good"])
    fitted(tmp_path / "named", module, small_data(encoding=named), max_rounds=1)


def test_another_number_of_changes_is_refused(sober: Path, tmp_path: Path) -> None:
    attachment = Sends(lambda texts: [*texts, "1"])
    with pytest.warns(UserWarning, match="'client-1' is left out: .*20 answers, .* but holds 21"):
        fitted(tmp_path, consenting(sober), max_rounds=1, attachments=[attachment])


def test_a_client_without_an_answer_has_no_vote(sober: Path, tmp_path: Path) -> None:
    module = consenting(sober, vote_weight=EqualWeight(), only_changed=False)
    attachment = Sends(lambda texts: ["\x1b[31m 7"] * 10 + [""] * 10)
    trainer = fitted(tmp_path, module, max_rounds=2, attachments=[attachment])
    assert trainer.federation.failures == {}
    assert module.server.ballots is not None
    assert module.server.ballots.answers[1] == (None,) * 20
    assert consensus_rows(trainer, "answered") == [pytest.approx(2 / 3)] * 2


def test_a_late_client_gets_the_labels_and_the_others_not_again(
    sober: Path, tmp_path: Path
) -> None:
    module = consenting(sober, consensus_rounds=1)
    trainer = fitted(tmp_path, module, max_rounds=3)
    assert [bool(down) for _, down in trainer.federation.ledger.rounds] == [True, True, False]
    broadcast = trainer.federation.broadcast
    known, late = (Client(id, 0, 1, 3, 0, 0) for id in ("client-0", "late"))
    assert not module.broadcast_to(known, broadcast)
    assert module.broadcast_to(late, broadcast).parts == broadcast.parts


def test_what_the_settings_lack_is_said_in_a_line(sober: Path, tmp_path: Path) -> None:
    module = consenting(sober, clients=[ClientGroup(toy_backbone(sober), ["client-9"])])
    with pytest.raises(ValueError, match=r"`model\.clients\.0\.ids` .* got 'client-9'"):
        fitted(tmp_path / "a", module)
    groups = [ClientGroup(toy_backbone(sober), ["client-0"]) for _ in range(2)]
    with pytest.raises(ValueError, match=r"'client-0' is in `model\.clients\.0` and"):
        consenting(sober, clients=groups)
    with pytest.raises(ValueError, match=r"`model\.clients\.0\.ids` is expected to name clients"):
        consenting(sober, clients=[ClientGroup(toy_backbone(sober), [])])
    with pytest.raises(ValueError, match=r"`data\.public` or `data\.public_size` is expected"):
        fitted(tmp_path / "b", consenting(sober), small_data(public=None))
    with pytest.raises(ValueError, match=r"`model\.eta` is expected to be from 0 to 1"):
        consenting(sober, eta=1.5)
    with pytest.raises(TypeError, match=r"`model\.selector`"):
        consenting(sober, selector=MajorityVote)
    choice = MostDisagreed(4)
    expected = r"`model\.prompt_choice` is expected not to go by how sure labels are where `model\."
    with pytest.raises(ValueError, match=expected + "self_training` .*, but got MostDisagreed"):
        consenting(sober, prompt_choice=choice, self_training=True)
    with pytest.raises(ValueError, match=expected + "selector` is RandomClient, .* MostDisagreed"):
        consenting(sober, prompt_choice=choice, selector=RandomClient())
    with pytest.raises(ValueError, match=r"`model\.prompt_choice\.budget` .* whole .* got 1\.5"):
        MostDisagreed(1.5)  # type: ignore[arg-type]


def test_labels_under_differential_privacy(sober: Path, tmp_path: Path) -> None:
    def run(name: str, epsilon: float | None) -> tuple[Any, Any]:
        answers = LabelAnswers(epsilon=epsilon)
        module = consenting(sober, answers=answers, vote_weight=EqualWeight(), consensus_every=2)
        return module, fitted(tmp_path / name, module, max_rounds=3)

    (noisy, private), (sure, exact), (plain, open_) = (
        run("noisy", 0.1),
        run("sure", 50.0),
        run("plain", None),
    )
    # two times 20 answers at ε each, and none in between
    assert consensus_rows(private, "epsilon") == pytest.approx([2.0, 2.0, 4.0])
    assert not consensus_rows(open_, "epsilon")
    assert sure.server.ballots.answers == plain.server.ballots.answers
    assert labels_of(exact) == labels_of(open_)
    assert noisy.server.ballots.answers != plain.server.ballots.answers
    module = consenting(sober, answers=LabelAnswers(1.0), vote_weight=ConfidenceWeight())
    with pytest.raises(ValueError, match=r"`model\.vote_weight` is expected to be EqualWeight or"):
        fitted(tmp_path / "refused", module)
    for epsilon in (0.0, 1e-300):
        with pytest.raises(ValueError, match=r"`model\.answers\.epsilon`"):
            LabelAnswers(epsilon=epsilon)


def test_the_summary_has_what_all_rounds_have_spent_and_saved(sober: Path, tmp_path: Path) -> None:
    """Also where the last round is none of answers."""

    def summed(name: str, epsilon: float | None, **settings: Any) -> tuple[Any, Any]:
        answers = LabelAnswers(epsilon)
        module = consenting(sober, answers=answers, vote_weight=EqualWeight(), **settings)
        trainer = fitted(tmp_path / name, module, max_rounds=4)
        return trainer, json.loads((tmp_path / name / "summary.json").read_text())

    trainer, summary = summed("noisy", 0.1, consensus_every=2)
    assert "server/bytes_saved" not in summary["metrics"]
    assert summary["privacy"] == {"server_epsilon": pytest.approx(4.0)}
    saved = consensus_rows(trainer, "bytes_saved")
    assert len(saved) == 2
    assert summary["bytes"]["saved"] == sum(saved)
    _, summary = summed("plain", None, only_changed=False)
    assert summary["privacy"] is None
    assert summary["bytes"].keys() == {"up", "down", "total"}


def test_a_vote_that_takes_out_another_noise_is_refused(sober: Path, tmp_path: Path) -> None:
    def setup(epsilon: float | None, response: RandomizedResponse | None) -> None:
        module = consenting(
            sober,
            answers=LabelAnswers(epsilon),
            selector=MajorityVote(response),
            vote_weight=EqualWeight(),
        )
        module.datamodule = data
        module.setup("fit")

    data = small_data()
    data.setup()
    setup(1.0, None)
    setup(1.0, RandomizedResponse(["1", "0"], 1.0))
    expected = r"`model\.selector\.response` is expected to be what clients answer by, which is "
    with pytest.raises(ValueError, match=expected + r"RandomizedResponse\(\['0', '1'\], epsilon=1"):
        setup(1.0, RandomizedResponse(["0", "1"], 2.0))
    with pytest.raises(ValueError, match=expected + ".*, but got .*'2'"):
        setup(1.0, RandomizedResponse(["0", "1", "2"], 1.0))
    with pytest.raises(ValueError, match=expected + "no noise"):
        setup(None, RandomizedResponse(["0", "1"], 1.0))


class FailsAtFirst(Attachment):
    """A client that fails in the first round."""

    def upload(self, client: Any, upload: Any, broadcast: Any, memory: Any) -> Any:
        if not client.round:
            raise ValueError("not today")
        return upload, memory


def test_a_first_round_that_nobody_finishes_is_none(sober: Path, tmp_path: Path) -> None:
    for name, module in {
        "hard": consenting(sober),
        "soft": SoftConsensus(
            toy_backbone(sober), optimizer=fast_adamw, warmup_rounds=1, consensus_every=1
        ),
    }.items():
        with pytest.warns(UserWarning, match="no client finished"):
            trainer = fitted(
                tmp_path / name,
                module,
                small_data(num_clients=1, partitioner=None),
                max_rounds=2,
                min_clients=0,
                attachments=[FailsAtFirst(["client-0"])],
            )
        assert trainer.federation.failures == {"client-0": 1}
        assert [bool(row["bytes/up"]) for row in trainer.federation.history][1]


def test_own_labels_are_what_the_model_says_also_under_privacy(sober: Path, tmp_path: Path) -> None:
    """They do not leave the client: no noise, and nothing is spent."""
    labels = []
    for epsilon in (None, 0.1):
        module = consenting(
            sober,
            self_training=True,
            answers=LabelAnswers(epsilon),
            selector=MajorityVote(),
            vote_weight=EqualWeight(),
        )
        trainer = fitted(tmp_path / str(epsilon), module, max_rounds=2)
        assert "server/epsilon" not in trainer.federation.history[-1]
        labels.append(trainer.act_as_client(0).own.labels.texts)
    assert labels[0] == labels[1]


def test_labels_by_other_names_are_forgotten(sober: Path, tmp_path: Path) -> None:
    def named(*names: str) -> Any:
        def of(rows: Any) -> Any:
            return rows.cast_column("label", ClassLabel(names=list(names)))

        tables = {
            "train": of(toy_rows(96, 0)),
            "public": of(toy_rows(20, 3)),
            "test": of(toy_rows(10, 4)),
        }
        return small_data(**tables, validation=None)

    fitted(tmp_path, consenting(sober), named("bad", "good"), max_rounds=2)
    trainer = resumed(tmp_path, consenting(sober), named("boese", "gut"), max_rounds=3)
    assert not trainer.federation.failures


def resumed(root: Path, module: Any, data: Any, **settings: Any) -> Any:
    """A run that goes on with something else than it began with."""
    given = {"clients_per_round": 1.0, "num_sanity_val_steps": 0, "resume_with_changes": True}
    trainer = toy_trainer(root, **given | settings)
    trainer.fit(module, data, ckpt_path="last")
    return trainer


@pytest.mark.parametrize("count", [20, 12])
def test_what_was_said_of_other_prompts_is_forgotten(
    count: int, sober: Path, tmp_path: Path
) -> None:
    """By the server, by clients, and by one that has not been in a round since."""

    def make() -> Any:
        # of a weight that shows where a label is learnt
        return consenting(sober, prompt_choice=MostDisagreed(5), vote_weight=ConfidenceWeight())

    given = {"clients_per_round": 2, "seed": 3}
    first = fitted(tmp_path, make(), max_rounds=2, **given)
    assert first.federation.history[-1]["clients/train/consensus/max"] > 0
    other = small_data(public=toy_rows(count, 7))
    module = make()
    trainer = resumed(tmp_path, module, other, max_rounds=3, **given)
    row = trainer.federation.history[-1]
    # nobody has a label of these prompts yet, and all are asked
    assert row.get("clients/train/consensus/max", 0) == 0
    assert module.server.ballots.num_prompts == count
    assert all(None not in texts for texts in module.server.ballots.answers)
    assert "server/churn" not in row
    assert len(labels_of(trainer)) == count
    trainer = resumed(tmp_path, make(), other, max_rounds=6, **given)
    assert trainer.federation.failures == {}
    assert trainer.federation.history[-1]["clients/train/consensus/max"] > 0
    digest = (prompt_digest(other),)
    assert trainer.federation.broadcast.strings["digest"] == digest
    private = [client.private for client in trainer.federation.clients.values()]
    held = [part.strings["digest"] for state in private for part in state.parts.values()]
    assert len(held) >= 5
    assert set(held) == {digest}


def test_answers_add_up_at_the_epsilon_at_which_they_were_given(
    sober: Path, tmp_path: Path
) -> None:
    def make(epsilon: float | None) -> Any:
        return consenting(sober, answers=LabelAnswers(epsilon), vote_weight=EqualWeight())

    fitted(tmp_path, make(0.5), max_rounds=1)
    more = resumed(tmp_path, make(0.1), small_data(), max_rounds=2)
    assert consensus_rows(more, "epsilon") == pytest.approx([10.0, 12.0])
    resumed(tmp_path, make(None), small_data(), max_rounds=3)
    last = resumed(tmp_path, make(0.1), small_data(), max_rounds=4)
    assert consensus_rows(last, "epsilon") == pytest.approx([10.0, 12.0, math.inf, math.inf])


def test_public_rows_need_no_labels(sober: Path, tmp_path: Path) -> None:
    public = toy_rows(20, 3)
    without = small_data(public=public.remove_columns("label"), public_answered=False)
    some = [None if place < 5 else str(label) for place, label in enumerate(public["label"])]
    partly = small_data(public=public.remove_columns("label").add_column("label", some))
    runs = [fitted(tmp_path / "all", consenting(sober), max_rounds=2)]
    runs.append(fitted(tmp_path / "none", consenting(sober), without, max_rounds=2))
    assert labels_of(runs[0]) == labels_of(runs[1])
    for id, own in adapters(runs[0]).items():
        assert same(own, adapters(runs[1])[id])
    assert consensus_rows(runs[0], "pseudo_label_accuracy")
    assert not consensus_rows(runs[1], "pseudo_label_accuracy")
    assert without.public_unanswered == frozenset(range(20))
    with pytest.raises(ValueError, match=r"data\.public: .* no value in 5 of 20 rows"):
        partly.setup()
    partly.public_answered = False
    partly.setup()
    assert partly.public_unanswered == frozenset(range(5))
