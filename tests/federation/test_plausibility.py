"""What is finite and absurd changes no global model, and a model that is not finite is never kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from lit_fed import FedAvg, Payload
from lit_fed.aggregation import FedAvgM, WeightedAverage
from lit_fed.client import Client
from lit_fed.configuration_error import ConfigurationError
from lit_fed.federation import FederationState, VectorizedClients, last_checkpoint
from lit_fed.federation.client.client_state import ClientState
from lit_fed.federation.client.resident_module import ResidentModule
from lit_fed.federation.plausibility import ImplausibleUpdate, implausible, usual_norm
from lit_fed.federation.run.checkpoint import load_checkpoint
from lit_fed.update import norm_of_change
from tests.federation.malformed_clients import fit
from tests.federation.toy import fast_adamw, toy_backbone, toy_data, toy_trainer
from tests.slow import slow_but

EVERYONE = [0, 1, 2, 3]


class Absurd(FedAvg):
    """The second client sends, in the second round, what is far too large; never anything infinite."""

    factor = 1000.0
    constant: float | None = None

    def upload(self) -> Payload:
        upload = super().upload()
        if self.client.index != 1 or self.client.round != 1:
            return upload
        sent = {n: t * self.factor for n, t in upload.tensors.items()}
        if self.constant is not None:
            sent = {n: torch.full_like(t, self.constant) for n, t in sent.items()}
        return Payload(sent)


class Heard(Callback):
    def __init__(self) -> None:
        self.failed: list[tuple[int, str, str]] = []
        self.combined: list[list[str]] = []

    def on_client_failed(self, trainer: Any, module: Any, client: Client, error: Any) -> None:
        self.failed.append((trainer.current_round, client.id, type(error).__name__))

    def on_aggregate_end(self, trainer: Any, module: Any, updates: Any) -> None:
        self.combined.append([update.client_id for update in updates])


class Leaves(FedAvg):
    """The second client fails in the second round."""

    def upload(self) -> Payload:
        if self.client.index == 1 and self.client.round == 1:
            raise ValueError("away")
        return super().upload()


@pytest.mark.parametrize(
    "way",
    slow_but({"factor": 1000.0}, of=[{"factor": 1000.0}, {"factor": -1e30}, {"constant": 3e38}]),
    ids=["1000", "1e30", "3e38"],
)
def test_an_absurd_update_is_left_out_with_its_figures(
    way: dict[str, float], toy_model: Path, tmp_path: Path
) -> None:
    heard = Heard()
    with pytest.warns(
        UserWarning,
        match=r"round 2: client 'client-1' is left out: its update has norm .* times the usual .*, above "
        r"`trainer.max_update_norm_ratio`",
    ):
        trainer = fit(
            type("Absurd", (Absurd,), way), toy_model, tmp_path / "a", EVERYONE, callbacks=[heard]
        )
    with pytest.warns(UserWarning, match="left out: away"):
        without = fit(Leaves, toy_model, tmp_path / "b", EVERYONE).federation
    state = trainer.federation
    assert heard.failed == [(1, "client-1", ImplausibleUpdate.__name__)]
    assert heard.combined[1] == ["client-0", "client-2", "client-3"]
    assert state.failures == {"client-1": 1}
    assert [row["clients/failed"] for row in state.history] == [0, 1, 0]
    # what lasts of the client is what it was before its round
    assert state.broadcast == without.broadcast
    assert state.clients == without.clients
    assert state.clients["client-1"].rounds == 2
    for row in state.history:
        assert 0 < row["clients/update_norm/median"] <= row["clients/update_norm/max"] < 100


class Few(FedAvg):
    """A rule that needs all four clients, of whom one is absurd in the second round."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.aggregation = AllFour()


class AllFour(WeightedAverage):
    fewest_updates = 4


