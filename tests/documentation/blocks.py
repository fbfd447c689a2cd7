"""The code blocks of README and site, and what is said of them: ``<!-- file: … -->`` or ``<!-- not run: … -->``."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

from tests.federation.toy import save_toy_model, toy_rows
from tests.methods.toy_methods import save_toy_lm

ROOT = Path(__file__).resolve().parents[2]
GENERATED = ROOT / "docs" / "configurations.md"
PAGES = {
    path.relative_to(ROOT).as_posix(): path
    for path in (
        *sorted(ROOT.glob("*.md")),
        ROOT / "notebooks" / "README.md",
        *sorted((ROOT / "docs").rglob("*.md")),
    )
    if path != GENERATED and "_build" not in path.parts
}
RECORDS = {"docs/results.md": "hours"}
"""Pages whose commands are those of measurements, with the reason why none is run by the tests."""
_MARK = re.compile(r"<!-- (file|not run): (.*?) -->\s*")


@dataclass(frozen=True)
class Block:
    """A code block: its language and text, and the mark above it with what the mark says."""

    language: str
    text: str
    mark: str = ""
    said: str = ""

    @property
    def runs(self) -> bool:
        """Whether it is run as it stands, and not written to a file or left alone."""
        return not self.mark


def blocks(page: str) -> list[Block]:
    """The blocks of a page in their order, those of Sphinx's directives left out."""
    alone = ("not run", RECORDS[page]) if page in RECORDS else ("", "")
    found, mark = [], alone
    for token in MarkdownIt().parse(PAGES[page].read_text("utf-8")):
        if token.type == "fence":
            if token.info and not token.info.startswith("{"):
                found.append(Block(token.info.strip(), token.content, *mark))
            mark = alone
        elif token.type == "html_block" and (said := _MARK.fullmatch(token.content)):
            mark = said[1], said[2]
        elif token.map:
            mark = alone
    return found


def of(page: str, language: str) -> list[Block]:
    """The blocks of a page in a language that are run."""
    return [one for one in blocks(page) if one.language == language and one.runs]


def make_folder(folder: Path, page: str) -> None:
    """Write what pages speak of: tables, files of clients, two models, and the files that the page prints."""
    rows = toy_rows(80, 0)
    pairs = list(zip(rows["text"], rows["label"], strict=True))
    lines = [f"{text},{label},{'abc'[i % 3]}" for i, (text, label) in enumerate(pairs)]
    for name in ("notes", "unseen_notes"):
        (folder / f"{name}.csv").write_text("\n".join(["note,urgent,ward", *lines]))
    # new rows have no label
    (folder / "new_notes.csv").write_text("\n".join(["note,ward", *[f"{t},a" for t, _ in pairs]]))
    records = [
        {"question": text, "answer": ("bad", "good")[label], "hospital": "xy"[i % 2]}
        for i, (text, label) in enumerate(pairs)
    ]
    for name in ("train", "test"):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, records)))
    (folder / "wards").mkdir()
    for ward in "ab":
        (folder / "wards" / f"{ward}.csv").write_text("\n".join(["note,urgent,ward", *lines]))
    save_toy_model(folder / "my_model")
    save_toy_lm(folder / "my_language_model")
    for block in blocks(page):
        if block.mark == "file":
            (folder / block.said).write_text(block.text)


def run(command: list[str], folder: Path) -> None:
    """Run a command in a folder, with federations as small as they can be, and show what it says if it fails."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT / 'tests' / 'small_settings'}:{ROOT}",
        "COLUMNS": "120",
    }
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def in_page_order(page: str) -> str:
    """A Python script of a page's blocks that are run, in their order: what one makes, the next one finds."""
    lines = ["import subprocess"]
    for block in blocks(page):
        if block.runs and block.language == "bash":
            command = ["bash", "-euo", "pipefail", "-c", block.text]
            lines.append(f"subprocess.run({command!r}, check=True)")
        elif block.runs and block.language == "python":
            lines.append(block.text)
    return "\n".join(lines)


def run_bash(text: str, folder: Path) -> None:
    """Run lines of a shell, the first that fails being the end."""
    run(["bash", "-euo", "pipefail", "-c", text], folder)
