"""What the site is built with, and that its pages leave nothing out. The build itself is `make docs`."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import lit_fed.methods
from lit_fed.cli.inventory import KINDS, classes
from lit_fed.configurations import configurations
from tests.documentation.blocks import GENERATED, ROOT
from tools.documentation.api_pages import homes, write_pages
from tools.documentation.configurations_page import Header, configurations_page
from tools.documentation.mathml import mathml
from tools.documentation.measure_configurations import MEASURED, write_measured

TOOLS = sorted(path.stem for path in (ROOT / "tools" / "documentation").glob("*.py"))


@pytest.mark.parametrize("name", TOOLS)
def test_the_examples_hold(name: str) -> None:
    assert doctest.testmod(import_module(f"tools.documentation.{name}")).failed == 0


def test_the_reference_has_every_public_name_once(tmp_path: Path) -> None:
    described = homes()
    every = [f"{package}.{name}" for package, names in described.items() for name in names]
    values = [
        id(getattr(import_module(one.rpartition(".")[0]), one.rpartition(".")[2])) for one in every
    ]
    assert len(set(values)) == len(values)
    # what a configuration names is found under this name
    assert {name for kind in KINDS for name in classes(kind)} <= set(every)
    write_pages(tmp_path)
    pages = {path.stem for path in tmp_path.glob("*.rst")}
    assert pages == {package for package, names in described.items() if names} | {"index"}
    assert {"lit_fed.Update", "lit_fed.Attachment", "lit_fed.Stage"} <= set(every)


def test_a_page_whose_package_is_gone_is_removed(tmp_path: Path) -> None:
    (tmp_path / "lit_fed.gone.rst").write_text("old")
    write_pages(tmp_path)
    assert not (tmp_path / "lit_fed.gone.rst").exists()


def test_the_page_of_configurations_is_that_of_the_headers() -> None:
    assert GENERATED.read_text("utf-8") == configurations_page(), "run `make docs`, and commit it"
    assert all(f"[`{name}`]" in configurations_page() for name in configurations())


def test_what_was_measured_is_written_over(tmp_path: Path) -> None:
    config = tmp_path / "a.yaml"
    config.write_text("# lit-fed fit --config a\n# An example.\nmodel: null # as it is\n")
    write_measured(config, "3 s.")
    write_measured(config, "4 s.")
    assert config.read_text().splitlines()[2:] == [f"{MEASURED}4 s.", "model: null # as it is"]
    assert Header.of(config.read_text()) == Header("lit-fed fit --config a", "An example.", "4 s.")


def test_a_formula_that_is_not_understood_is_told() -> None:
    assert "∑</mo>" in mathml(r"\sum_k w_k \big( \dots \big)", block=True)
    assert "<mtable" in mathml(r"a &= b \\ c &= d", block=True)
    with pytest.raises(ValueError, match=r"nonsense"):
        mathml(r"\nonsense", block=False)


def test_pages_that_are_there_are_listed() -> None:
    index = ROOT / "docs" / "index.md"
    listed = index.read_text("utf-8")
    for path in (ROOT / "docs").glob("*/index.md"):
        assert f"{path.parent.name}/index\n" in listed
    for path in (ROOT / "docs" / "how_to").glob("*.md"):
        assert f"how_to/{path.stem}\n" in listed


def test_what_leaves_a_site_is_told_of_every_method() -> None:
    page = (ROOT / "docs" / "threat_models.md").read_text("utf-8")
    rows = "\n".join(line for line in page.splitlines() if line.startswith("|"))
    methods = set(lit_fed.methods.__all__) - {"AveragingMixin"}
    assert {name for name in methods if f"`{name}`" not in rows} == set()
