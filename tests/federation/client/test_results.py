import torch

from lit_fed import Payload
from lit_fed.client import Client
from lit_fed.federation import ClientState
from lit_fed.federation.client.results import (
    ClientRound,
    Failed,
    Finished,
    pack_results,
    unpack_results,
)
from lit_fed.update import Update


def test_results_survive_the_way_through_bytes() -> None:
    clients = [Client(n, i, 3, 0, 0, 0) for i, n in enumerate("abc")]
    payload = Payload({"w": torch.tensor([1.0, -0.0])}, {"said": ["是", ""]})
    update = Update("c", payload, 3, 2, {"train/loss": 0.1 + 0.2})
    state = everything_that_lasts()
    results = {2: Finished(update, state), 0: Failed(clients[0], KeyError("w"))}
    back = unpack_results(pack_results(results), clients)
    assert back[2] == results[2]
    failed = back[0]
    assert isinstance(failed, Failed)
    assert (failed.client, str(failed.error)) == (clients[0], "'w'")
    assert failed.error.__notes__ == ["a KeyError in the process that trained client 'a'"]


def everything_that_lasts() -> ClientState:
    own = Payload({"own": torch.ones(2, 0)})
    kept = Payload(parts={"0": Payload({"left": torch.ones(1)})})
    return ClientState(7, 2, own, Payload(), {"train": 7}, Payload(), kept)


def test_a_round_survives_the_way_through_bytes() -> None:
    client = Client("c", 2, 30, 4, 3, 20, {"private": 8, "shared": 12}, "task")
    start = ClientRound(client, Payload({"w": torch.ones(2)}), everything_that_lasts())
    back = ClientRound.from_bytes(start.to_bytes())
    assert back == start
    assert back.before.prepared is not None
    unprepared = ClientRound(client, Payload(), ClientState())
    assert ClientRound.from_bytes(unprepared.to_bytes()).before.prepared is None
