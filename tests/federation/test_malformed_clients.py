"""One client can neither end nor spoil the run, whatever it gives."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from lit_fed import DDG, FedAvg, Payload
from lit_fed.aggregation import WeightedAverage
from lit_fed.attachment import Attachment
from lit_fed.federation import (
    ClientExecution,
    FederationState,
    SequentialClients,
    VectorizedClients,
)
from lit_fed.federation.client.process_state import ProcessState
from lit_fed.methods.ddg import ClassConsensus
from tests.federation.malformed_clients import SAID, WAYS, Careless, Malformed, fit
from tests.federation.toy import fast_adamw, toy_backbone, toy_data, toy_trainer
from tests.methods.toy_methods import continue_text, lm_data, save_toy_lm
from tests.slow import slow_but

EXECUTIONS: list[ClientExecution] = [SequentialClients(), VectorizedClients(clients_at_once=3)]
HONEST = [0, 2]


def assert_without_the_second(
    state: FederationState, model: Path, root: Path, **given: Any
) -> None:
    """As if the client had never been there, up to the rounding of sums over other batches."""
    honest = fit(FedAvg, model, root, HONEST, max_rounds=state.round, **given).federation
    assert "client-1" not in state.clients
    assert state.clients.keys() == honest.clients.keys()
    torch.testing.assert_close(
        dict(state.broadcast.tensors), dict(honest.broadcast.tensors), rtol=0, atol=1e-4
    )


@pytest.mark.parametrize(
    "execution", slow_but(EXECUTIONS[1], of=EXECUTIONS), ids=["sequential", "vectorized"]
)
def test_whatever_a_client_gives_leaves_it_alone_out(
    execution: ClientExecution, toy_model: Path, tmp_path: Path
) -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        trainer = fit(
            Malformed,
            toy_model,
            tmp_path / "a",
            [0, 1, 2],
            max_rounds=len(WAYS),
            execution=execution,
        )
    said = [str(one.message) for one in heard if "is left out" in str(one.message)]
    assert len(said) == len(WAYS)
    for number, (way, text) in enumerate(zip(WAYS, said, strict=True), start=1):
        assert f"round {number}: client 'client-1' is left out: " in text
        with pytest.raises(ValueError, match=SAID[way]):
            raise ValueError(text)
    state = trainer.federation
    assert state.failures == {"client-1": len(WAYS)}
    assert {row["clients/failed"] for row in state.history} == {1}
    assert_without_the_second(state, toy_model, tmp_path / "b")


def test_a_resumed_run_does_not_repeat_the_failure(toy_model: Path, tmp_path: Path) -> None:
    def until(rounds: int, ckpt: str | None = None) -> FederationState:
        with pytest.warns(UserWarning, match="'client-1' is left out"):
            trainer = fit(Malformed, toy_model, tmp_path, [0, 1, 2], ckpt, max_rounds=rounds)
        return trainer.federation

    until(1)
    assert until(2, "last").failures == {"client-1": 2}


@pytest.mark.parametrize("execution", EXECUTIONS, ids=["sequential", "vectorized"])
def test_what_a_client_changes_of_the_process_reaches_nobody(
    execution: ClientExecution, toy_model: Path, tmp_path: Path
) -> None:
    before = ProcessState.taken("cpu")
    given: dict[str, Any] = {"execution": execution}
    with pytest.warns(UserWarning, match="'client-1' is left out: careless"):
        state = fit(
            Careless, toy_model, tmp_path / "a", [0, 1, 2], max_rounds=2, **given
        ).federation
    assert_without_the_second(state, toy_model, tmp_path / "b", **given)
    assert "CARELESS" not in os.environ
    assert ProcessState.taken("cpu") == before


def test_the_server_counts_the_rows_that_it_knows(toy_model: Path, tmp_path: Path) -> None:
    """Every client of ``Malformed`` claims to be someone else, with 10⁹ rows."""
    with pytest.warns(UserWarning, match="'client-1' is left out"):
        trainer = fit(Malformed, toy_model, tmp_path, [0, 1, 2], max_rounds=1)
    assert trainer.federation.clients.keys() == {"client-0", "client-2"}
    rows = (tmp_path / "clients.csv").read_text().splitlines()
    assert [line.split(",")[1:3] for line in rows[1:]] == [["client-0", "40"], ["client-2", "40"]]


class OneScore(FedAvg):
    """The second client reports a score of which there is no weight."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        if self.client is not None and self.client.index == 1:
            self.log("val/score", -1.0 if self.client.round else float("inf"))
        else:
            self.log("val/score", 0.5)


