"""Pictures of TensorBoard for the documentation: runs of the embedded models, and a browser without a screen.

    python tools/tensorboard_pictures.py                    # runs in runs/pictures, pictures in docs/figures
    python tools/tensorboard_pictures.py --root runs/mine   # goes on with what is there

It needs Chromium or Chrome on the path, or named as ``--browser``. The runs take some minutes on two cores.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_RENDERED_MS = 60_000  # of the browser's own clock, which runs ahead while nothing happens
_SETTLED = "_smoothingWeight=0"  # curves as they were logged

RUNS: dict[str, list[str]] = {
    "fedavg": ["--config=lora_fedavg"],
    "fedprox": ["--config=fedprox", "--trainer.max_rounds=5"],
    "ddg_msi_tasks": [
        "--config=ddg_msi",
        "--config=data/embedded_tasks",
        "--trainer.rounds_per_task=2",
        "--trainer.local_steps=2",
        "--trainer.clients_per_round=2",
    ],
    "instructions": [
        "--config=lora_fedavg_instructions",
        "--trainer.max_rounds=2",
        "--trainer.local_steps=10",
        "--trainer.callbacks+=lit_fed.callbacks.SampleGenerations",
    ],
}
"""Settings of ``lit-fed fit`` by the names of the runs."""


class Picture(NamedTuple):
    """A picture.

    Attributes:
        name: Of its file.
        runs: The runs that TensorBoard shows: a folder below the runs' root, or that itself.
        place: What stands behind ``#`` in the address.
        size: Width and height of the window in pixels.
    """

    name: str
    runs: str
    place: str
    size: tuple[int, int] = (1280, 1500)


PICTURES = (
    Picture("tensorboard_curves", "fedavg", f"custom_scalars&{_SETTLED}", (1280, 2700)),
    Picture("tensorboard_terms", "ddg_msi_tasks", f"custom_scalars&{_SETTLED}", (1280, 4000)),
    Picture("tensorboard_task_matrix", "ddg_msi_tasks", "images", (1280, 900)),
    Picture("tensorboard_samples", "instructions", "text", (1280, 1100)),
    Picture("tensorboard_hparams", ".", "hparams", (1600, 900)),
)


def make_runs(root: Path) -> None:
    """Make the runs that are not there yet.

    Args:
        root: Where they go, a folder each.
    """
    for name, settings in RUNS.items():
        folder = root / name
        if (folder / "summary.json").is_file():
            continue
        command = [sys.executable, "-m", "lit_fed", "fit", *settings, "--ckpt_path=last"]
        command += [f"--trainer.default_root_dir={folder}", "--trainer.enable_progress_bar=false"]
        print("run", name, flush=True)
        subprocess.run(command, check=True, cwd=ROOT)


@contextmanager
def tensorboard(root: Path, runs: str) -> Iterator[str]:
    """A TensorBoard over some runs.

    Args:
        root: The folder of all runs. TensorBoard runs there, since it shows where the runs are as it is told.
        runs: The runs' folder below it.

    Yields:
        Its address, when it answers.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", runs]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(
        command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(120):
            try:
                with urllib.request.urlopen(f"{address}/data/runs", timeout=5) as answer:
                    if answer.read().strip() != b"[]":
                        break
            except OSError:
                pass
            time.sleep(1)
        else:
            raise TimeoutError(
                f"TensorBoard at {address} has shown no run of {root / runs} in two minutes"
            )
        time.sleep(5)  # it has the names of runs before it has read all of them
        yield address
    finally:
        server.terminate()
        server.wait()


def take(address: str, picture: Picture, folder: Path, browser: str) -> Path:
    """Take a picture.

    Args:
        address: TensorBoard's.
        picture: Which.
        folder: Where it goes.
        browser: The browser's program.

    Returns:
        The file.

    Raises:
        FileNotFoundError: If the browser has made none.
    """
    path = folder / f"{picture.name}.png"
    path.unlink(missing_ok=True)
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += [f"--virtual-time-budget={_RENDERED_MS}", f"--screenshot={path}"]
    command += ["--window-size={},{}".format(*picture.size), f"{address}/#{picture.place}"]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    if not path.is_file():
        raise FileNotFoundError(f"{browser} has made no picture {path}")
    return path


def main() -> None:
    """Make the runs and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--root", type=Path, default=ROOT / "runs" / "pictures")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "figures")
    parser.add_argument("--browser", default=next(filter(shutil.which, BROWSERS), None))
    given = parser.parse_args()
    if given.browser is None:
        sys.exit(f"--browser is expected where none of {', '.join(BROWSERS)} is on the path")
    make_runs(given.root)
    given.output.mkdir(parents=True, exist_ok=True)
    for picture in PICTURES:
        with tensorboard(given.root, picture.runs) as address:
            print(take(address, picture, given.output, given.browser))


if __name__ == "__main__":
    main()
