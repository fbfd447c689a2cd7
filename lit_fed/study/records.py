"""Records of a study's runs in one file, from which it goes on and its pages are made where the runs are not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lit_fed.atomic_files import write_file
from lit_fed.study.run import Run

_FILES = ("summary.json", "metrics.csv")


def save_records(path: Path, runs: Sequence[Run], root: Path) -> None:
    """Add the runs that have ended to a file, which can be published.

    The file is JSON Lines: first the configurations' texts by their digests, each once, then a line for each run with
    its folder below ``root``, what it was made of, its summary and its rounds. What the file holds of other runs stays.

    Args:
        path: The file.
        runs: The runs; those that have not ended are left out.
        root: Folder of the study.

    Raises:
        ValueError: If the file is there and holds something else.
    """
    texts, records = _read(path) if path.is_file() else ({}, {})
    for run in runs:
        if run.summary is None:
            continue
        made_of = json.loads((run.folder / "study.json").read_text(encoding="utf-8"))
        digests = [_digest(text) for text in made_of["configurations"]]
        texts |= dict(zip(digests, made_of["configurations"], strict=True))
        folder = run.folder.relative_to(root).as_posix()
        contents = {name: (run.folder / name).read_text(encoding="utf-8") for name in _FILES}
        records[folder] = {"made_of": made_of | {"configurations": digests}, "files": contents}
    lines = [{"digest": digest, "text": text} for digest, text in sorted(texts.items())]
    lines += [{"run": folder, **record} for folder, record in sorted(records.items())]
    write_file(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def restore_records(path: Path, root: Path) -> None:
    """Make the folders of the runs that a file tells of, as far as tables, figures and claims need them.

    A run that has ended there already is left as it is.

    Args:
        path: The file of :func:`save_records`.
        root: Folder of the study.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds something else.
    """
    texts, records = _read(path)
    for name, record in records.items():
        folder = root / name
        if Run(Path(name), 0, folder).summary is not None:
            continue
        made_of = record["made_of"]
        whole = made_of | {"configurations": [texts[one] for one in made_of["configurations"]]}
        write_file(folder / "study.json", json.dumps(whole, indent=1))
        # the summary, by which a run has ended, comes last
        for file in reversed(_FILES):
            write_file(folder / file, record["files"][file])


def _read(path: Path) -> tuple[dict[str, str], dict[str, Mapping[str, Any]]]:
    """The texts by digest and the records by folder."""
    texts: dict[str, str] = {}
    records: dict[str, Mapping[str, Any]] = {}
    # not at what else ends a line, which texts may hold
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not line:
            continue
        try:
            one = json.loads(line)
            if "text" in one:
                texts[one["digest"]] = one["text"]
                continue
            parts = Path(one["run"]).parts
            missing = [name for name in one["made_of"]["configurations"] if name not in texts]
            if missing or not parts or ".." in parts or Path(one["run"]).is_absolute():
                raise ValueError(f"no configuration {missing[:1]}, or no folder {one['run']!r}")
            if not all(isinstance(one["files"][name], str) for name in _FILES):
                raise ValueError("files are no texts")
            records[one["run"]] = {key: one[key] for key in ("made_of", "files")}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"`records` is expected to be a file of runs that a study has written, but line {number} of {path} is "
                f"none: {error!r}"
            ) from error
    return texts, records


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
