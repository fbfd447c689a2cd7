"""The files of checkpoints: where they lie, and reading them without trust."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from safetensors import SafetensorError

from lit_fed.atomic_files import standing, standing_names
from lit_fed.payload import Payload

FORMAT: Final = 2
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


def checkpoint_in(folder: Path, setting: str) -> Path:
    """The checkpoint that a folder is, or the last one of the run whose folder it is.

    Args:
        folder: A checkpoint, or a run's folder.
        setting: What the folder was given as, for messages.

    Raises:
        FileNotFoundError: If it is neither.
    """
    whole = standing(folder)
    if whole is not None and (whole / "state.json").is_file():
        return whole
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


def checkpoint_state(folder: Path) -> dict[str, Any]:
    """The content of a checkpoint's ``state.json``.

    Raises:
        FileNotFoundError: If ``folder`` is no checkpoint.
        ValueError: If it is damaged, or of another format.
    """
    path = folder / "state.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"`ckpt_path` is expected to be a checkpoint folder with state.json, but got {folder}"
        )
    state = undamaged(folder, lambda: dict(json.loads(path.read_text(encoding="utf-8"))))
    if state.get("format") not in range(1, FORMAT + 1):
        raise ValueError(
            f"checkpoint {folder} is expected in format {FORMAT} or an earlier one, but is in "
            f"{state.get('format')!r}"
        )
    return state


def checkpoint_payload(folder: Path, name: str | None) -> Payload:
    """A payload of a checkpoint; an empty one without a name.

    Raises:
        OSError: If the file is not there.
        ValueError: If it is damaged, naming the file.
    """
    if name is None:
        return Payload()
    try:
        return Payload.load(folder / name)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def undamaged(folder: Path, read: Callable[[], Read]) -> Read:
    """What is read from a checkpoint.

    Raises:
        ValueError: If that fails, with the checkpoint before it, to go on from.
    """
    try:
        return read()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        others = [p for p in checkpoints(folder.parent).values() if p.name < folder.name]
        hint = f"; the one before it is {others[-1]}" if others else ""
        what = f"no {error}" if isinstance(error, KeyError) else error
        raise ValueError(
            f"checkpoint {folder} is expected to be whole, but is damaged ({what}){hint}"
        ) from error
