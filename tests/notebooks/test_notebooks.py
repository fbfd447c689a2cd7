"""Every notebook runs offline within its time, and a second kernel gives the same figures."""

import re
from pathlib import Path

import jupytext
import pytest

from tests.notebooks.execution import NOTEBOOKS, PATIENCE, ROOT, execute, figures

QUICK = ("02_own_data_and_model", "09_reading_the_results")
NAMES = [path.stem for path in NOTEBOOKS]


def test_the_quick_ones_are_there() -> None:
    assert set(QUICK) <= set(NAMES)


@pytest.mark.timeout(PATIENCE + 60)
@pytest.mark.parametrize("name", QUICK)
def test_a_notebook_runs(name: str, tmp_path: Path) -> None:
    assert figures(execute(ROOT / "notebooks" / f"{name}.md", tmp_path / "run"))


@pytest.mark.slow
@pytest.mark.timeout(2 * PATIENCE + 60)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_a_second_kernel_gives_the_same_figures(path: Path, tmp_path: Path) -> None:
    first, second = (figures(execute(path, tmp_path / which)) for which in ("first", "second"))
    assert first
    assert first == second


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_a_notebook_is_plain_text_with_a_title(path: Path) -> None:
    notebook = jupytext.read(path)
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.metadata.jupytext.text_representation.format_name == "myst"
    assert notebook.cells[0].cell_type == "markdown"
    assert re.match(r"# \S", notebook.cells[0].source)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    # it would hide what a cell raises; `with capture_output():` does not
    assert not any("%%capture" in source for source in code)


def test_the_list_names_every_notebook() -> None:
    listed = (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")
    names = re.findall(r"\]\((\w+\.md)\)", listed)
    assert names == sorted(set(names))
    assert {path.name for path in NOTEBOOKS} <= set(names)
