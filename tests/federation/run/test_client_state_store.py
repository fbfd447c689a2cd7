from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from safetensors import SafetensorError

from lit_fed import DDG, FedAvg, FederatedModule, Payload
from lit_fed.federation import ClientState
from lit_fed.federation.run.client_state_store import ClientStateStore, StoredPayload
from tests.federation.toy import (
    fast_adamw,
    toy_backbone,
    toy_data,
    toy_module,
    toy_trainer,
    without_times,
)
from tests.slow import slow_but


def test_a_spilled_payload_is_the_same_and_goes_with_its_file(tmp_path: Path) -> None:
    payload = Payload({"w": torch.randn(3, 4)}, {"s": ["é"]})
    spilled = StoredPayload(payload, tmp_path / "made")
    (file,) = (tmp_path / "made").iterdir()
    assert spilled == payload
    assert payload == spilled
    assert spilled.nbytes == payload.nbytes == 50
    assert torch.equal(spilled.matching({"w": torch.zeros(3, 4)})["w"], payload.tensors["w"])
    assert Payload.from_bytes(spilled.to_bytes()) == payload
    assert bool(spilled)
    assert "50 bytes" in repr(spilled)
    spilled.save(tmp_path / "copy")
    assert Payload.load(tmp_path / "copy") == payload
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    with pytest.raises(OSError, match=r"a client's state, is expected .* but is damaged"):
        assert spilled.strings
    del spilled
    assert not file.exists()


def test_a_stored_payload_has_its_parts(tmp_path: Path) -> None:
    payload = Payload(
        {"w": torch.ones(2)}, parts={"kept": Payload({"b": torch.ones(3)}, {"s": ["x"]})}
    )
    stored = StoredPayload(payload, tmp_path)
    assert stored == payload
    assert payload == stored
    assert stored.parts == payload.parts
    assert stored.nbytes == payload.nbytes
    assert stored.main == payload.main


def test_what_exceeds_the_budget_goes_to_files(tmp_path: Path) -> None:
    def state() -> ClientState:
        return ClientState(1, 1, Payload({"p": torch.ones(10)}), Payload({"o": torch.ones(20)}))

    memory = ClientStateStore(200, tmp_path)
    kept = [memory.kept(state()) for _ in range(3)]
    spilled = [[isinstance(p, StoredPayload) for p in (one.private, one.optimizer)] for one in kept]
    # 40 and 80 bytes each: 120, 160, then only the smaller one fits once more
    assert spilled == [[False, False], [False, True], [False, True]]
    again = ClientStateStore(200, tmp_path, kept)
    assert isinstance(again.kept(state()).private, StoredPayload)
    assert len(list(tmp_path.iterdir())) == 2
    assert ClientStateStore(None, tmp_path).kept(kept[0]) is kept[0]


@pytest.mark.parametrize("parts", slow_but([1, 3], of=[[3], [1, 3]]), ids=["at once", "resumed"])
def test_a_run_on_disk_equals_one_in_memory(
    parts: list[int], toy_model: Path, tmp_path: Path
) -> None:
    def run(folder: str, rounds: int, budget: float | None) -> Any:
        trainer = toy_trainer(
            tmp_path / folder,
            max_rounds=rounds,
            keep_optimizer_state=True,
            client_state_mb=budget,
        )
        there = (tmp_path / folder / "checkpoints").exists()
        trainer.fit(toy_module(toy_model), toy_data(), ckpt_path="last" if there else None)
        return trainer

    whole = run("memory", 3, None)
    for rounds in parts:
        spilling = run("disk", rounds, 0.0)
    assert spilling.federation.broadcast == whole.federation.broadcast
    assert without_times(spilling.federation.history) == without_times(whole.federation.history)
    for name, state in whole.federation.clients.items():
        other = spilling.federation.clients[name]
        assert isinstance(other.optimizer, StoredPayload)
        assert other.optimizer == state.optimizer
    # one file for each client's moments, however many rounds there were
    files = list((tmp_path / "disk" / ".client_states").iterdir())
    assert len(files) == len(whole.federation.clients)


def test_what_a_killed_run_has_left_is_removed(toy_model: Path, tmp_path: Path) -> None:
    def run(rounds: int, ckpt_path: str | None = None) -> Any:
        settings = {"keep_optimizer_state": True, "client_state_mb": 0.0}
        trainer = toy_trainer(tmp_path / "run", max_rounds=rounds, **settings)
        trainer.fit(toy_module(toy_model), toy_data(), ckpt_path)
        return trainer

    run(1)
    left = tmp_path / "run" / ".client_states" / "left.safetensors"
    left.parent.mkdir(exist_ok=True)
    left.write_bytes(b"of nobody")
    trainer = run(2, "last")
    assert not left.exists()
    assert all(state.optimizer.tensors for state in trainer.federation.clients.values())


