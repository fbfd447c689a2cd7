"""What tests of notebooks see, and what they leave out."""

from pathlib import Path
from tempfile import gettempdir

import pytest
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook, new_output

from tests.notebooks import execution
from tests.notebooks.execution import execute, figures

HEADER = """\
---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  name: python3
---

# A notebook

```{code-cell} ipython3
"""


def notebook(folder: Path, code: str) -> Path:
    path = folder / "notebook.md"
    path.write_text(f"{HEADER}{code}\n```\n", encoding="utf-8")
    return path


def printed(*texts: str) -> list[str]:
    outputs = [new_output("stream", name="stdout", text=text) for text in texts]
    return figures(new_notebook(cells=[new_code_cell("…", outputs=outputs)]))


def test_figures_are_compared_and_seconds_and_folders_are_not() -> None:
    assert printed("accuracy 0.93") != printed("accuracy 0.94")
    assert printed("round 1/5  loss 0.5  3.1 s") == printed("round 1/5  loss 0.5  12.0 s")
    folder = f"adapter  {gettempdir()}/tmp"
    assert printed(f"{folder}ab_1/run") == printed(f"{folder}x/run")
    assert printed("<Thing at 0x7f0a1b2c3d>") == printed("<Thing at 0x7f0a1b2c99>")
    assert printed("686,320 bytes, 3.4 MB") != printed("686,321 bytes, 3.4 MB")


def test_pictures_and_tables_are_compared_and_what_varies_is_not() -> None:
    def shown(data: dict[str, str], **metadata: list[str]) -> list[str]:
        cell = new_code_cell("…", outputs=[new_output("display_data", data=data)])
        cell.metadata.update(metadata)
        return figures(new_notebook(cells=[cell]))

    plain = "<Figure size 640x480 with 1 Axes>"
    one, other = ({"image/png": png, "text/plain": plain} for png in ("iVBORa", "iVBORb"))
    assert shown(one) != shown(other)
    assert shown(one, tags=["varies"]) == shown(other, tags=["varies"]) == []
    assert shown({"text/markdown": "| 1 |", "text/plain": "…"}) == ["cell 0: | 1 |"]


@pytest.mark.slow
def test_a_second_kernel_is_another_one(tmp_path: Path) -> None:
    path = notebook(tmp_path, "import random\nprint(random.random())")
    first, second = (figures(execute(path, tmp_path / name)) for name in ("first", "second"))
    assert first != second


@pytest.mark.slow
def test_a_cell_that_raises_and_one_that_takes_too_long_are_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CellExecutionError, match="accuracy is too low"):
        execute(notebook(tmp_path, "raise ValueError('accuracy is too low')"), tmp_path / "raises")
    monkeypatch.setattr(execution, "LIMIT", 0.01)
    with pytest.raises(TimeoutError, match=r"notebook\.md may take 0 s"):
        execute(notebook(tmp_path, "print(1)"), tmp_path / "long")
    monkeypatch.setattr(execution, "PATIENCE", 20.0)
    with pytest.raises(TimeoutError, match=r"notebook\.md has not ended after 20 s"):
        execute(notebook(tmp_path, "import time\ntime.sleep(3600)"), tmp_path / "hangs")
