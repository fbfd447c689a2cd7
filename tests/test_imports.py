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


IMPORTS = """
import os, sys
for statement in sys.stdin.read().splitlines():
    if not os.fork():
        try:
            exec(statement)
            print(statement, *(name for name in {heavy} if name in sys.modules), sep="|", flush=True)
        finally:
            os._exit(0)
    os.wait()
"""


def imported_by(*statements: str) -> dict[str, set[str]]:
    """What each imports in a process of its own, which is a copy of one that has imported nothing."""
    child = subprocess.run(
        [sys.executable, "-c", IMPORTS.format(heavy=HEAVY)],
        input="\n".join(statements),
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    told = [line.split("|") for line in child.stdout.splitlines()]
    assert [statement for statement, *_ in told] == list(statements), child.stderr
    return {statement: set(names) for statement, *names in told}


LIGHT = [
    "import lit_fed",
    *(f"import {package}" for package in lazy_packages()),
    "from lit_fed.data import DirichletPartitioner, CSVSource, ParquetSource",
]


@pytest.fixture(scope="module")
def by_light_ones() -> dict[str, set[str]]:
    return imported_by(*LIGHT)


@pytest.mark.parametrize("statement", LIGHT)
def test_nothing_comes_along(statement: str, by_light_ones: dict[str, set[str]]) -> None:
    assert by_light_ones[statement] == set()


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ("from lit_fed import Payload", {"torch"}),
        ("from lit_fed.aggregation import WeightedAverage", {"torch"}),
        ("import lit_fed.losses", {"torch"}),
        ("from lit_fed.backbones import SequenceClassifier", {"torch"}),
    ],
)
def test_nothing_comes_along_before_it_is_needed(statement: str, allowed: set[str]) -> None:
    assert imported_by(statement)[statement] <= allowed


@pytest.mark.slow
def test_the_trainer_and_the_methods_add_nothing_to_what_lightning_imports() -> None:
    statement = "from lit_fed import DDGMSI, FedAvg, FederatedTrainer"
    assert imported_by(statement)[statement] <= OF_LIGHTNING


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
