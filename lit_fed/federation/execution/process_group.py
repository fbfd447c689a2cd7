"""Process groups for the executions of many processes."""

from __future__ import annotations

import _thread
import atexit
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch.distributed as dist
from lightning.fabric.strategies import DDPStrategy, ModelParallelStrategy
from lightning.fabric.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from lightning.fabric.strategies.parallel import ParallelStrategy
from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
from torch.nn import Module

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

GRACE = 15.0  # seconds


class ChildWatch(threading.Thread):
    """Says which of the processes that this one started has died, and ends the run if nothing else does.

    Lightning's own observer kills this process at once; here it has time to notice by itself, is then
    interrupted as by Ctrl-C, which leaves a checkpoint of the last finished round, and killed only if it
    waits where Python cannot interrupt it.

    Args:
        children: The processes of ranks 1, 2, …

    Attributes:
        loss: Who has died; None as long as nobody has.
    """

    def __init__(self, children: list[subprocess.Popen[bytes]]) -> None:
        super().__init__(daemon=True, name="child-watch")
        self.children = children
        self.loss: str | None = None
        atexit.register(self.end_children)

    def run(self) -> None:
        """Watch until all have ended well, or one has not."""
        while any(child.poll() != 0 for child in self.children):
            died = {r: c.returncode for r, c in enumerate(self.children, 1) if c.returncode}
            if died and -signal.SIGINT not in died.values() and 130 not in died.values():
                self._end(died)
                return
            time.sleep(0.5)

    def end_children(self) -> None:
        """Kill those that are left after a loss."""
        if self.loss is not None:
            for child in self.children:
                if child.poll() is None:
                    child.kill()

    def _end(self, died: dict[int, int]) -> None:
        named = " and ".join(
            f"process {rank} ended with "
            + (f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}")
            for rank, code in died.items()
        )
        self.loss = f"{named}; go on from the last finished round with ckpt_path='last'"
        print(f"lit-fed: {self.loss}", file=sys.stderr, flush=True)
        if dist.is_initialized():
            time.sleep(GRACE)
            _thread.interrupt_main()
            time.sleep(GRACE)
        # without a process group this process waits for one that will never be complete
        self.end_children()
        os.kill(os.getpid(), signal.SIGKILL)


class WatchingLauncher(_SubprocessScriptLauncher):
    """Starts the processes of this machine as Lightning does, and watches them; see :class:`ChildWatch`."""

    watch: ChildWatch | None = None

    def launch(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Start the other processes and call ``function`` in this one."""
        environment = self.cluster_environment
        environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not environment.creates_processes_externally:
            self._call_children_scripts()
            self.watch = ChildWatch(self.procs)
            self.watch.start()
        _set_num_threads_if_needed(num_processes=self.num_processes)
        return function(*args, **kwargs)


class ClientParallelStrategy(DDPStrategy):
    """Processes that know one another and train different clients.

    Unlike DDP it leaves the module as it is: averaging the gradients of different clients would make
    one client of them.

    Args:
        timeout: Seconds that a process waits for the others.
    """

    def __init__(self, timeout: float) -> None:
        super().__init__(timeout=timedelta(seconds=timeout))

    @property
    def loss(self) -> str | None:
        """Which process has died, as far as this one knows."""
        watch = self.launcher.watch if isinstance(self.launcher, WatchingLauncher) else None
        return watch.loss if watch else None

    def setup_module(self, module: Module) -> Module:  # type: ignore[override]  # DDP's wraps it
        """The module as it is."""
        return module

    def _setup_distributed(self) -> None:
        if _is_alone(self):
            self._set_world_ranks()
        else:
            super()._setup_distributed()

    def _configure_launcher(self) -> None:
        self._launcher = _launcher(self)


class ShardStrategy(ModelParallelStrategy):
    """Processes that share one model's weights, gradients and optimizer state.

    Args:
        shard: Applies FSDP2 to the module, given the mesh of all processes.
        timeout: Seconds that a process waits for the others.
    """

    def __init__(self, shard: Callable[[Any, DeviceMesh], Any], timeout: float) -> None:
        super().__init__(
            lambda module, mesh: shard(module, mesh["data_parallel"]),
            tensor_parallel_size=1,
            timeout=timedelta(seconds=timeout),
        )

    def setup_environment(self) -> None:
        """Make the process group and one row of all processes."""
        if _is_alone(self):
            ParallelStrategy.setup_environment(self)
            self._set_world_ranks()
            return
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def setup_module(self, module: Module) -> Module:
        """Shard the module; a single process has all of it."""
        return module.to(self.root_device) if _is_alone(self) else super().setup_module(module)

    def _configure_launcher(self) -> None:
        self._launcher = _launcher(self)


def _is_alone(strategy: ClientParallelStrategy | ShardStrategy) -> bool:
    """Whether there is one process, which needs no group and leaves no trace of one in the environment."""
    return strategy.num_nodes * strategy.num_processes == 1


def _launcher(strategy: ClientParallelStrategy | ShardStrategy) -> WatchingLauncher | None:
    environment = strategy.cluster_environment
    if environment is None or environment.creates_processes_externally or _is_alone(strategy):
        return None
    return WatchingLauncher(environment, strategy.num_processes, strategy.num_nodes)
