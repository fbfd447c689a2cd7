import threading

import pytest
import torch

from lit_fed.federation.execution.vectorized.client_thread import Abandoned, ClientThread

CPU = torch.device("cpu")


def test_answers_come_in_turn() -> None:
    order: list[str] = []

    def work(me: ClientThread) -> int:
        order.append("begins")
        with torch.no_grad():
            number = me.ask("first")
            assert not torch.is_grad_enabled()
        order.append("goes on")
        return int(number) + 1

    client = ClientThread(work, CPU)
    assert not order
    client.resume(None)
    order.append("asked")
    assert torch.is_grad_enabled()
    client.resume(41)
    assert order == ["begins", "asked", "goes on"]
    assert (client.request, client.result, client.alive) == (None, 42, False)


def test_an_error_for_an_answer_is_raised_where_it_was_asked() -> None:
    def work(me: ClientThread) -> str:
        try:
            me.ask("first")
        except ValueError as error:
            return f"caught {error}"
        return "nothing"

    client = ClientThread(work, CPU)
    client.resume(None)
    client.resume(ValueError("this"))
    assert client.result == "caught this"


def test_what_is_raised_is_kept() -> None:
    client = ClientThread(lambda me: 1 / 0, CPU)  # type: ignore[arg-type,return-value]
    client.resume(None)
    assert isinstance(client.error, ZeroDivisionError)
    assert not client.alive


@pytest.mark.parametrize("started", [True, False])
def test_an_abandoned_client_cleans_up(started: bool) -> None:
    done: list[str] = []

    def work(me: ClientThread) -> None:
        try:
            me.ask("first")
        except Exception:
            done.append("caught")
        finally:
            done.append("cleaned")

    before = threading.active_count()
    client = ClientThread(work, CPU)
    if started:
        client.resume(None)
    client.abandon()
    assert done == (["cleaned"] if started else [])
    assert isinstance(client.error, Abandoned)
    assert threading.active_count() == before


def test_the_callers_number_of_threads_stays() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        inside: list[int] = []
        client = ClientThread(lambda me: inside.append(torch.get_num_threads()), CPU)
        client.resume(None)
        assert inside == [1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
