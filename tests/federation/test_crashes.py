"""The crash campaign: runs killed by SIGKILL at chosen changes of files and at random moments, and resumed.

``pytest -m slow tests/federation/test_crashes.py --kills 200`` kills 200 times over all configurations;
``--crash-config mine.yaml``, once or more, does so with configurations of ``lit-fed fit`` in place of the ones here.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.federation.published import differences, published

ROOT = Path(__file__).parents[2]
CASES = (
    "default_writers",
    "other_writers",
    "tasks",
    "prepared",
    "ddg",
    "msi",
    "ddg_msi",
    "vectorized",
    "two_processes",
)
RANDOM_SHARE = 0.25
AGAIN_SHARE = 0.25


class Runs:
    """Runs of one configuration in forked processes of a server."""

    def __init__(self, case: str, folder: Path) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.federation.crash_runs", case, str(folder)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, **job: Any) -> dict[str, Any]:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        print(json.dumps(job), file=self._server.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self._server.stdout.readline())
        return answer

    def end(self) -> None:
        self._server.communicate()


def plan(kills: int, changes: int, seconds: float, ranks: int, draw: random.Random) -> list[Any]:
    """Where a run is killed: at changes of files, spread evenly, and at random moments."""
    by_time = round(kills * RANDOM_SHARE)
    moments = [
        {"after": draw.uniform(0, seconds), "rank": draw.randrange(ranks)} for _ in range(by_time)
    ]
    spread = [(number + draw.random()) / (kills - by_time) for number in range(kills - by_time)]
    points = [{"at": 1 + int(s * changes), "tears": draw.random() < 0.5} for s in spread]
    return [*points, *moments]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        given = metafunc.config.getoption("--crash-config")
        cases = [str(Path(one).resolve()) for one in given] or CASES
        metafunc.parametrize("case", cases, ids=[Path(one).stem for one in cases])
        metafunc.parametrize("cases", [len(cases)], ids=[""])


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_a_run_that_is_killed_goes_on_as_if_nothing_had_happened(
    case: str, cases: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    kills = -(-request.config.getoption("--kills") // cases)
    draw = random.Random(case)
    runs = Runs(case, tmp_path)
    try:
        whole = runs(run=str(tmp_path / "whole"))
        log = (tmp_path / "whole.log").read_text()
        assert not any(whole["ends"].values()), log[-3000:]
        wanted = published(tmp_path / "whole")
        changes = int((tmp_path / "whole.changes").read_text())
        wrong, died = [], 0
        for number, where in enumerate(
            plan(kills, changes, whole["seconds"], len(whole["ends"]), draw)
        ):
            run = tmp_path / f"run {number}"
            told = [f"killed {where}"]
            answers = [runs(run=str(run), **where)]
            if draw.random() < AGAIN_SHARE:
                answers.append(runs(run=str(run), at=draw.randint(1, changes)))
                told.append("and once more")
            died += any(-9 in answer["ends"].values() for answer in answers)
            answers.append(runs(run=str(run)))
            blocked = [rank for answer in answers for rank in answer["blocked"]]
            what = [f"processes {blocked} were blocked"] if blocked else []
            if any(answers[-1]["ends"].values()):
                what.append(f"could not go on: {Path(f'{run}.log').read_text()[-1500:]}")
            else:
                what += differences(published(run), wanted)
            wrong += [f"{number} ({', '.join(told)}): {one}" for one in what]
        print(
            f"{case}: {died} of {kills} runs were killed, {changes} changes of files in a whole one"
        )
        assert not wrong, "\n".join(wrong)
        assert died
    finally:
        runs.end()
