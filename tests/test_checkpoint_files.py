"""A checkpoint that is not what was written is never read."""

import random
import subprocess
import warnings
from pathlib import Path

import pytest
import torch

from lit_fed import Payload
from lit_fed.checkpoint_files import DamagedCheckpoint, best_record, is_whole, read_best
from lit_fed.federation import ClientState, FederationState
from lit_fed.federation.run.checkpoint import load_checkpoint, save_checkpoint


def state(number: int = 1) -> FederationState:
    payload = Payload({"w": torch.arange(8.0)}, {"answers": ["yes"]})
    clients = {"a": ClientState(3, 1, payload, payload), "b": ClientState(prepared=Payload())}
    callbacks = {"Stop": {"best": torch.tensor(float("inf")), "count": 1}}
    history = [{"round": 1, "val/loss": 0.5}]
    return FederationState(number, payload, payload, clients, history=history, callbacks=callbacks)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_no_flipped_bit_is_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / "round=0001"
    save_checkpoint(folder, state(), {"model": "FedAvg"})
    draw = random.Random(0)
    for path in files(folder):
        whole = path.read_bytes()
        for _ in range(60):
            place, bit = draw.randrange(len(whole)), draw.randrange(8)
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            with pytest.raises(DamagedCheckpoint) as error:
                load_checkpoint(folder)
            assert str(folder) in str(error.value)
            assert "\n" not in str(error.value)
        path.write_bytes(whole)
    assert load_checkpoint(folder).clients["a"].private == state().clients["a"].private


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99, None])
def test_no_file_that_is_cut_or_missing_is_passed_over(share: float | None, tmp_path: Path) -> None:
    folder = tmp_path / "round=0001"
    save_checkpoint(folder, state(), {})
    for path in files(folder):
        whole = path.read_bytes()
        if share is None:
            path.unlink()
        else:
            path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(DamagedCheckpoint, match=rf"\(.*{path.name}|not among the files of SHA"):
            load_checkpoint(folder)
        assert not is_whole(folder)
        path.write_bytes(whole)
    assert is_whole(folder)


def test_the_digests_are_those_of_sha256sum(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "round=0001", state(), {})
    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    done = subprocess.run(
        command, cwd=tmp_path / "round=0001", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(files(tmp_path / "round=0001")) - 1


def test_where_all_are_damaged_the_search_ends(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        save_checkpoint(tmp_path / f"round=000{number}", state(number), {})
        (tmp_path / f"round=000{number}" / "state.json").write_text("{")
    with pytest.raises(DamagedCheckpoint, match="there is no other one that is whole"):
        load_checkpoint(tmp_path / "round=0002")
    save_checkpoint(tmp_path / "round=0003", state(3), {})
    with pytest.raises(DamagedCheckpoint, match=r"by --ckpt_path .*round=0003"):
        load_checkpoint(tmp_path / "round=0002")


def test_a_checkpoint_without_digests_is_taken_with_a_word_if_it_is_of_a_format_without(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "round=0001"
    save_checkpoint(folder, state(), {})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_checkpoint(folder)
    (folder / "SHA256SUMS").unlink()
    with pytest.raises(DamagedCheckpoint, match="there is no SHA256SUMS"):
        load_checkpoint(folder)
    text = (folder / "state.json").read_text()
    (folder / "state.json").write_text(text.replace('"format": 3', '"format": 2'))
    with pytest.warns(UserWarning, match="before checkpoints had digests"):
        assert load_checkpoint(folder).round == 1
    assert is_whole(folder)
    (folder / "server.safetensors").write_bytes(b"half")
    assert not is_whole(folder)


def test_the_record_of_the_best_is_what_was_written_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "best.json"
    path.write_text(best_record(Path("round=0002"), "val/f1", "max", 0.5))
    assert read_best(path) == "round=0002"
    path.write_text(path.read_text().replace("round=0002", "round=0003"))
    with pytest.raises(ValueError, match="its content is not the one whose digest it has"):
        read_best(path)
    path.write_text('{"checkpoint": "round=0003"}')  # of an earlier version
    assert read_best(path) == "round=0003"
    path.write_text('{"checkpoint": "../../round=0003"}')
    with pytest.raises(ValueError, match="it names no checkpoint"):
        read_best(path)