def test_absurd_updates_do_not_end_a_run_whose_rule_needs_many(
    toy_model: Path, tmp_path: Path
) -> None:
    kind = type("AbsurdFew", (Absurd, Few), {})
    heard = Heard()
    with pytest.warns(
        UserWarning,
        match="round 2: 3 clients are left, of 4 at least that are combined; the global",
    ):
        state = fit(kind, toy_model, tmp_path, EVERYONE, callbacks=[heard]).federation
    assert state.round == 3
    assert [len(ids) for ids in heard.combined] == [4, 4]
    assert state.failures == {"client-1": 1}


def test_a_first_round_may_be_the_clients_last_as_well(toy_model: Path, tmp_path: Path) -> None:
    class AtOnce(FedAvg):
        def upload(self) -> Payload:
            upload = super().upload()
            times = 1e6 if self.client.index == 1 else 1
            return Payload({n: t * times for n, t in upload.tensors.items()})

    with pytest.warns(UserWarning, match="'client-1' is left out: its update has norm"):
        state = fit(AtOnce, toy_model, tmp_path, [0, 1], max_rounds=2).federation
    assert state.failures == {"client-1": 2}
    assert state.clients.keys() == {"client-0"}


def assert_given_up(trainer: Any, root: Path, after: int) -> FederationState:
    """Nothing of the round is left, in memory or on disk."""
    assert trainer.federation.round == after
    path = last_checkpoint(root)
    assert path is not None
    state = load_checkpoint(path)
    assert state.round == after
    assert not (root / "adapter").exists()
    assert not (root / "summary.json").exists()
    return state


def run_that_is_given_up(module: FedAvg, root: Path, why: str, **settings: Any) -> FederationState:
    trainer = toy_trainer(
        root, clients_per_round=1.0, limit_train_batches=1, max_update_norm_ratio=None, **settings
    )
    said = f"round 2 is given up, and the global model stays as it was before: {why}"
    with pytest.raises(RuntimeError, match=said):
        trainer.fit(module, toy_data())
    return assert_given_up(trainer, root, after=1)


def test_a_model_whose_validation_loss_is_not_finite_is_not_kept(
    toy_model: Path, tmp_path: Path
) -> None:
    kind = type("Absurd", (Absurd,), {"constant": 3e38})
    module = kind(toy_backbone(toy_model), optimizer=fast_adamw, warmup_steps=0)
    run_that_is_given_up(module, tmp_path, "the validation loss of the new one is (nan|inf)")


class Overflowing(WeightedAverage):
    """Beyond single precision in the second round."""

    def __call__(self, updates: Any, previous: Payload) -> Payload:
        average = super().__call__(updates, previous)
        if updates[0].rounds < 2:
            return average
        return Payload({n: (t.double() + 1e39).to(t.dtype) for n, t in average.tensors.items()})


def test_an_aggregation_that_overflows_is_given_up(toy_model: Path, tmp_path: Path) -> None:
    module = FedAvg(toy_backbone(toy_model), Overflowing(), fast_adamw, 0)
    run_that_is_given_up(module, tmp_path, "payload tensor .* is expected to be finite")


def test_a_server_step_that_overflows_is_given_up(toy_model: Path, tmp_path: Path) -> None:
    kind = type("Absurd", (Absurd,), {"constant": 3e38})
    module = kind(toy_backbone(toy_model), FedAvgM(lr=10.0), fast_adamw, 0)
    why = "payload tensor .* is expected to be finite"
    run_that_is_given_up(module, tmp_path, why, check_val_every_n_rounds=100)


def test_a_model_that_is_not_finite_in_its_own_precision_is_named(toy_model: Path) -> None:
    """Without a validation as well: what fits the payload's dtype may not fit the model's."""
    module = FedAvg(toy_backbone(toy_model))
    for parameter in module.backbone.trainable().values():
        parameter.data = parameter.data.half()
    resident = ResidentModule(module)
    broadcast = {n: t.float() for n, t in module.backbone.trainable().items()}
    resident.act_as_server(Payload(broadcast), None)
    assert resident.not_finite() is None
    name = next(iter(broadcast))
    resident.act_as_server(Payload({**broadcast, name: broadcast[name] + 1e5}), None)
    found = resident.not_finite()
    assert found is not None
    assert found.startswith("backbone.")
    resident.act_as_client(Client("a", 0, 3, 0, 0, 0), ClientState(), Payload(broadcast))
    assert resident.not_finite() is None


