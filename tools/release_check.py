"""Check of a release: versions agree, the changelog has it, and the built wheel alone works in an empty folder.

``python tools/release_check.py`` leaves the archives in ``dist/``; with ``--draft`` the changelog may lack a heading
for the version.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
INSTALLED = {
    "lit_fed": "lit_fed",
    "callbacks": "lit_fed/callbacks",
    "configs": "lit_fed/configs",
    "metrics": "lit_fed/metrics",
}
"""Folders of the tree, by what they are called in the wheel."""

COMMANDS = (
    ("--version",),
    ("list",),
    ("init", "mine"),
    ("fit", "--config=mine/lora_fedavg.yaml", "--trainer.fast_dev_run=true"),
)
"""What is tried of the installed wheel."""


def problems(root: Path, draft: bool) -> list[str]:
    """What in the files does not fit together, a line each.

    Args:
        root: The project's folder.
        draft: Whether the changelog may lack a heading for the version.
    """
    version = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    cited = re.search(r"^version: (\S+)$", (root / "CITATION.cff").read_text("utf-8"), re.M)
    found = []
    if cited is None or cited[1] != version:
        found.append(f"CITATION.cff is expected to have version {version} as pyproject.toml")
    changelog = (root / "CHANGELOG.md").read_text("utf-8")
    sections = re.split(r"^## ", changelog, flags=re.M)[1:]
    if not sections or not sections[0].startswith("[Unreleased]"):
        found.append("CHANGELOG.md is expected to begin with ## [Unreleased]")
    heading = rf"\[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d\n"
    of_version = [section for section in sections if re.match(heading, section)]
    if not draft and not of_version:
        found.append(f"CHANGELOG.md is expected to have a heading ## [{version}] - YYYY-MM-DD")
    told = of_version or sections[:1]
    if not any(re.search(r"^- ", section, re.M) for section in told):
        found.append("CHANGELOG.md is expected to say what has changed")
    return found


def tracked(root: Path) -> set[str]:
    """The files of the wheel, by their names in it, as git has them in the tree."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", *INSTALLED], cwd=root, capture_output=True, check=True
    ).stdout.decode()
    names = set()
    for name in filter(None, listed.split("\0")):
        top, _, rest = name.partition("/")
        if not (root / name).is_symlink() and rest:
            names.add(f"{INSTALLED[top]}/{rest}")
    return names


def build(root: Path, output: Path) -> tuple[Path, Path]:
    """Build the source archive of what git has, and from it the wheel.

    Args:
        root: The project's folder.
        output: Where both go.

    Returns:
        The source archive and the wheel.
    """
    with tempfile.TemporaryDirectory() as copied:
        # a copy, since setuptools leaves folders of its own beside what it builds
        files = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True)
        for name in filter(None, files.stdout.decode().split("\0")):
            source, target = root / name, Path(copied, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(output), copied]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (archive,), (wheel,) = output.glob("*.tar.gz"), output.glob("*.whl")
    return archive, wheel


def differences(archive: Path, wheel: Path, expected: set[str]) -> list[str]:
    """What the archives have too little or too much, a line each.

    Args:
        archive: The source archive.
        wheel: The wheel.
        expected: The wheel's files, but for what tells of it.
    """
    with zipfile.ZipFile(wheel) as opened:
        held = {name for name in opened.namelist() if ".dist-info/" not in name}
    with tarfile.open(archive) as opened_archive:
        sources = {name.partition("/")[2] for name in opened_archive.getnames()}
    found = [f"the wheel is expected to have {name}" for name in sorted(expected - held)]
    found += [f"the wheel is expected not to have {name}" for name in sorted(held - expected)]
    wanted = {"LICENSE", "README.md", "pyproject.toml"}
    return found + [f"the archive is expected to have {name}" for name in sorted(wanted - sources)]


def try_wheel(wheel: Path) -> None:
    """Install a wheel alone into an empty folder, and run the commands from another one.

    Args:
        wheel: The wheel. What it depends on is that of this environment.

    Raises:
        subprocess.CalledProcessError: If one of them fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        site, work = Path(folder, "site"), Path(folder, "work")
        work.mkdir()
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
        subprocess.run([*install, "--target", str(site), str(wheel)], check=True)
        environment = os.environ | {"PYTHONPATH": str(site)}
        for words in COMMANDS:
            print("lit-fed", *words, flush=True)
            subprocess.run(
                [sys.executable, "-m", "lit_fed", *words],
                cwd=work,
                env=environment,
                check=True,
                stdout=subprocess.DEVNULL,
            )


def main() -> None:
    """Check the release."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--draft", action="store_true", help="without a heading for the version")
    parser.add_argument("--output", type=Path, default=ROOT / "dist")
    given = parser.parse_args()
    found = problems(ROOT, given.draft)
    if not found:
        shutil.rmtree(given.output, ignore_errors=True)
        archive, wheel = build(ROOT, given.output)
        found = differences(archive, wheel, tracked(ROOT))
    if found:
        sys.exit("\n".join(found))
    try_wheel(wheel)
    print(f"{archive} and {wheel} can be published")


if __name__ == "__main__":
    main()
