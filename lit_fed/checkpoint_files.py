"""The files of checkpoints: where they lie, and reading them without trust."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import safetensors.torch
from lightning.pytorch.utilities import rank_zero_warn
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lit_fed import digests
from lit_fed.atomic_files import standing, standing_names
from lit_fed.payload import Payload

FORMAT: Final = 3
"""The second format has the run's identity, the third digests of its files."""

_FILES: Final = ("state.json", "broadcast.safetensors", "server.safetensors", digests.NAME)
_NAME = re.compile(r"round=(\d+)")

Read = TypeVar("Read")


def checkpoints(folder: Path) -> dict[int, Path]:
    """The checkpoints in a folder by their number of finished rounds, oldest first.

    Args:
        folder: A run's folder, or the ``checkpoints`` folder in it. It need not exist.
    """
    folder = folder / "checkpoints" if (folder / "checkpoints").is_dir() else folder
    found = {}
    for name in standing_names(folder):
        if (match := _NAME.fullmatch(name)) and (path := standing(folder / name)):
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def last_checkpoint(folder: Path) -> Path | None:
    """The checkpoint with the most finished rounds, or None where there is none.

    Args:
        folder: A run's folder, or the ``checkpoints`` folder in it. It need not exist.

    Example:
        >>> import tempfile
        >>> run = Path(tempfile.mkdtemp())
        >>> last_checkpoint(run) is None
        True
        >>> for name in ("round=0009", "round=0010", ".writing-round=0011"):
        ...     (run / "checkpoints" / name).mkdir(parents=True)
        >>> last_checkpoint(run).name
        'round=0010'
    """
    return next(reversed(checkpoints(folder).values()), None)


