from pathlib import Path
from typing import Any

import pytest
import torch

from lit_fed import Payload
from lit_fed.federation import ClientState
from lit_fed.federation.run.client_state_store import ClientStateStore, StoredPayload
from tests.federation.toy import toy_data, toy_module, toy_trainer, without_times


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


@pytest.mark.parametrize("parts", [[3], [1, 3]], ids=["at once", "resumed"])
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


def test_a_negative_budget_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`trainer.client_state_mb` is expected to be at least 0"):
        toy_trainer(Path(), client_state_mb=-1)