def test_a_score_without_a_weight_leaves_its_client_out(toy_model: Path, tmp_path: Path) -> None:
    module = OneScore(
        toy_backbone(toy_model), WeightedAverage("validation", "val/score"), fast_adamw, 0
    )
    trainer = toy_trainer(
        tmp_path, max_rounds=2, clients_per_round=1.0, validate_clients=True, limit_train_batches=1
    )
    with pytest.warns(UserWarning, match="'client-1' is left out: validation score 'val/score'"):
        trainer.fit(module, toy_data())
    assert trainer.federation.failures == {"client-1": 2}


class OddAttachment(Attachment):
    """Sends something else in every round: what is smaller passes, what is no payload does not."""

    def upload(self, client: Any, upload: Payload, broadcast: Payload, memory: Payload) -> Any:
        match client.round:
            case 0:
                return Payload({n: t.half() for n, t in upload.tensors.items()}), memory
            case 1:
                return upload
            case 2:
                return upload, None
            case _:
                return Payload({n: t[:1] for n, t in upload.tensors.items()}), memory


def test_what_an_attachment_sends_is_checked_as_well(toy_model: Path, tmp_path: Path) -> None:
    trainer = toy_trainer(
        tmp_path,
        max_rounds=4,
        clients_per_round=3,
        limit_train_batches=1,
        attachments=[OddAttachment(clients=["client-0"])],
    )
    module = FedAvg(toy_backbone(toy_model), optimizer=fast_adamw, warmup_steps=0)
    with pytest.warns(UserWarning, match="'client-0' is left out"):
        trainer.fit(module, toy_data(num_clients=3))
    assert trainer.federation.failures == {"client-0": 3}
    assert {t.dtype for t in trainer.federation.broadcast.tensors.values()} == {torch.float32}


SENT: dict[str, Any] = {
    "probs": lambda probs: {"probs": probs * 3},
    "negative": lambda probs: {"probs": -probs},
    "rows": lambda probs: {"probs": probs[:-1]},
    "dtype": lambda probs: {"probs": probs.float()},
    "more": lambda probs: {"probs": probs, "more": probs},
    "nothing": lambda probs: {},
}


@pytest.mark.parametrize("consensus", [None, ClassConsensus()], ids=["public", "classes"])
def test_predictions_that_cannot_be_mixed_leave_their_client_out(
    consensus: Any, toy_model: Path, tmp_path: Path
) -> None:
    ways = list(SENT)

    class Liar(DDG):
        def upload(self) -> Payload:
            upload = super().upload()
            if self.client.index != 1:
                return upload
            probs = upload.parts["consensus"].tensors["probs"]
            sent = Payload(SENT[ways[self.client.round]](probs))
            return upload.main.with_parts({"consensus": sent})

    module = Liar(
        toy_backbone(toy_model), optimizer=fast_adamw, warmup_steps=0, consensus=consensus
    )
    trainer = toy_trainer(
        tmp_path, max_rounds=len(ways), clients_per_round=3, limit_train_batches=1
    )
    with pytest.warns(UserWarning, match="'client-1' is left out: .*consensus"):
        trainer.fit(module, toy_data(num_clients=3))
    assert trainer.federation.failures == {"client-1": len(ways)}


TOKENS: dict[str, Any] = {
    "unknown tokens": lambda t: {**t, "indices": t["indices"] + 10_000},
    "negative tokens": lambda t: {**t, "indices": t["indices"] - 10_000},
    "fewer kept": lambda t: {**t, "indices": t["indices"][:, :1], "probs": t["probs"][:, :1]},
    "other places": lambda t: {**t, "indices": t["indices"][1:], "probs": t["probs"][1:]},
    "other rows": lambda t: {**t, "lengths": t["lengths"].roll(1) + 1},
    "one less": lambda t: {n: one for n, one in t.items() if n != "lengths"},
}


def test_a_language_models_predictions_are_about_the_places_that_the_server_knows(
    tmp_path: Path,
) -> None:
    ways = list(TOKENS)

    class Liar(DDG):
        def upload(self) -> Payload:
            upload = super().upload()
            # the first of the clients, which nobody else is to be measured by
            if self.client.index:
                return upload
            sent = Payload(TOKENS[ways[self.client.round]](upload.parts["consensus"].tensors))
            return upload.main.with_parts({"consensus": sent})

    module = continue_text(Liar, save_toy_lm(tmp_path / "lm"))
    trainer = toy_trainer(
        tmp_path / "run", max_rounds=len(ways), clients_per_round=2, limit_train_batches=1
    )
    with pytest.warns(UserWarning, match="'client-0' is left out"):
        trainer.fit(module, lm_data())
    assert trainer.federation.failures == {"client-0": len(ways)}
