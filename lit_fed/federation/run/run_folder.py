"""Where a run keeps its files."""

from __future__ import annotations

import json
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_warn

from lit_fed.federation.run.checkpoint import last_checkpoint

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

    Raises:
        FileNotFoundError: If it is ``best`` and the run has not named one.
    """
    if ckpt_path == "best":
        return _best_checkpoint(last_run_folder(root, name))
    if ckpt_path != "last":
        return None if ckpt_path is None else Path(ckpt_path)
    folder = last_run_folder(root, name)
    found = last_checkpoint(folder)
    if found is None:
        rank_zero_warn(f"`ckpt_path` is 'last', but {folder} has no checkpoint yet")
    return found


def run_folder(ckpt_path: str | None, found: Path | None, root: Path | None, name: str) -> Path:
    """Where a fit keeps its files.

    A run that goes on from its last checkpoint keeps its folder; from an older one it branches off
    into a new folder, so that no later round is lost.

    Args:
        ckpt_path: What the user gave.
        found: What :func:`find_checkpoint` made of it.
        root: ``trainer.default_root_dir``.
        name: The run's name.
    """
    if ckpt_path == "last":
        return last_run_folder(root, name)
    if found is not None and last_checkpoint(found.parent) == found:
        return found.parents[1]
    return new_run_folder(root, name)


def _best_checkpoint(folder: Path) -> Path:
    named = folder / "checkpoints" / "best.json"
    if not named.is_file():
        raise FileNotFoundError(
            f"`ckpt_path` 'best' expects a run with lit_fed.callbacks.RoundCheckpoint and its `monitor`, but there is "
            f"no {named}"
        )
    best: str = json.loads(named.read_text(encoding="utf-8"))["checkpoint"]
    return named.parent / best


def _latest_version(name: str) -> int:
    numbers = [p.name.removeprefix("version_") for p in (Path("runs") / name).glob("version_*")]
    return max((int(n) for n in numbers if n.isdigit()), default=-1)
