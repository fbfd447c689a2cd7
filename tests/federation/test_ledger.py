import json

from lit_fed.federation import Ledger


def test_rounds_and_clients_add_up() -> None:
    ledger = Ledger()
    for traffic in ([("a", 5, 1), ("b", 7, 1)], [("b", 2, 3)]):
        ledger.open_round()
        for name, up, down in traffic:
            ledger.record(name, up=up)
            ledger.record(name, down=down)
    assert ledger.rounds == [(12, 2), (2, 3)]
    assert ledger.clients == {"a": (5, 1), "b": (9, 4)}
    assert (ledger.up, ledger.down) == (14, 5)
    assert ledger.up == sum(up for up, _ in ledger.clients.values())


def test_survives_json_and_copies() -> None:
    ledger = Ledger()
    ledger.open_round()
    ledger.record("a", up=2**40)
    copy = Ledger.from_dict(json.loads(json.dumps(ledger.to_dict())))
    assert copy == ledger
    other = ledger.copy()
    other.record("a", up=1)
    assert copy == ledger


def test_what_is_downloaded_to_prepare_counts_once() -> None:
    ledger = Ledger()
    for client in ("a", "b"):
        ledger.download_before(client, 10)
    ledger.open_round()
    ledger.record("a", down=10)
    ledger.record("a", up=3)
    ledger.record("c", down=10)
    ledger.close_round()
    assert ledger.rounds == [(3, 30)]
    assert ledger.clients == {"a": (3, 10), "b": (0, 10), "c": (0, 10)}
    ledger.open_round()
    ledger.record("a", down=10)
    assert ledger.rounds[1] == (0, 10)
