from typing import Any

import pytest
import torch

from lit_fed import Payload
from lit_fed.client import Client
from lit_fed.configuration_error import ConfigurationError
from lit_fed.federation import ClientState
from lit_fed.federation.client.results import (
    ClientRound,
    Failed,
    Finished,
    pack_results,
    unpack_results,
)
from lit_fed.packing import pack
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


def test_an_error_without_readable_words_is_named_by_its_class() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise KeyError("no words")

    client = Client("a", 0, 3, 0, 0, 0)
    for error, kind in ((Mute(), "Mute"), (ValueError("\ud800"), "ValueError")):
        failed = Failed(client, error)
        assert str(failed.error) == f"a {kind}, whose words cannot be read"
        back = unpack_results(pack_results({0: failed}), [client])[0]
        assert isinstance(back, Failed)
        assert str(back.error) == str(failed.error)


def test_an_error_of_the_run_is_one_in_every_process() -> None:
    client = Client("a", 0, 3, 0, 0, 0)
    packed = pack_results({0: Failed(client, ConfigurationError("no such column"))})
    back = unpack_results(packed, [client])[0]
    assert isinstance(back, Failed)
    assert isinstance(back.error, ConfigurationError)
    assert str(back.error) == "no such column"


CLIENT = {
    "id": "a",
    "index": 0,
    "num_samples": 3,
    "round": 0,
    "rounds": 0,
    "steps": 0,
    "stage_steps": {},
    "task": None,
    "group": None,
}
BEFORE = {"steps": 0, "rounds": 0, "stage_steps": {}, "prepared": False}


@pytest.mark.parametrize(
    ("client", "before", "said"),
    [
        ({"index": "0"}, {}, "a client is expected to have `index` of type int, but got '0'"),
        ({"steps": True}, {}, "a client is expected to have `steps` of type int, but got True"),
        ({"more": 1}, {}, "a client is expected to have id, index, num_samples"),
        ({"stage_steps": {"train": None}}, {}, "`stage_steps` is expected to have `train` of type"),
        ({}, {"prepared": True}, "expected to come in 5 blocks, but got 3"),
        ({}, {"rounds": None}, "a client's state is expected to have `rounds` of type int"),
    ],
)
def test_a_header_of_something_else_is_refused(
    client: dict[str, Any], before: dict[str, Any], said: str
) -> None:
    header = {"client": CLIENT | client, "before": BEFORE | before}
    with pytest.raises(ValueError, match=said):
        ClientRound.from_bytes(pack(header, [Payload().to_bytes()] * 4))


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({}, "expected to begin with a list"),
        ([{"position": 3}], "of different ones of 2 clients, but got"),
        ([{"position": -1}], "of different ones of 2 clients, but got"),
        ([{"position": 0}, {"position": 0}], "of different ones of 2 clients, but got"),
        ([{"position": 0}], "1 results are expected to have finished, but there are 0"),
        ([{"position": 0, "error": 3, "kind": "", "of_run": False}], "`error` of type str"),
    ],
)
def test_results_of_other_clients_are_refused(entries: Any, said: str) -> None:
    clients = [Client(name, index, 3, 0, 0, 0) for index, name in enumerate("ab")]
    with pytest.raises(ValueError, match=said):
        unpack_results(pack(entries), clients)
