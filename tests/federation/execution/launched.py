"""Runs of several real processes, started as a user starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from lit_fed.federation import FederationState, last_checkpoint
from lit_fed.federation.run.checkpoint import load_checkpoint
from tests.federation.toy import save_toy_config

ROOT = Path(__file__).parents[3]


def python_m(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *words]
    environment = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "WORLD_SIZE")}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300
    )


def last_state(root: Path) -> FederationState:
    return load_checkpoint(last_checkpoint(root))


def config_with(folder: Path, **trainer: Any) -> str:
    path = save_toy_config(folder)
    config = yaml.safe_load(path.read_text())
    config["trainer"] |= {
        "execution": "lit_fed.federation.DistributedClients",
        "devices": 2,
        "default_root_dir": str(folder / "run"),
        "loggers": False,
        **trainer,
    }
    path.write_text(yaml.safe_dump(config))
    return str(path)


def dies(rank: int, others_train: float = 0.0) -> dict[str, Any]:
    kind = "tests.federation.execution.dying_process.Dies"
    return {"class_path": kind, "init_args": {"rank": rank, "others_train": others_train}}
