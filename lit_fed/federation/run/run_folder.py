"""Where a run keeps its files."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from lit_fed.checkpoint_files import (
    checkpoint_in,
    checkpoints,
    is_whole,
    last_checkpoint,
    read_best,
    undamaged,
)
from lit_fed.federation.run.run_lock import LOCK, OWNER, FolderOccupied, RunLock

_TRACES = (
    "checkpoints/round=*",
    "prepared/*",
    "summary.json",
    "metrics.csv",
    "events.out.tfevents.*",
)


def new_run_folder(root: Path | None, name: str) -> Path:
    """A folder for a run that starts: ``root`` itself, or the next ``runs/<name>/version_<n>``.

    Raises:
        FileExistsError: If ``root`` holds a run already.
    """
    if root is None:
        return Path("runs") / name / f"version_{_latest_version(name) + 1}"
    if traces := [t for pattern in _TRACES for t in root.glob(pattern)]:
        raise FileExistsError(
            f"`trainer.default_root_dir` is expected to be a folder without a run, but {root} holds {traces[0].name}; "
            "choose another one, or go on with that run by --ckpt_path last"
        )
    return root


def last_run_folder(root: Path | None, name: str) -> Path:
    """The run to go on with: the one in ``root``, or the latest ``runs/<name>/version_<n>``."""
    return root or Path("runs") / name / f"version_{max(_latest_version(name), 0)}"


def find_checkpoint(ckpt_path: str | None, root: Path | None, name: str) -> Path | None:
    """The folder that ``ckpt_path`` means; None if it is None, or ``last`` where there is none yet.

    Args:
        ckpt_path: A checkpoint folder, a run's folder (its last checkpoint), or ``last`` or ``best`` of the run in
            ``root``, or of the latest one of that name.
        root: ``trainer.default_root_dir``.
        name: The run's name.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If what names the best one is damaged.
    """
    if ckpt_path is None:
        return None
    folder = last_run_folder(root, name)
    if ckpt_path == "last":
        return last_checkpoint(folder)
    return _best(folder) if ckpt_path == "best" else checkpoint_in(Path(ckpt_path), "ckpt_path")


def _best(folder: Path) -> Path:
    record = folder / "checkpoints" / "best.json"
    if not record.is_file():
        raise FileNotFoundError(
            f"`ckpt_path` is 'best', which expects {record}; RoundCheckpoint writes it where its `monitor` names "
            "a metric"
        )
    named = undamaged(record, lambda: read_best(record))
    return checkpoint_in(record.parent / named, "ckpt_path")


def run_folder(ckpt_path: str | None, found: Path | None, root: Path | None, name: str) -> Path:
    """Where a fit keeps its files.

    A run that goes on from its last checkpoint, or from the last one that is not damaged, keeps its folder; from
    an older one, or from a copy elsewhere, it branches off into a new folder, so that no later round is lost.

    Args:
        ckpt_path: What the user gave.
        found: What :func:`find_checkpoint` made of it.
        root: ``trainer.default_root_dir``.
        name: The run's name.
    """
    if ckpt_path == "last":
        return last_run_folder(root, name)
    if found is not None and (own := _run_of(found)) is not None and _is_last_whole(found):
        return own
    return new_run_folder(root, name)


@dataclass(frozen=True)
class ClaimedFolder:
    """A run's folder that this process alone writes to.

    Attributes:
        folder: The folder.
        found: The checkpoint to go on from; None if the run begins.
    """

    folder: Path
    found: Path | None
    _lock: RunLock
    _made: tuple[Path, ...]

    def release(self) -> None:
        """Let other runs in; a folder that was made and in which nothing has been written is removed."""
        _give_back(self._lock, self._made)


def claim_run_folder(ckpt_path: str | None, root: Path | None, name: str) -> ClaimedFolder:
    """Take the folder of a run that starts or goes on, and the checkpoint that it goes on from.

    A new ``version_<n>`` is made by one process alone, however many start at once.

    Args:
        ckpt_path: See :func:`find_checkpoint`.
        root: ``trainer.default_root_dir``.
        name: The run's name.

    Raises:
        FileExistsError: If ``root`` holds a run already.
        FolderOccupied: If another run is under way in the folder.
        OSError: If nothing can be written there.
    """
    while True:
        found = find_checkpoint(ckpt_path, root, name)
        folder = run_folder(ckpt_path, found, root, name)
        goes_on = ckpt_path == "last" or (found is not None and folder == _run_of(found))
        # also where another run has made it since: that is no folder to go on in
        numbered = root is None and not goes_on
        made = tuple(one for one in (folder, *folder.parents) if not one.exists())
        if problem := why_unwritable(folder.parent if numbered else folder):
            raise OSError(problem)
        if numbered:
            try:
                folder.mkdir()
            except FileExistsError:  # another run has just taken this number
                continue
        break
    lock = RunLock(folder)
    try:
        # what there was may have changed until the lock was taken
        found = find_checkpoint(ckpt_path, root, name)
        if not numbered and run_folder(ckpt_path, found, root, name) != folder:
            raise FolderOccupied(
                f"{folder} is expected to stay as it is while a run takes it, but another run has just gone on in it"
            )
    except BaseException:
        _give_back(lock, made)
        raise
    return ClaimedFolder(folder, found, lock, made)


def _give_back(lock: RunLock, made: tuple[Path, ...]) -> None:
    # before the lock is released: the folder may be another run's in the next moment
    for one in made:
        if one.is_dir() and {path.name for path in one.iterdir()} <= {LOCK, OWNER}:
            for name in (LOCK, OWNER):
                (one / name).unlink(missing_ok=True)
            one.rmdir()
    lock.release()


def _run_of(checkpoint: Path) -> Path | None:
    """The folder of the run that a checkpoint is part of; None of one that was copied elsewhere."""
    beside = checkpoint.parent if checkpoint.parent.name else checkpoint.absolute().parent
    return beside.parent if beside.name == "checkpoints" else None


def _is_last_whole(checkpoint: Path) -> bool:
    beside = list(checkpoints(checkpoint.parent).values())
    if checkpoint not in beside:
        return False
    return not any(is_whole(later) for later in beside[beside.index(checkpoint) + 1 :])


def why_unwritable(folder: Path) -> str | None:
    """Make a run's folder, and say why nothing can be written there; None if something can.

    Where it cannot be made, nothing is left of it.

    Args:
        folder: The folder.
    """
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        for one in made:
            if one.is_dir():
                one.rmdir()
        return (
            f"`trainer.default_root_dir` is expected to be a folder that can be written, but {folder} cannot: "
            f"{error.strerror or error}"
        )


def _latest_version(name: str) -> int:
    numbers = [p.name.removeprefix("version_") for p in (Path("runs") / name).glob("version_*")]
    return max((int(n) for n in numbers if n.isdigit()), default=-1)
