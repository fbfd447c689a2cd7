"""One run of a study: a configuration, a seed and, in a sweep, a setting's value."""

from __future__ import annotations

import csv
import difflib
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from lit_fed.atomic_files import write_file
from lit_fed.digests import digest_of


@dataclass(frozen=True)
class Run:
    """One configuration with one seed.

    Attributes:
        config: The YAML.
        seed: Its ``seed_everything``.
        folder: Where its files are.
        overlays: YAMLs whose settings come over those of ``config``, in their order.
        settings: Settings as on the command line, which come last.
        value: The swept setting's value, or the name of the variant; None where there is neither.
        arm: Its name in the table. None: the configuration's.
    """

    config: Path
    seed: int
    folder: Path
    overlays: tuple[Path, ...] = ()
    settings: tuple[str, ...] = ()
    value: float | str | None = None
    arm: str | None = None

    @property
    def name(self) -> str:
        """Its row of the table."""
        return self.config.stem if self.arm is None else self.arm

    @property
    def summary(self) -> dict[str, Any] | None:
        """What the run has ended with; None if it has not."""
        path = self.folder / "summary.json"
        summary: dict[str, Any] = (
            json.loads(path.read_text()) if path.is_file() else {"interrupted": True}
        )
        return None if summary["interrupted"] else summary

    @property
    def history(self) -> list[dict[str, float]]:
        """The rounds' metrics; those that a round does not have are left out of its row."""
        with (self.folder / "metrics.csv").open(encoding="utf-8") as file:
            return [
                {name: float(cell) for name, cell in row.items() if cell}
                for row in csv.DictReader(file)
            ]

    def figure(self, metric: str) -> float | None:
        """What a run has of a metric when it has ended; None where it has none, NaN where that is no finite number.

        Args:
            metric: Its name in the summary; ``bytes/up``, ``bytes/down`` or ``bytes/total`` of the run, or
                ``seconds/rounds``; or, with the number of a round behind it, in that round's row, such as
                ``backdoor/asr@7``.
        """
        name, at, number = metric.partition("@")
        if (summary := self.summary) is None:
            return None
        if not at:
            kind, _, part = name.partition("/")
            if kind in ("bytes", "seconds") and part in summary[kind]:
                return float(summary[kind][part])
            if name not in summary["metrics"]:
                return None
            found: float | None = summary["metrics"][name]
            return math.nan if found is None else found
        rows = [row for row in self.history if str(int(row["round"])) == number]
        return rows[0].get(name) if rows else None

    @property
    def made_of(self) -> dict[str, Any]:
        """What its ``study.json`` says: the configurations' texts, the settings, and the files that these name."""
        return {**self._identity(), "files": self._files()}

    def check(self) -> None:
        """Raise if the folder holds a run of other settings, or of files that have another content now.

        Raises:
            FileExistsError: Naming the folder and what differs.
        """
        path = self.folder / "study.json"
        if not path.is_file():
            return
        there = json.loads(path.read_text())
        for key, value in self._identity().items():
            found = there.get(key, [])
            if found != value and not (
                key == "configurations" and _meaning(found) == _meaning(value)
            ):
                raise FileExistsError(
                    f"`root` is expected to hold no other study's runs, but {self.folder} was made with "
                    f"other {key} (-: there, +: now):\n{_difference(found, value)}"
                )
        now, before = self._files(), there.get("files", {})
        if changed := [name for name, digest in now.items() if before.get(name, digest) != digest]:
            raise FileExistsError(
                f"`root` is expected to hold no other study's runs, but {self.folder} was made with another content of "
                f"{', '.join(changed)}: runs of different rows make no mean"
            )

    def execute(self, threads: int) -> int:
        """Run, or go on from the last checkpoint, in a process of its own.

        Args:
            threads: Threads of that process, where the environment does not tell (``OMP_NUM_THREADS``).

        Returns:
            Its exit status; its output is added to ``log.txt``.
        """
        write_file(self.folder / "study.json", json.dumps(self.made_of, indent=1))
        command = [sys.executable, "-m", "lit_fed", "fit"]
        command += [f"--config={path}" for path in (self.config, *self.overlays)]
        command += [f"--seed_everything={self.seed}"]
        command += [f"--trainer.default_root_dir={self.folder}", *self.settings]
        # also where there is no checkpoint yet: a run that was killed before has left other files, in a folder that
        # is then taken for another run's
        command.append("--ckpt_path=last")
        with (self.folder / "log.txt").open("a", encoding="utf-8") as log:
            child = subprocess.run(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(threads),
                check=False,
            )
        return child.returncode

    def _identity(self) -> dict[str, Sequence[str]]:
        """What makes it this run, by the files' contents: a YAML whose settings were changed is another one."""
        texts = [path.read_text(encoding="utf-8") for path in (self.config, *self.overlays)]
        return {"configurations": texts, "settings": list(self.settings)}

    def _files(self) -> dict[str, str]:
        """The digests of the files that its settings name, such as tables of rows."""
        identity = self._identity()
        named = list(_texts_in(_meaning(identity["configurations"])))
        named += [setting.partition("=")[2] for setting in identity["settings"]]
        found = {str(path) for name in named for path in _paths(name)}
        return {name: _digest(Path(name), Path(name).stat().st_mtime_ns) for name in sorted(found)}


def _texts_in(value: Any) -> Iterator[str]:
    """The texts in what a YAML says."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts_in(one)


def _paths(name: str) -> list[Path]:
    """The files of a name, or of a pattern with stars, without those that no system has."""
    try:
        if "*" in name and Path(name).suffix:
            root = Path(name).anchor
            found = Path(root).glob(name.removeprefix(root))
            return [path for path in found if path.is_file()]
        return [Path(name)] if name and Path(name).is_file() else []
    except (OSError, ValueError):  # longer than a name may be, or with a NUL
        return []


@cache
def _digest(path: Path, changed: int) -> str:
    """The digest of a file's content as it was when it was ``changed``, by which a later content is read anew."""
    return digest_of(path.read_bytes())[:16]


def environment(threads: int) -> dict[str, str]:
    """This process' environment, with a number of threads where it does not tell one.

    Args:
        threads: Threads of a process. More than there are free cores would wait for each other at full load.
    """
    return {"OMP_NUM_THREADS": str(threads), **os.environ}


def _meaning(texts: Sequence[str]) -> list[Any]:
    """What the texts say; their comments say nothing."""
    return [yaml.safe_load(text) for text in texts]


def _difference(there: Sequence[str], now: Sequence[str], most: int = 12) -> str:
    """The first of the lines that differ, by which a reader of a long YAML sees what has changed."""
    before, after = ("\n".join(texts).splitlines() for texts in (there, now))
    lines = list(difflib.unified_diff(before, after, n=0, lineterm=""))[2:]
    changed = [line for line in lines if not line.startswith("@@")]
    more = [f"and {len(changed) - most} lines more"] if len(changed) > most else []
    return "\n".join([*changed[:most], *more])
