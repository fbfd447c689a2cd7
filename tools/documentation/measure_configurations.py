"""Run configurations as their headers say, and write into each header what the run took and ended with.

    python -m tools.documentation.measure_configurations lora_fedavg attacks/trigger

Each runs alone with one thread. What is written is the processor's time, which other work on the machine changes
less than the time on the clock, and the run's main metric.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

MEASURED = "# Measured: "
MAIN = (
    "test/accuracy",
    "clients/test/accuracy/mean",
    "test/right",
    "test/loss",
    "clients/test/loss/mean",
)
"""The metric that is told: the first of these that a run has."""
ATTACK = "backdoor/asr"
"""What is told beside it of a run that has been attacked, in percent."""


def measured(config: Path, root: Path) -> str:
    """Run a configuration, and say what it took and ended with.

    Args:
        config: The YAML, whose first line is its command.
        root: The repository, from which the command is run.

    Raises:
        RuntimeError: If the run fails.
    """
    command = config.read_text("utf-8").splitlines()[0].removeprefix("# lit-fed ")
    with TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "lit_fed", *shlex.split(command)]
        words += ["--trainer.default_root_dir", folder, "--trainer.enable_progress_bar", "false"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
        log = Path(folder) / "log"
        with log.open("w") as output:
            actions = [(os.POSIX_SPAWN_DUP2, output.fileno(), number) for number in (1, 2)]
            child = os.posix_spawn(words[0], words, environment, file_actions=actions)
            _, status, usage = os.wait4(child, 0)
        if status:
            raise RuntimeError(f"{shlex.join(words)} has failed: {log.read_text()[-2000:]}")
        summary = json.loads((Path(folder) / "summary.json").read_text("utf-8"))
    seconds = usage.ru_utime + usage.ru_stime
    metrics = summary["metrics"]
    name = next(name for name in MAIN if name in metrics)
    ends = f"{name} {metrics[name]:.3f}"
    if ATTACK in metrics:
        ends += f" and {ATTACK} {metrics[ATTACK]:.1f} %"
    return f"{seconds:.0f} s of one core; ends with {ends} (seed {summary['seed']})."


def write_measured(config: Path, line: str) -> None:
    """Write what was measured as the last line of a configuration's header, in the place of what is there.

    Args:
        config: The YAML.
        line: What was measured.
    """
    text = re.sub(f"^{MEASURED}.*\n", "", config.read_text("utf-8"), flags=re.MULTILINE)
    header = re.match(r"(#.*\n)+", text)
    end = 0 if header is None else header.end()
    config.write_text(f"{text[:end]}{MEASURED}{line}\n{text[end:]}", "utf-8")


def main(names: list[str]) -> None:
    """Measure configurations one after the other.

    Args:
        names: Their names, as in ``lit-fed list``.
    """
    root = Path(__file__).resolve().parents[2]
    for name in names:
        config = root / "configs" / f"{name}.yaml"
        try:
            line = measured(config, root)
        except RuntimeError as error:
            print(name, error, flush=True)
            continue
        write_measured(config, line)
        print(name, line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