@pytest.mark.parametrize("budget", [-1, float("nan")])
def test_a_budget_that_is_none_is_refused(budget: float) -> None:
    with pytest.raises(
        ValueError, match=r"`trainer.client_state_mb` is expected to be finite and at least 0"
    ):
        toy_trainer(Path(), client_state_mb=budget)


MAPS = Path("/proc/self/maps")


class Where(Callback):
    """Notes what files there are while uploads are kept, with and without a name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: set[str] = set()
        self.nameless: list[int] = []

    def on_aggregate_end(self, trainer: Any, module: Any, updates: Any) -> None:
        self.names |= {path.name for path in self.folder.glob("**/.client_states/*")}
        maps = MAPS.read_text() if MAPS.exists() else ""
        found = [line.split() for line in maps.splitlines() if line.endswith("(deleted)")]
        self.nameless.append(len({line[-2] for line in found if str(self.folder) in line[-2]}))


@pytest.mark.parametrize("method", slow_but(DDG, of=[FedAvg, DDG]))
def test_uploads_beyond_the_budget_are_in_files_without_names(
    method: type[FederatedModule], toy_model: Path, tmp_path: Path
) -> None:
    def run(folder: str, budget: float | None) -> tuple[Any, Where]:
        seen = Where(tmp_path / folder)
        trainer = toy_trainer(
            tmp_path / folder,
            max_rounds=2,
            local_steps=2,
            clients_per_round=4,
            client_state_mb=budget,
            callbacks=[seen],
        )
        trainer.fit(
            method(toy_backbone(toy_model), optimizer=fast_adamw, warmup_steps=0), toy_data()
        )
        return trainer.federation, seen

    whole, _ = run("memory", None)
    spilling, seen = run("disk", 0.0)
    assert spilling.broadcast == whole.broadcast
    assert spilling.ledger == whole.ledger
    assert without_times(spilling.history) == without_times(whole.history)
    assert len(seen.names) <= len(whole.clients)  # of what is kept of clients
    if MAPS.exists():
        assert seen.nameless == [4, 4]


def failing_once(error: Exception) -> Any:
    """An ``in_file`` that fails for the first upload alone."""
    written, in_file = [], Payload.in_file

    def write(payload: Payload, path: Path) -> Payload:
        written.append(path)
        if len(written) == 1:
            raise error
        return in_file(payload, path)

    return write


def test_an_upload_that_no_file_can_hold_costs_its_client_alone(
    toy_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(folder: str) -> Any:
        trainer = toy_trainer(tmp_path / folder, clients_per_round=3, client_state_mb=0.0)
        trainer.fit(toy_module(toy_model), toy_data())
        return trainer.federation

    monkeypatch.setattr(Payload, "in_file", failing_once(SafetensorError("header too large")))
    with pytest.warns(UserWarning, match="is left out: header too large"):
        state = run("left out")
    assert state.history[0]["clients/failed"] == 1
    assert sum(state.failures.values()) == 1
    # a full disk is no client's failure
    monkeypatch.undo()
    monkeypatch.setattr(Payload, "in_file", failing_once(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left on device"):
        run("full")


def test_a_budget_of_uploads_is_of_a_round(tmp_path: Path) -> None:
    store = ClientStateStore(20, tmp_path)
    for _ in range(2):
        uploads = store.uploads()
        sent = [Payload({"w": torch.full((2,), float(k))}) for k in range(4)]
        kept = [uploads.kept(one) for one in sent]
        assert [ours is theirs for ours, theirs in zip(kept, sent, strict=True)] == [
            True,
            True,
            False,
            False,
        ]
        assert kept == sent
    assert not list(tmp_path.iterdir())


def test_what_is_in_a_file_is_the_same_payload(tmp_path: Path) -> None:
    part = Payload({"w": torch.ones(3).half(), "n": torch.tensor([True])}, {"said": ["是"]})
    tensors = {"w": torch.arange(6.0).view(2, 3), "empty": torch.zeros(0, 2), "n": torch.tensor(3)}
    payload = Payload(tensors, {"texts": ["a", "b"]}, {"more": part})
    there = payload.in_file(tmp_path / "upload")
    assert there == payload
    assert (there.nbytes, there.to_bytes()) == (payload.nbytes, payload.to_bytes())
    assert not list(tmp_path.iterdir())
    assert Payload().in_file(tmp_path / "nothing") == Payload()