class DamagedCheckpoint(ValueError):
    """A checkpoint whose content is not what was written; its message names the file and what to do."""


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder is a checkpoint, whole or damaged.

    Args:
        folder: The folder. It need not exist.
    """
    return any((folder / name).is_file() for name in _FILES)


def checkpoint_in(folder: Path, setting: str) -> Path:
    """The checkpoint that a folder is, or the last one of the run whose folder it is.

    Args:
        folder: A checkpoint, or a run's folder.
        setting: What the folder was given as, for messages.

    Raises:
        FileNotFoundError: If it is neither.
    """
    there = standing(folder)
    if there is not None and is_checkpoint(there):
        return there
    found = last_checkpoint(folder) if folder.is_dir() else None
    if found is None:
        what = (
            "which holds none" if folder.is_dir() else "a file" if folder.exists() else "not there"
        )
        raise FileNotFoundError(
            f"`{setting}` is expected to be a checkpoint folder with state.json, or a run's folder with "
            f"checkpoints, but got {folder}, {what}"
        )
    return found


class CheckpointReader:
    """Reads the files of a checkpoint, each compared with its digest; see :func:`opened`.

    Args:
        folder: The checkpoint.

    Attributes:
        state: The content of its ``state.json``.
        has_digests: Whether its files have digests, as they have since the third format.

    Raises:
        OSError: If a file is not there.
        ValueError: If one is not what was written.
        TypeError: If ``state.json`` is no object.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.has_digests = (folder / digests.NAME).is_file()
        self._digests = digests.read_digests(folder) if self.has_digests else {}
        try:
            self.state: dict[str, Any] = dict(json.loads(self.read("state.json")))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"state.json: {error}") from error
        if not self.has_digests and self.state.get("format") == FORMAT:
            raise ValueError(f"there is no {digests.NAME}")

    def read(self, name: str) -> bytes:
        """The content of a file.

        Args:
            name: Its name in the checkpoint's folder.

        Raises:
            OSError: If it is not there.
            ValueError: If its content is not what was written.
        """
        data = (self.folder / name).read_bytes()
        if not self.has_digests:
            return data
        if name not in self._digests:
            raise ValueError(f"{name} is not among the files of {digests.NAME}")
        if digests.digest_of(data) != self._digests[name]:
            raise ValueError(
                f"{name}: its content is not the one whose digest is in {digests.NAME}"
            )
        return data

    def payload(self, name: str | None) -> Payload:
        """A payload in a file; an empty one without a name. Raises as :meth:`read`."""
        if name is None:
            return Payload()
        data = self.read(name)
        try:
            return Payload.from_bytes(data)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors in a file. Raises as :meth:`read`."""
        tensors: dict[str, Tensor] = safetensors.torch.load(self.read(name))
        return tensors

    def check(self) -> None:
        """Read every file.

        Raises:
            OSError: If one is not there.
            ValueError: If one is not what was written.
            SafetensorError: If one of a checkpoint without digests is no whole safetensors file.
        """
        for name in self._digests:
            self.read(name)
        if not self.has_digests:
            for path in self.folder.rglob("*.safetensors"):
                with safe_open(path, "pt"):
                    pass


def opened(folder: Path) -> CheckpointReader:
    """A checkpoint to be read.

    One of a format before the third has no digests, which is said: what can be read of it is taken for what was
    written.

    Args:
        folder: The checkpoint.

    Raises:
        FileNotFoundError: If it is none.
        DamagedCheckpoint: If it is damaged.
        ValueError: If it is of another format.
    """
    if not is_checkpoint(folder):
        raise FileNotFoundError(
            f"`ckpt_path` is expected to be a checkpoint folder with state.json, but got {folder}"
        )
    reader = undamaged(folder, lambda: CheckpointReader(folder))
    found = reader.state.get("format")
    if found not in range(1, FORMAT + 1):
        raise ValueError(
            f"checkpoint {folder} is expected in format {FORMAT} or an earlier one, but is in {found!r}"
        )
    if not reader.has_digests:
        rank_zero_warn(
            f"checkpoint {folder} was written before checkpoints had digests: whether its files are as they "
            "were written cannot be told"
        )
    return reader


def undamaged(folder: Path, read: Callable[[], Read]) -> Read:
    """What is read from a checkpoint.

    Args:
        folder: The checkpoint.
        read: Reads it.

    Raises:
        DamagedCheckpoint: If that fails, with the newest checkpoint beside it that is whole, to go on from.
    """
    try:
        return read()
    except DamagedCheckpoint:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else error
        if isinstance(error, FileNotFoundError) and error.filename:
            what = f"there is no {Path(error.filename).name}"
        whole = newest_whole(folder.parent, folder)
        hint = (
            "there is no other one that is whole"
            if whole is None
            else f"go on from the newest one that is whole by --ckpt_path {whole}"
        )
        raise DamagedCheckpoint(
            f"checkpoint {folder} is expected to be whole, but is damaged ({what}); {hint}"
        ) from error


def newest_whole(folder: Path, but: Path) -> Path | None:
    """The checkpoint with the most finished rounds of those that are whole, or None.

    Args:
        folder: The folder of a run's checkpoints.
        but: One that does not count.
    """
    for path in reversed(checkpoints(folder).values()):
        if path != but and is_whole(path):
            return path
    return None


def is_whole(folder: Path) -> bool:
    """Whether all of a checkpoint's files can be read and are what was written.

    Args:
        folder: The checkpoint.
    """
    try:
        CheckpointReader(folder).check()
    except (OSError, ValueError, TypeError, SafetensorError):
        return False
    return True


def best_record(checkpoint: Path, monitor: str, mode: str, score: float) -> str:
    """The content of ``best.json``, which names the best checkpoint and has a digest of what it says.

    Args:
        checkpoint: The best checkpoint.
        monitor: Metric by which it is best.
        mode: ``max`` or ``min``.
        score: Its metric.
    """
    record = {"checkpoint": checkpoint.name, "monitor": monitor, "mode": mode, "score": score}
    return json.dumps({**record, "sha256": _digest_of_record(record)}, indent=2) + "\n"


def read_best(path: Path) -> str:
    """The name of the best checkpoint.

    Args:
        path: The file that :func:`best_record` is the content of. An earlier version wrote it without a digest.

    Raises:
        OSError: If it cannot be read.
        KeyError: If it names no checkpoint.
        ValueError: If it is not what was written.
    """
    record = dict(json.loads(path.read_bytes()))
    digest = record.pop("sha256", None)
    if digest is not None and digest != _digest_of_record(record):
        raise ValueError("its content is not the one whose digest it has")
    name = str(record["checkpoint"])
    if not _NAME.fullmatch(name):
        raise ValueError(f"it names no checkpoint: {name!r}")
    return name


def _digest_of_record(record: dict[str, Any]) -> str:
    return digests.digest_of(json.dumps(record, sort_keys=True).encode())
