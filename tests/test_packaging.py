"""What gets installed is what stands in the tree, and the tree stands on its own."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAPPED = {
    "lit_fed": "lit_fed",
    "lit_fed/callbacks": "callbacks",
    "lit_fed/configs": "configs",
    "lit_fed/metrics": "metrics",
}


def _project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def _tracked(pattern: str = "*") -> list[Path]:
    """Return the files that git keeps: what lies about besides is nobody's business."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    names = subprocess.run(
        ["git", "ls-files", "-z", "--", pattern], cwd=ROOT, capture_output=True, check=True
    ).stdout.decode()
    paths = [ROOT / name for name in names.split("\0") if name]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def _tree() -> dict[str, Path]:
    """Return each module of the tree under the name it has once installed."""
    return _installed("*.py")


def _installed(pattern: str) -> dict[str, Path]:
    return {
        f"{installed}/{path.relative_to(ROOT / source).as_posix()}": path
        for installed, source in MAPPED.items()
        for path in _tracked(f"{source}/{pattern}")
    }


def test_every_package_is_listed_by_name() -> None:
    packages = {
        str(Path(name).parent).replace("/", ".") for name in _tree() if name.endswith("__init__.py")
    }
    assert packages == set(_project()["tool"]["setuptools"]["packages"])


def test_every_module_stands_in_a_package() -> None:
    tree = _tree()
    orphans = [name for name in tree if f"{Path(name).parent}/__init__.py" not in tree]
    assert orphans == []


def test_wheel_holds_the_tree(tmp_path: Path) -> None:
    # A copy, because setuptools leaves build/ and *.egg-info beside what it builds.
    source = tmp_path / "source"
    configs = _installed("*.yaml")
    for name, path in (_tree() | configs).items():
        target = source / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
        assert name.startswith("lit_fed/")
    for name in ("pyproject.toml", "LICENSE", "README.md", "lit_fed/py.typed"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    built = subprocess.run(
        [
            *(sys.executable, "-m", "build", "--wheel", "--no-isolation"),
            *("--outdir", str(tmp_path / "dist"), str(source)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr

    (wheel,) = (tmp_path / "dist").glob("lit_fed-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        content = {
            name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name
        }
        scripts = [n for n in archive.namelist() if n.endswith(".dist-info/entry_points.txt")]
        entry_points = archive.read(scripts[0]).decode()
        licenses = [n for n in archive.namelist() if n.endswith("licenses/LICENSE")]

    assert "lit_fed/configs/lora_fedavg.yaml" in configs
    assert "lit_fed/configs/data/tatoeba.yaml" in configs
    expected = {name: path.read_bytes() for name, path in (_tree() | configs).items()}
    expected["lit_fed/py.typed"] = (ROOT / "lit_fed/py.typed").read_bytes()
    assert set(content) == set(expected)
    assert content == expected
    assert "lit-fed = lit_fed.cli:main" in entry_points
    assert len(licenses) == 1

    # the wheel alone, in an empty folder: names are found, and one is copied
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    (tmp_path / "work").mkdir()
    command = (
        "from lit_fed.cli import main; main(['list']); main(['init', 'mine', '--config', 'msi'])"
    )
    used = subprocess.run(
        [sys.executable, "-c", command],
        cwd=tmp_path / "work",
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "data/tatoeba" in used.stdout
    copied = (tmp_path / "work" / "mine" / "msi.yaml").read_text("utf-8")
    assert copied.startswith("# lit-fed fit --config mine/msi.yaml\n")


@pytest.mark.parametrize("name", ["callbacks", "configs", "metrics"])
def test_links_lead_to_the_sources(name: str) -> None:
    link = ROOT / "lit_fed" / name
    assert link.is_symlink()
    assert not link.readlink().is_absolute()
    assert link.resolve() == ROOT / name


@pytest.mark.parametrize("name", ["callbacks", "configs", "metrics"])
def test_top_level_folders_are_not_installed_under_their_bare_name(
    name: str, tmp_path: Path
) -> None:
    found = subprocess.run(
        [sys.executable, "-c", f"import importlib.util as u; print(u.find_spec({name!r}))"],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == "None"


def test_constraints_pin_every_direct_dependency() -> None:
    def canonical(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins)
    pinned = {canonical(pin.split("==")[0]) for pin in pins}

    project = _project()["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["test"], *extras["dev"]]
    names = {canonical(re.split(r"[\[<>=!~; ]", requirement)[0]) for requirement in wanted}
    assert names - pinned == set()


def test_no_file_depends_on_the_machine_it_was_written_on() -> None:
    machine_path = re.compile(r"(?<![\w.$}~/-])/(?:home|opt|root|tmp|Users|work)/\w")
    own_index = re.compile(r"(?:index-url|find-links)\s*[= ]\s*\S|file:///")
    found = []
    for path in _tracked():
        if path == Path(__file__).resolve():
            continue
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            if machine_path.search(line) or own_index.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert found == []


def test_no_file_is_a_drawer_for_everything() -> None:
    drawers = {"utils", "helpers", "common", "misc"}
    assert [str(p) for p in _tracked() if p.suffix == ".py" and p.stem in drawers] == []
