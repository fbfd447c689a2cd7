"""Executes a notebook in a kernel of its own, and takes the figures from what its cells have put out."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import resource
import sys
import time
from pathlib import Path

import jupytext
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.md"))
LIMIT = 180.0
"""Seconds of processor time that a whole notebook may take, whatever else the machine does."""
PATIENCE = 1200.0
"""Seconds after which a notebook is believed to hang."""
VARIES = "varies"
"""The tag of a cell of which another execution puts out something else, for instance seconds that it compares."""

# seconds, folders of this execution and addresses in memory, which another one has of its own
_OWN = (
    (re.compile(r"\b\d+(\.\d+)? (ms|s|min)\b"), "… s"),
    (re.compile(r"(/[\w.@+=-]+)+/tmp[\w-]+|/tmp/[\w./@+=-]+"), "a temporary folder"),
    (re.compile(r"\b0x[0-9a-f]{6,}"), "an address"),
)


def execute(path: Path, folder: Path) -> NotebookNode:
    """The notebook with its outputs, executed in an empty folder.

    Raises:
        CellExecutionError: If a cell raises.
        TimeoutError: If it takes more than it may.
    """
    notebook = jupytext.read(path)
    folder.mkdir(parents=True)
    # a history of what was typed is nobody's here, nor are settings of the user's
    own = {"IPYTHONDIR": str(folder / ".ipython"), "JUPYTER_RUNTIME_DIR": str(folder / ".jupyter")}
    environment = {
        **os.environ,
        **own,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    client = NotebookClient(
        notebook,
        timeout=None,
        kernel_name=notebook.metadata.kernelspec.name,
        resources={"metadata": {"path": str(folder)}},
    )

    async def patiently() -> None:
        begun = time.monotonic()
        try:
            await asyncio.wait_for(client.async_execute(env=environment), PATIENCE)
        except (TimeoutError, DeadKernelError) as error:  # a kernel that is ended is called dead
            if time.monotonic() - begun < PATIENCE:
                raise
            raise TimeoutError(f"{path.name} has not ended after {PATIENCE:.0f} s") from error

    before = _seconds_of_children()
    try:
        asyncio.run(patiently())
    finally:
        # What finalizers of the kernel's client import is compiled here: in the middle of another module's compilation,
        # CPython 3.11 can raise SystemError (https://github.com/python/cpython/issues/106905).
        gc.collect()
    if (seconds := _seconds_of_children() - before) > LIMIT:
        raise TimeoutError(f"{path.name} may take {LIMIT:.0f} s, but has taken {seconds:.0f} s")
    return notebook


def figures(notebook: NotebookNode) -> list[str]:
    """What each cell has put out, texts and pictures, without what every execution has of its own."""
    found = []
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type != "code" or VARIES in cell.metadata.get("tags", []):
            continue
        for output in cell.outputs:
            if output.output_type == "stream":
                # warnings come there, with paths and in whatever number of pieces
                text = output.text if output.name == "stdout" else ""
            else:
                data = output.get("data", {})
                kinds = ("image/png", "text/markdown", "text/plain")
                text = next((data[kind] for kind in kinds if kind in data), "")
            for pattern, instead in _OWN:
                text = pattern.sub(instead, text)
            if text:
                found.append(f"cell {number}: {text}")
    return found


def _seconds_of_children() -> float:
    """Processor time of the child processes that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
