"""The lock of a run's folder: one run at a time keeps its files there."""

from __future__ import annotations

import errno
import json
import os
import socket
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout
from lightning.pytorch.utilities import rank_zero_warn

from lit_fed.atomic_files import write_file

LOCK = ".lock"
OWNER = ".locked_by.json"


class FolderOccupied(OSError):
    """A run's folder in which another run is under way; its message names both."""


class RunLock:
    """A lock that the operating system takes away when the process ends, however it ends.

    Of several processes of a run the first one holds it. It keeps processes of one machine apart, and those of
    several machines where their file system's ``flock`` does (NFS from version 4 on, Lustre with ``-o flock``). Where
    a file system has no locks, that is said, and runs are not kept apart.

    Args:
        folder: The run's folder, which is there.

    Raises:
        FolderOccupied: If another run is under way in it.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> lock = RunLock(folder)
        >>> RunLock(folder)
        Traceback (most recent call last):
        lit_fed.federation.run.run_lock.FolderOccupied: ...
        >>> lock.release()
        >>> RunLock(folder).release()
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = FileLock(folder / LOCK, thread_local=False)
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise FolderOccupied(
                f"`trainer.default_root_dir` is expected to be a folder in which no run is under way, but in {folder} "
                f"{_owner(folder)} is: wait until it has ended, or choose another folder"
            ) from error
        except (OSError, NotImplementedError) as error:
            if isinstance(error, OSError) and error.errno not in (
                errno.ENOSYS,
                errno.ENOLCK,
                errno.EOPNOTSUPP,
            ):
                raise
            rank_zero_warn(
                f"the file system of {folder} has no locks ({error}): nothing keeps a second run out of this folder"
            )
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        owner = {"process": os.getpid(), "machine": socket.gethostname(), "since": now}
        write_file(folder / OWNER, json.dumps(owner))

    def release(self) -> None:
        """Let others in."""
        if self._lock.is_locked:
            (self._folder / OWNER).unlink(missing_ok=True)
            self._lock.release()


def _owner(folder: Path) -> str:
    try:
        owner = json.loads((folder / OWNER).read_bytes())
        return f"that of process {owner['process']} on {owner['machine']} since {owner['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # it is just starting or ending
        return "that of another process"
