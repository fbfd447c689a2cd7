"""Process groups for the executions of many processes."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import torch.distributed as dist
from lightning.fabric.strategies import DDPStrategy, ModelParallelStrategy
from lightning.fabric.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from lightning.fabric.strategies.parallel import ParallelStrategy
from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
from torch.nn import Module

from lit_fed.federation.execution.liveness import (
    DEFERENCE,
    LAUNCHER,
    Loss,
    ParentWatch,
    find_all,
    watch_peers,
)

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

START_SETTING: Final = "trainer.execution.start_timeout"
START: Final = 600.0
"""Seconds in which all processes have started by default: each builds the model and reads the data before."""


class ChildWatch(threading.Thread):
    """Says which of the processes that this one started has died, and ends the run if nothing else does.

    Lightning's own observer kills this process at once; here it has time to end by itself, see
    :class:`~lit_fed.federation.execution.liveness.Loss`.

    Args:
        children: The processes of ranks 1, 2, …
        loss: Is told.
    """

    def __init__(self, children: list[subprocess.Popen[bytes]], loss: Loss) -> None:
        super().__init__(daemon=True, name="child-watch")
        self.children = children
        self.loss = loss
        atexit.register(self.end_children)

    def run(self) -> None:
        """Watch until all have ended well, or one has not."""
        # each is asked, also behind one that lives
        while any(code != 0 for code in [child.poll() for child in self.children]):
            died = {r: c.returncode for r, c in enumerate(self.children, 1) if c.returncode}
            if died and -signal.SIGINT not in died.values() and 130 not in died.values():
                named = " and ".join(
                    f"process {rank} ended with "
                    + (f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}")
                    for rank, code in died.items()
                )
                self.loss.tell(named, self.end_children)
                return
            time.sleep(0.5)

    def end_children(self) -> None:
        """Kill those that are left after a loss."""
        if self.loss.said is not None:
            for child in self.children:
                if child.poll() is None:
                    child.kill()


class WatchingLauncher(_SubprocessScriptLauncher):
    """Starts the processes of this machine as Lightning does, and watches them; see :class:`ChildWatch`."""

    def __init__(self, strategy: ClientParallelStrategy | ShardStrategy, loss: Loss) -> None:
        environment: Any = strategy.cluster_environment
        super().__init__(environment, strategy.num_processes, strategy.num_nodes)
        self._loss = loss

    def launch(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Start the other processes and call ``function`` in this one."""
        environment = self.cluster_environment
        environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not environment.creates_processes_externally:
            os.environ[LAUNCHER] = str(os.getpid())
            self._call_children_scripts()
            del os.environ[LAUNCHER]
            ChildWatch(self.procs, self._loss).start()
        _set_num_threads_if_needed(num_processes=self.num_processes)
        return function(*args, **kwargs)


class ClientParallelStrategy(DDPStrategy):
    """Processes that know one another and train different clients.

    Unlike DDP it leaves the module as it is: averaging the gradients of different clients would make
    one client of them.

    Args:
        timeout: Seconds that a process waits for the others.
        start_timeout: Seconds that it waits for all to start.

    Attributes:
        loss: What this process knows of another that has died.
    """

    def __init__(self, timeout: float, start_timeout: float = START) -> None:
        super().__init__(timeout=timedelta(seconds=timeout))
        self.start_timeout = start_timeout
        self.store: dist.Store | None = None
        self.loss = Loss()

    def setup_module(self, module: Module) -> Module:  # type: ignore[override]  # DDP's wraps it
        """The module as it is."""
        return module

    def _setup_distributed(self) -> None:
        if _is_alone(self):
            self._set_world_ranks()
        else:
            _meet(self)
            with _known_losses():
                super()._setup_distributed()

    def _configure_launcher(self) -> None:
        self._launcher = _launcher(self)


class ShardStrategy(ModelParallelStrategy):
    """Processes that share one model's weights, gradients and optimizer state.

    Args:
        shard: Applies FSDP2 to the module, given the mesh of all processes.
        timeout: Seconds that a process waits for the others.
        start_timeout: Seconds that it waits for all to start.

    Attributes:
        loss: What this process knows of another that has died.
    """

    def __init__(
        self,
        shard: Callable[[Any, DeviceMesh], Any],
        timeout: float,
        start_timeout: float = START,
    ) -> None:
        super().__init__(
            lambda module, mesh: shard(module, mesh["data_parallel"]),
            tensor_parallel_size=1,
            timeout=timedelta(seconds=timeout),
        )
        self.start_timeout = start_timeout
        self.store: dist.Store | None = None
        self.loss = Loss()

    def setup_environment(self) -> None:
        """Make the process group and one row of all processes."""
        if _is_alone(self):
            ParallelStrategy.setup_environment(self)
            self._set_world_ranks()
            return
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def _setup_distributed(self) -> None:
        _meet(self)
        with _known_losses():
            super()._setup_distributed()

    def setup_module(self, module: Module) -> Module:
        """Shard the module; a single process has all of it."""
        return module.to(self.root_device) if _is_alone(self) else super().setup_module(module)

    def _configure_launcher(self) -> None:
        self._launcher = _launcher(self)


def _is_alone(strategy: ClientParallelStrategy | ShardStrategy) -> bool:
    """Whether there is one process, which needs no group and leaves no trace of one in the environment."""
    return strategy.num_nodes * strategy.num_processes == 1


@contextmanager
def _known_losses() -> Iterator[None]:
    """Around the making of a group: what fails since a process has died waits until it is known which.

    Connections break as fast as the one by which it becomes known; whoever watches that one ends this process.
    """
    try:
        yield
    except dist.DistError:
        time.sleep(2 * DEFERENCE)
        raise


def _meet(strategy: ClientParallelStrategy | ShardStrategy) -> None:
    """Wait until all processes have started, and have each watched from then on.

    A process group would wait as long as for the slowest client, whoever has died meanwhile.

    Raises:
        ProcessLost: If one has not started in time.
    """
    if dist.is_initialized():
        return
    ParentWatch(strategy.loss).start()
    strategy._set_world_ranks()
    environment: Any = strategy.cluster_environment
    os.environ["MASTER_ADDR"] = environment.main_address
    os.environ["MASTER_PORT"] = str(environment.main_port)
    rank, size, patience = strategy.global_rank, strategy.world_size, strategy.start_timeout
    # kept, since the processes' group listens where this does
    strategy.store = find_all(rank, size, patience, START_SETTING)
    watch_peers(strategy.store, rank, size, patience, strategy.loss)


def _launcher(strategy: ClientParallelStrategy | ShardStrategy) -> WatchingLauncher | None:
    environment = strategy.cluster_environment
    if environment is None or environment.creates_processes_externally or _is_alone(strategy):
        return None
    return WatchingLauncher(strategy, strategy.loss)
