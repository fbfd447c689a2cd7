import random

import numpy as np
import torch

from lit_fed.federation.execution.vectorized.random_streams import SERVER, RandomStreams


def draw() -> tuple[float, float, float]:
    return torch.rand(()).item(), random.random(), float(np.random.rand())


def seeded(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)


def test_each_draws_as_if_alone() -> None:
    expected = []
    for client in range(3):
        seeded(client)
        expected.append([draw() for _ in range(4)])
    seeded(99)
    server = [draw() for _ in range(2)]

    seeded(99)
    streams = RandomStreams(torch.device("cpu"))
    assert draw() == server[0]
    found: list[list[tuple[float, float, float]]] = [[], [], []]
    for turn in range(4):
        for client in (turn % 3, (turn + 1) % 3, (turn + 2) % 3):
            streams.enter(client)
            if not turn:
                seeded(client)
            found[client].append(draw())
            assert torch.initial_seed() == client
    streams.enter(SERVER)
    assert found == expected
    assert draw() == server[1]


def test_passes_need_torchs_generators_only() -> None:
    streams = RandomStreams(torch.device("cpu"))
    streams.enter(0)
    seeded(0)
    state = random.getstate()
    streams.enter_torch(1)
    assert random.getstate() == state
    torch.manual_seed(1)
    first = torch.rand(())
    streams.enter(0)
    torch.manual_seed(0)
    assert torch.rand(()) != first
    streams.enter(SERVER)


def test_a_snapshot_is_gone_back_to() -> None:
    streams = RandomStreams(torch.device("cpu"))
    for client in (0, 1):
        streams.enter(client)
        torch.manual_seed(client)
    states = streams.snapshot()

    def draws() -> list[float]:
        found = []
        for client in (0, 1):
            streams.enter_torch(client)
            found.append(torch.rand(()).item())
        return found

    first = draws()
    streams.restore(states)
    assert draws() == first
    streams.enter(SERVER)
