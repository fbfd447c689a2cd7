"""The check of a release: what it refuses, and that this tree passes it."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tools import release_check

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("pyproject.toml", "CITATION.cff", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def test_this_tree_is_ready_but_for_the_heading(project: Path) -> None:
    assert release_check.problems(project, draft=True) == []


def test_versions_that_differ_and_a_changelog_that_says_nothing(project: Path) -> None:
    (project / "CITATION.cff").write_text("version: 9.9.9\n")
    (project / "CHANGELOG.md").write_text("# Changelog\n\n## [Unreleased]\n")
    said = "\n".join(release_check.problems(project, draft=False))
    assert "CITATION.cff is expected to have version" in said
    assert "CHANGELOG.md is expected to have a heading ## [" in said
    assert "CHANGELOG.md is expected to say what has changed" in said


def test_a_heading_with_its_lines(project: Path) -> None:
    version = release_check.tomllib.loads((project / "pyproject.toml").read_text())["project"]
    text = f"## [Unreleased]\n\n## [{version['version']}] - 2030-01-02\n\n- Something.\n"
    (project / "CHANGELOG.md").write_text(text)
    assert release_check.problems(project, draft=False) == []


def test_files_too_many_and_too_few(tmp_path: Path) -> None:
    wheel, archive = tmp_path / "a.whl", tmp_path / "a.tar.gz"
    with zipfile.ZipFile(wheel, "w") as opened:
        opened.writestr("lit_fed/__init__.py", "")
        opened.writestr("tests/secret.py", "")
        opened.writestr("a.dist-info/METADATA", "")
    (tmp_path / "LICENSE").write_text("")
    with tarfile.open(archive, "w:gz") as opened_archive:
        for name in ("LICENSE", "README.md"):
            opened_archive.add(tmp_path / "LICENSE", f"a-1/{name}")
    expected = {"lit_fed/__init__.py", "lit_fed/py.typed"}
    assert release_check.differences(archive, wheel, expected) == [
        "the wheel is expected to have lit_fed/py.typed",
        "the wheel is expected not to have tests/secret.py",
        "the archive is expected to have pyproject.toml",
    ]


@pytest.mark.slow
def test_the_whole_check_passes(tmp_path: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    done = subprocess.run(
        [sys.executable, "tools/release_check.py", "--draft", "--output", str(tmp_path / "dist")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].endswith("can be published")
