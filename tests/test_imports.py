"""What comes along with an import: nothing before something needs it."""

import ast
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = (
    "datasets",
    "lightning",
    "matplotlib",
    "pandas",
    "peft",
    "rich",
    "scipy",
    "torch",
    "torch._dynamo",
    "torchmetrics",
    "transformers",
)
# Lightning itself imports these, so they come with every module that needs it.
OF_LIGHTNING = {
    "lightning",
    "matplotlib",
    "rich",
    "scipy",
    "torch",
    "torch._dynamo",
    "torchmetrics",
    "transformers",
}


def lazy_packages() -> list[str]:
    # "**" does not follow the links callbacks and metrics, "*" does
    faces = {*ROOT.glob("lit_fed/**/__init__.py"), *ROOT.glob("lit_fed/*/__init__.py")}
    return sorted(
        ".".join(face.parent.relative_to(ROOT).parts)
        for face in faces
        if "lazy_names(__name__)" in face.read_text("utf-8")
    )


def imported_by(statement: str) -> set[str]:
    command = (
        f"{statement}\nimport sys\nprint(*(name for name in {HEAVY!r} if name in sys.modules))"
    )
    child = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(child.stdout.split())


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ("import lit_fed", set()),
        *((f"import {package}", set()) for package in lazy_packages()),
        ("from lit_fed.data import DirichletPartitioner, CSVSource, ParquetSource", set()),
        ("from lit_fed import Payload", {"torch"}),
        ("from lit_fed.aggregation import WeightedAverage", {"torch"}),
        ("import lit_fed.losses", {"torch"}),
        ("from lit_fed.backbones import SequenceClassifier", {"torch"}),
    ],
)
def test_nothing_comes_along_before_it_is_needed(statement: str, allowed: set[str]) -> None:
    assert imported_by(statement) <= allowed


@pytest.mark.slow
def test_the_trainer_and_the_methods_add_nothing_to_what_lightning_imports() -> None:
    assert imported_by("from lit_fed import DDGMSI, FedAvg, FederatedTrainer") <= OF_LIGHTNING


@pytest.mark.parametrize("package", lazy_packages())
def test_a_lazy_package_has_every_name_that_it_says(package: str) -> None:
    face = import_module(package)
    for name in face.__all__:
        assert getattr(face, name) is not None
        assert name in dir(face)
        # importing a submodule sets it in its package, where it would hide the name
        assert find_spec(f"{package}.{name}") is None
    assert len(lazy_packages()) > 10


@pytest.mark.parametrize("package", lazy_packages())
def test_what_a_lazy_package_imports_for_type_checkers_is_what_it_says(package: str) -> None:
    face = import_module(package)
    source = Path(str(face.__file__)).read_text("utf-8")
    imported = [
        alias.name
        for block in ast.parse(source).body
        if isinstance(block, ast.If)
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    ]
    assert sorted(imported) == sorted(face.__all__)


def test_a_name_that_there_is_not_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'lit_fed' has no attribute 'FedAvgg'"):
        import_module("lit_fed").FedAvgg  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'Median'"):
        exec("from lit_fed.aggregation import Median")


def test_submodules_are_found_without_an_import_of_their_own() -> None:
    command = "import lit_fed; print(lit_fed.data.partitioners.IIDPartitioner.__name__)"
    child = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert child.stdout.strip() == "IIDPartitioner"
