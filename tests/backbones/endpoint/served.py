"""`transformers serve` in a process of its own, on a port of localhost."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from transformers.utils.import_utils import is_serve_available

needs_transformers_serve = pytest.mark.skipif(
    not is_serve_available(),
    reason="needs `transformers serve`: pip install 'transformers[serving]'",
)


@contextmanager
def served(model: Path, log: Path) -> Iterator[str]:
    """The address below which a model's folder is served."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = ["--host=127.0.0.1", f"--port={port}", "--device=cpu", "--dtype=float32"]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(model), *where]
    with log.open("w") as out:
        process = subprocess.Popen(
            command,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_until_it_listens(process, port, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    ends = time.monotonic() + 180
    while process.poll() is None and time.monotonic() < ends:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    process.kill()
    raise RuntimeError(f"transformers serve did not start: {log.read_text()[-2000:]}")
