"""Collectives on bytes between the processes of a run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist


class ProcessLost(BaseException):
    """Another process of the run is gone, or did not answer in time.

    Not an ``Exception``, as with Ctrl-C: it must not be taken for the failure of a client.
    """


class Collectives:
    """Collectives on bytes between all processes of a run, in a process group of their own.

    The group is gloo's, also on GPUs: what is exchanged is on the CPU, and a process that dies closes
    its connections, which the others see at once.

    Args:
        timeout: Seconds that a process waits for the slowest of the others.
        setting: The setting that ``timeout`` is, for an error.
    """

    def __init__(self, timeout: float, setting: str | None = None) -> None:
        self.timeout = timedelta(seconds=timeout)
        self._setting = f" (`{setting}`)" if setting else ""
        self._group = dist.new_group(backend="gloo", timeout=self.timeout)
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def meet(self) -> None:
        """Wait for all the others.

        Raises:
            ProcessLost: If one does not come; the first process knows which.
        """
        with self._loss_named():
            dist.monitored_barrier(self._group, timeout=self.timeout)

    def gather(self, data: bytes) -> list[bytes]:
        """What every process gave, by rank, in every process.

        Raises:
            ProcessLost: If one does not answer.
        """
        self.meet()
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        with self._loss_named():
            dist.all_gather(lengths, torch.tensor([len(data)]), group=self._group)
            return [
                self._sent(data if source == self.rank else int(length), source)
                for source, length in enumerate(lengths)
            ]

    def of_first(self, data: bytes) -> bytes:
        """What the first process gave, in every process.

        Raises:
            ProcessLost: If one does not answer.
        """
        self.meet()
        length = torch.tensor([len(data)])
        with self._loss_named():
            dist.broadcast(length, 0, group=self._group)
            return self._sent(data if self.rank == 0 else int(length), 0)

    def _sent(self, data: bytes | int, source: int) -> bytes:
        """Bytes from ``source``, which has them; the others know how many there are."""
        if isinstance(data, bytes):
            block = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0)
        else:
            block = torch.empty(data, dtype=torch.uint8)
        if block.numel():
            dist.broadcast(block, source, group=self._group)
        return data if isinstance(data, bytes) else block.numpy().tobytes()

    @contextmanager
    def _loss_named(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # torch has no class of its own for a closed connection
            missed = re.search(r"Rank (\d+) failed to pass", str(error))
            which = f"process {missed[1]}" if missed else "another one"
            raise ProcessLost(
                f"process {self.rank} of {self.size} has lost {which}, which died or did not answer within "
                f"{self.timeout.total_seconds():g} s{self._setting}; go on from the last finished round with "
                "ckpt_path='last'"
            ) from error
