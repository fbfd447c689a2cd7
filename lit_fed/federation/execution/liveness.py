"""Who of a run's processes is alive: how they find each other, and how all learn that one has died."""

from __future__ import annotations

import atexit
import os
import secrets
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Final

import torch.distributed as dist

from lit_fed.federation.execution.collectives import ProcessLost

GRACE: Final = 15.0
"""Seconds that a process has to end by itself when it has heard of a loss, and again after an interrupt."""

DEFERENCE: Final = 2.0
"""Seconds for which a closed connection is kept quiet, since a launcher can say what a process died of."""

LAUNCHER: Final = "LIT_FED_LAUNCHER"
"""The environment's name for the process that has started this one."""

_PREFIX: Final = "lit-fed"
_TOKEN: Final = 32  # characters, by which a connection shows that it is of this run
_RANK: Final = 8  # characters
_BYE, _LOST = b"b", b"l"


class Loss:
    """What this process knows of another that has died; it ends this one if nothing else does.

    The process has time to notice by itself, is then interrupted as by Ctrl-C, which leaves a checkpoint of the
    last finished round, and killed only if it waits where Python cannot interrupt it.

    Attributes:
        said: Who has died; None as long as nobody has.
    """

    def __init__(self) -> None:
        self.said: str | None = None
        self._lock = threading.Lock()

    def tell(self, named: str, last: Callable[[], None] = lambda: None) -> None:
        """Say once that a process has died, and see to it that this one ends.

        Args:
            named: Who, and of what if that is known.
            last: Is called before this process is killed.
        """
        with self._lock:
            if self.said is not None:
                return
            self.said = f"{named}; go on from the last finished round with ckpt_path='last'"
        print(f"lit-fed: {self.said}", file=sys.stderr, flush=True)
        if dist.is_initialized():
            time.sleep(GRACE)
            # a real signal, which also ends a system call that the main thread waits in
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            time.sleep(GRACE)
        # without a process group this process waits for one that will never be complete
        last()
        os.kill(os.getpid(), signal.SIGKILL)


class ParentWatch(threading.Thread):
    """Notices in a process that the first one has started that the first one is gone.

    It is started by :class:`~lit_fed.federation.execution.process_group.WatchingLauncher`.

    Args:
        loss: Is told.
    """

    def __init__(self, loss: Loss) -> None:
        super().__init__(daemon=True, name="parent-watch")
        self._loss = loss
        self._launcher = int(os.environ.get(LAUNCHER, 0))

    def run(self) -> None:
        """Watch until the launcher is gone; a process that nobody here has started has nothing to watch."""
        while self._launcher:
            if os.getppid() != self._launcher:
                self._loss.tell("process 0, which has started this one, has died")
                return
            time.sleep(0.5)


def find_all(rank: int, size: int, start_timeout: float, setting: str) -> dist.Store:
    """Wait until all processes have started; the environment says where the first one listens.

    Args:
        rank: Of this process.
        size: How many there are.
        start_timeout: Seconds to wait.
        setting: The setting that this is, for an error.

    Returns:
        The store that the processes share.

    Raises:
        ProcessLost: If one has not come in time.
    """
    timeout = timedelta(seconds=start_timeout)
    store: dist.Store
    waited = f"within {start_timeout:g} s (`{setting}`)"
    try:
        store, _, _ = next(dist.rendezvous("env://", rank, size, timeout=timeout))
    except dist.DistError as error:
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        found = "all of the others" if rank == 0 else "the first one"
        raise ProcessLost(
            f"process {rank} of {size} has not found {found} at {where} {waited}: one has died, or was not started"
        ) from error
    keys = [f"{_PREFIX}/started/{one}" for one in range(size)]
    try:
        store.set(keys[rank], "")
        store.wait(keys, timeout)
    except dist.DistError as error:
        raise ProcessLost(
            f"process {rank} of {size} has not heard {_missing(store, keys)} start {waited}"
        ) from error
    return store


def _missing(store: dist.Store, keys: list[str]) -> str:
    with suppress(dist.DistError):
        ranks = [str(rank) for rank, key in enumerate(keys) if not store.check([key])]
        return f"process {' and '.join(ranks)}"
    return "process 0 any more"


def watch_peers(store: dist.Store, rank: int, size: int, start_timeout: float, loss: Loss) -> None:
    """Connect all processes with the first one, and watch the connections, which the system closes where one dies.

    The first process tells the others whom it has lost. A process that ends in an orderly way says so before.

    Args:
        store: What :func:`find_all` gave.
        rank: Of this process.
        size: How many there are.
        start_timeout: Seconds to wait for the connections.
        loss: Is told in this process.

    Raises:
        ProcessLost: If a connection does not come about.
    """
    try:
        peers = (
            _accepted(store, size, start_timeout)
            if rank == 0
            else _joined(store, rank, start_timeout)
        )
    except (OSError, dist.DistError) as error:
        raise ProcessLost(
            f"process {rank} of {size} cannot connect with the others to watch them: {error}"
        ) from error
    for peer in peers.values():
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def say_goodbye() -> None:
        for peer in peers.values():
            with suppress(OSError):
                peer.sendall(_BYE)

    atexit.register(say_goodbye)
    threading.Thread(target=_watch, args=(peers, loss), daemon=True, name="peer-watch").start()


def _accepted(store: dist.Store, size: int, timeout: float) -> dict[int, socket.socket]:
    """First process: the connections of the others by their ranks."""
    token, end = secrets.token_hex(_TOKEN // 2), time.monotonic() + timeout
    peers: dict[int, socket.socket] = {}
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    with socket.create_server(("", 0), family=family, dualstack_ipv6=dual) as server:
        store.set(f"{_PREFIX}/liveness", f"{server.getsockname()[1]} {token}")
        while len(peers) < size - 1:
            server.settimeout(max(end - time.monotonic(), 0.001))
            connection, _ = server.accept()
            connection.settimeout(5.0)
            with suppress(OSError):  # whoever else connects is none of ours
                said = connection.recv(_TOKEN + _RANK, socket.MSG_WAITALL).decode(errors="replace")
                if said[:_TOKEN] == token:
                    connection.settimeout(None)
                    peers[int(said[_TOKEN:])] = connection
                    continue
            connection.close()
    return peers


def _joined(store: dist.Store, rank: int, timeout: float) -> dict[int, socket.socket]:
    """Another process: its connection with the first one."""
    port, token = store.get(f"{_PREFIX}/liveness").decode().split()
    peer = socket.create_connection((os.environ["MASTER_ADDR"], int(port)), timeout)
    peer.sendall(f"{token}{rank:0{_RANK}d}".encode())
    peer.settimeout(None)
    return {0: peer}


def _watch(peers: dict[int, socket.socket], loss: Loss) -> None:
    """Wait for what comes over the connections: a farewell, a name, or their end."""
    watched = selectors.DefaultSelector()
    for rank, peer in peers.items():
        watched.register(peer, selectors.EVENT_READ, rank)
    while watched.get_map():
        for key, _ in watched.select():
            rank, peer = key.data, peers[key.data]
            try:
                said = peer.recv(1)
            except OSError:
                said = b""
            if said == _BYE:
                watched.unregister(peer)
                continue
            lost = int(peer.recv(_RANK, socket.MSG_WAITALL) or 0) if said == _LOST else rank
            for other, told in peers.items():
                if other not in (lost, 0):
                    with suppress(OSError):
                        told.sendall(_LOST + f"{lost:0{_RANK}d}".encode())
            time.sleep(DEFERENCE)
            loss.tell(f"process {lost} has died")
            return
