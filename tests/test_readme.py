"""Every block of the README runs as it is printed; what is not run says why."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.federation.toy import save_toy_model, toy_rows
from tests.methods.toy_methods import save_toy_lm

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(?:<!-- (file|not run): (.*?) -->\n)?```(\w+)\n(.*?)```", re.DOTALL)
REASONS = {"hours", "wants four devices", "a summary", "they install"}


@dataclass
class Block:
    language: str
    text: str
    mark: str
    said: str


def blocks() -> list[Block]:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return [Block(found[3], found[4], found[1], found[2]) for found in BLOCK.finditer(readme)]


def of(language: str) -> list[Block]:
    found = [one for one in blocks() if one.language == language and one.mark != "not run"]
    assert found
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the README speaks of: two tables, files of clients, two models, and the files that it prints."""
    monkeypatch.chdir(tmp_path)
    rows = toy_rows(80, 0)
    pairs = list(zip(rows["text"], rows["label"], strict=True))
    lines = [f"{text},{label},{'abc'[i % 3]}" for i, (text, label) in enumerate(pairs)]
    for name in ("notes", "unseen_notes"):
        (tmp_path / f"{name}.csv").write_text("\n".join(["note,urgent,ward", *lines]))
    # new rows have no label
    (tmp_path / "new_notes.csv").write_text("\n".join(["note,ward", *[f"{t},a" for t, _ in pairs]]))
    records = [
        {"question": text, "answer": ("bad", "good")[label], "hospital": "xy"[i % 2]}
        for i, (text, label) in enumerate(pairs)
    ]
    for name in ("train", "test"):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, records)))
    (tmp_path / "wards").mkdir()
    for ward in "ab":
        (tmp_path / "wards" / f"{ward}.csv").write_text("\n".join(["note,urgent,ward", *lines]))
    save_toy_model(tmp_path / "my_model")
    save_toy_lm(tmp_path / "my_language_model")
    for block in blocks():
        if block.mark == "file":
            (tmp_path / block.said).write_text(block.text)
    return tmp_path


def test_what_is_not_run_says_why() -> None:
    assert {one.said for one in blocks() if one.mark == "not run"} == REASONS
    targets = (ROOT / "Makefile").read_text()
    for block in blocks():
        for target in re.findall(r"^make (\w+)", block.text, re.MULTILINE):
            assert f"\n{target}:" in targets


@pytest.mark.slow
def test_the_python_blocks_run_in_their_order(folder: Path) -> None:
    text = "\n".join(one.text for one in of("python") if one.mark != "file")
    (folder / "blocks.py").write_text(text)
    _run([sys.executable, "blocks.py"], folder)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len([b for b in blocks() if b.language == "bash"])))
def test_the_shell_blocks_run(number: int, folder: Path) -> None:
    every = [one for one in blocks() if one.language == "bash"]
    if every[number].mark == "not run":
        pytest.skip(every[number].said)
    _run(["bash", "-euo", "pipefail", "-c", every[number].text], folder)


@pytest.mark.slow
def test_the_settings_that_stand_alone_fit_the_configuration_before(folder: Path) -> None:
    for number, block in enumerate(of("yaml")):
        if block.mark == "file":
            continue
        (folder / f"{number}.yaml").write_text(block.text)
        assert set(yaml.safe_load(block.text)) <= {"model", "data", "trainer"}
        words = f"lit-fed fit --config mine.yaml --data.partitioner null --config {number}.yaml"
        _run(["bash", "-c", words], folder)


def _run(command: list[str], folder: Path) -> None:
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
