"""Two gloo processes with different data have to give what one process gives with all of it."""

import datetime
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tests.metrics.every_metric import METRICS, updates

# The process that gets the update with index i.
SHARES: dict[str, Any] = {
    "alternating": lambda index: index % 2,
    "blocks": lambda index: int(index >= 2),
    "one has nothing": lambda index: 1,
    "nobody has anything": lambda index: None,
}


def _process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=Path(folder, "rendezvous").as_uri(),
        rank=rank,
        world_size=2,
        timeout=datetime.timedelta(seconds=60),
    )
    try:
        values: dict[tuple[str, ...], Any] = {}
        for share, owner in SHARES.items():
            for name, make in METRICS.items():
                metric = make()
                for index, call in enumerate(updates(name)):
                    if owner(index) == rank:
                        metric.update(**call)
                values[share, name] = metric.compute()
                # Each process goes on with its own part, and counts nothing twice.
                metric._computed = None
                values[share, name, "again"] = metric.compute()
        torch.save(values, Path(folder, f"{rank}.pt"))
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[tuple[str, ...], Any]]:
    folder = tmp_path_factory.mktemp("processes")
    mp.spawn(_process, args=(str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("name", METRICS)
def test_equals_one_process(
    computed: list[dict[tuple[str, ...], Any]], name: str, share: str
) -> None:
    metric = METRICS[name]()
    for index, call in enumerate(updates(name)):
        if SHARES[share](index) is not None:
            metric.update(**call)
    expected = metric.compute()
    for values in computed:
        torch.testing.assert_close(values[share, name], expected, equal_nan=True)
        torch.testing.assert_close(values[share, name, "again"], expected, equal_nan=True)
