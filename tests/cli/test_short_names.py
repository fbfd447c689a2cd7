"""Classes are named without a path, also those that nobody has imported yet."""

import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "setting", "name"),
    [
        ("semantic_consensus", "model.selector", "DawidSkene"),
        ("semantic_consensus", "model.selector", "RandomClient"),
        ("prototype_defense", "model.gate", "ConformalGate"),
        ("lora_fedavg", "model.aggregation", "FLAME"),
    ],
)
def test_a_fresh_process_knows_it(config: str, setting: str, name: str) -> None:
    words = ["fit", "--config", config, f"--{setting}", name, "--print_config"]
    done = subprocess.run(
        [sys.executable, "-m", "lit_fed", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f".{name}\n" in done.stdout