def test_the_usual_norm_is_the_lower_median_of_those_that_changed() -> None:
    assert usual_norm([3.0, 1.0, 2.0]) == 2.0
    assert usual_norm([1.0, 1000.0]) == 1.0
    assert usual_norm([0.0, 0.0, 5.0]) == 5.0
    assert usual_norm([0.0, 0.0]) is None
    assert usual_norm([]) is None
    # three say enough by themselves
    assert usual_norm([9.0, 9.0, 9.0], earlier=[1.0] * 9) == 9.0
    assert usual_norm([9.0], earlier=[1.0, 2.0]) == 2.0


def test_of_few_updates_earlier_rounds_tell() -> None:
    assert implausible({"a": 9e9}, 100.0) == {}
    assert implausible({"a": 9e9}, 100.0, earlier=[1.0]).keys() == {"a"}
    assert implausible({"a": 99.0}, 100.0, earlier=[1.0]) == {}
    assert implausible({"a": 1.0, "b": float("inf"), "c": 2.0}, 100.0).keys() == {"b"}
    assert implausible({"a": 1.0, "b": float("inf"), "c": 2.0}, None) == {}


def test_the_norm_is_of_what_has_changed() -> None:
    old = Payload(
        {"w": torch.tensor([1.0, 2.0]), "b": torch.tensor([0.5]).half(), "n": torch.tensor(3)}
    )
    new = Payload(
        {"w": torch.tensor([1.0, 5.0]), "b": torch.tensor([4.5]).half(), "n": torch.tensor(9)}
    )
    assert norm_of_change(new, old) == pytest.approx(5.0)
    assert norm_of_change(new.select(["n"]), old) is None
    assert norm_of_change(Payload(strings={"said": ["a"]}), old) is None
    huge = Payload({"w": torch.tensor([1e300, 1e300], dtype=torch.float64)})
    assert norm_of_change(huge, old) == float("inf")


def test_the_setting_is_checked(tmp_path: Path) -> None:
    for value in (1, 0, -3.0, float("nan")):
        with pytest.raises(ValueError, match=r"`trainer.max_update_norm_ratio` .* above 1 or null"):
            toy_trainer(tmp_path, max_update_norm_ratio=value)


# ---------------------------------------------------------------- errors of the run


class AllAlike(FedAvg):
    """Nobody can train, for one reason."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        raise KeyError(f"client {self.client.id!r} has no column 'text'")


@pytest.mark.parametrize("min_clients", [0, 1])
def test_what_all_clients_fail_with_at_first_ends_the_run(
    min_clients: int, toy_model: Path, tmp_path: Path
) -> None:
    with (
        pytest.warns(UserWarning, match="is left out"),
        pytest.raises(
            ConfigurationError, match=r"all 3 clients of round 1 failed alike, .*no column"
        ),
    ):
        fit(AllAlike, toy_model, tmp_path, [0, 1, 2], min_clients=min_clients)


class OneFindsIt(FedAvg):
    """A check in the second client's first batch knows that the cause is the run's."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if self.client.index == 1:
            raise ConfigurationError("id 99 is beyond `model.backbone`")
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize("execution", [None, "vectorized"])
def test_an_error_of_the_run_that_one_client_finds_ends_the_run(
    execution: str | None, toy_model: Path, tmp_path: Path
) -> None:
    given = {"execution": VectorizedClients(3)} if execution else {}
    with pytest.raises(ConfigurationError, match=r"id 99 is beyond `model.backbone`"):
        fit(OneFindsIt, toy_model, tmp_path, [0, 1, 2], **given)
