"""What claims are held against, on summaries written by hand."""

import json
import math
from pathlib import Path

import pytest

from lit_fed.study.claims.claim import ArmComparison, Claim
from lit_fed.study.claims.evidence import arm_differences
from lit_fed.study.claims.page import claims_page


def test_a_global_model_stands_for_that_of_every_client(tmp_path: Path) -> None:
    for arm, metrics in {
        "alone": {"clients/test/accuracy/mean": 0.5},
        "fedavg": {"test/accuracy": 0.75},
        "own": {"clients/test/accuracy/mean": 0.625, "test/accuracy": 0.0},
    }.items():
        folder = tmp_path / arm / "seed_3"
        folder.mkdir(parents=True)
        summary = {"interrupted": False, "metrics": metrics}
        (folder / "summary.json").write_text(json.dumps(summary))

    def differences(first: str, second: str, otherwise: str | None) -> tuple[float, ...]:
        compared = ArmComparison(metrics=[], weights={first: 1, second: -1})
        name = "clients/test/accuracy/mean"
        return arm_differences(tmp_path, compared, name, "higher", otherwise)

    assert differences("fedavg", "alone", "test/accuracy") == (0.25,)
    assert differences("own", "alone", "test/accuracy") == (0.125,)
    assert differences("fedavg", "alone", None) == ()
    # a margin is in the metric's units, whichever side of it is better
    name = "clients/test/accuracy/mean"
    less = ArmComparison(metrics=[], weights={"alone": 1, "own": -1}, margin=0.25)
    assert arm_differences(tmp_path, less, name, "higher") == (0.125,)
    assert arm_differences(tmp_path, less, name, "lower") == (0.375,)
    with pytest.raises(ValueError, match="`margin` is expected to be finite and at least 0, but"):
        ArmComparison(metrics=[], weights={"alone": 1, "own": -1}, margin=-0.25)


def test_amounts_are_compared_by_a_factor(tmp_path: Path) -> None:
    for arm, up in {"answers": 20, "adapters": 4000, "alone": 0}.items():
        folder = tmp_path / arm / "seed_0"
        folder.mkdir(parents=True)
        summary = {"interrupted": False, "metrics": {}, "bytes": {"up": up, "down": 2}}
        (folder / "summary.json").write_text(json.dumps(summary))

    def difference(better: str, worse: str, times: float) -> float:
        compared = ArmComparison(["bytes/up"], {better: 1, worse: -1}, times=times)
        return arm_differences(tmp_path, compared, "bytes/up", "lower")[0]

    assert difference("answers", "adapters", 100) == pytest.approx(math.log10(2))
    assert difference("answers", "adapters", 200) == 0
    assert difference("answers", "adapters", 2000) == pytest.approx(-1)
    assert math.isnan(difference("alone", "adapters", 2))  # nothing is less by no factor
    with pytest.raises(ValueError, match="`times` is expected to be finite and above 0, but got 0"):
        difference("answers", "adapters", 0)
    with pytest.raises(ValueError, match="`margin` is expected to be 0 where there is `times`"):
        ArmComparison(["bytes/up"], {"answers": 1, "adapters": -1}, margin=1, times=2)


def test_seconds_are_compared_as_bytes_are(tmp_path: Path) -> None:
    for seed in range(3):
        ended(tmp_path, "slow", seed, 0.5, seconds=4.0)
        ended(tmp_path, "quick", seed, 0.5, seconds=2.5)
    compared = ArmComparison(["seconds/rounds"], {"quick": 1, "slow": -1})
    assert arm_differences(tmp_path, compared, "seconds/rounds", "lower") == (1.5,) * 3


def ended(root: Path, arm: str, seed: int, value: float | None, seconds: float = 3.0) -> None:
    folder = root / arm / f"seed_{seed}"
    folder.mkdir(parents=True)
    summary = {"interrupted": False, "metrics": {"test/accuracy": value}}
    summary |= {"bytes": {"up": 1, "down": 2}, "seconds": {"rounds": seconds}}
    (folder / "summary.json").write_text(json.dumps(summary))


def test_what_is_nothing_but_rounding_is_nothing(tmp_path: Path) -> None:
    for seed, (new, old) in enumerate([(0.88, 0.9), (0.78, 0.8), (0.88, 0.9)]):
        ended(tmp_path, "new", seed, new)
        ended(tmp_path, "old", seed, old)
    compared = ArmComparison(["test/accuracy"], {"new": 1, "old": -1}, margin=0.02)
    assert arm_differences(tmp_path, compared, "test/accuracy", "higher") == (0.0,) * 3


def test_a_run_without_a_finite_value_is_not_left_out_silently(tmp_path: Path) -> None:
    for arm, values in {"new": [0.5, None, 0.75], "old": [0.25, 0.25, 0.5]}.items():
        for seed, value in enumerate(values):
            ended(tmp_path, arm, seed, value)
    one = ArmComparison(["test/accuracy"], {"new": 1, "old": -1})
    page = claims_page(
        "Title",
        "Source",
        {"test/accuracy": "higher"},
        [Claim("New is better", [one])],
        [["new", "old"]],
        {"Study": tmp_path},
    )
    said = "not tested: no finite value in some runs"
    assert f"| test/accuracy: new better than old | | | | | | | {said} |" in page
    assert "**New is better:** not tested" in page
    assert "| new | 3 | 0.6250 ± 0.1768 (2 of 3) |" in page
