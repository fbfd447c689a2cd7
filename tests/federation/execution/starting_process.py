"""A process of a run that only starts: ``<size> <start_timeout> <rank that dies> <where it dies> [sharded]``.

Places are ``launched`` (the others have been started), ``found`` (all know each other, and there is no group yet),
``grouped`` (there is a group, and the others are busy for an hour) and ``nowhere``.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

import torch.distributed as dist
from lightning.fabric import Fabric

from lit_fed.federation.execution import process_group
from lit_fed.federation.execution.collectives import Collectives, ProcessLost
from lit_fed.federation.execution.process_group import (
    ClientParallelStrategy,
    ShardStrategy,
    WatchingLauncher,
)


def main() -> None:
    size, start_timeout, dying, where, *kind = sys.argv[1:]

    def perhaps_die(place: str) -> None:
        if place == where and int(os.environ.get("LOCAL_RANK", 0)) == int(dying):
            os.kill(os.getpid(), signal.SIGKILL)

    started, found = WatchingLauncher._call_children_scripts, process_group.watch_peers

    def start(launcher: Any) -> None:
        started(launcher)
        perhaps_die("launched")

    def find(*args: Any) -> None:
        found(*args)
        perhaps_die("found")
        print(f"pid {os.getpid()}", flush=True)

    WatchingLauncher._call_children_scripts = start  # type: ignore[method-assign]
    process_group.watch_peers = find
    given: dict[str, Any] = {"timeout": 3600.0, "start_timeout": float(start_timeout)}
    strategy: Any = ClientParallelStrategy(**given)
    if kind:
        strategy = ShardStrategy(lambda module, mesh: module, **given)
    try:
        Fabric(accelerator="cpu", devices=int(size), strategy=strategy).launch()
        assert strategy.store is not None
        Collectives(3600.0).gather(str(dist.get_rank()).encode())
        perhaps_die("grouped")
        if where == "grouped":
            time.sleep(3600)
    except ProcessLost as lost:
        sys.exit(f"lost: {lost}")
    print("met", flush=True)


if __name__ == "__main__":
    main()
