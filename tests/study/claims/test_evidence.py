"""What claims are held against, on summaries written by hand."""

import json
from pathlib import Path

import pytest

from lit_fed.study.claims.claim import ArmComparison
from lit_fed.study.claims.evidence import arm_differences


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
