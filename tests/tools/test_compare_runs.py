"""How far two runs are apart, on checkpoints that are written by hand."""

from pathlib import Path

import pytest
import torch

from lit_fed import Payload
from lit_fed.federation import FederationState
from lit_fed.federation.run.checkpoint import save_checkpoint
from tools.compare_runs import differences


def checkpoint(folder: Path, values: list[float], accuracy: float) -> Path:
    state = FederationState(
        1,
        Payload({"a": torch.tensor(values), "b": torch.zeros(0)}),
        history=[{"round": 1.0, "val/accuracy": accuracy, "time/round": accuracy}],
    )
    save_checkpoint(folder / "checkpoints" / "round=0001", state, {})
    return folder


def test_the_largest_difference_of_each(tmp_path: Path) -> None:
    one = checkpoint(tmp_path / "one", [1.0, 2.0], 0.5)
    other = checkpoint(tmp_path / "other", [1.25, 1.0], 0.75)
    assert differences(one, other) == {"a": 1.0, "val/accuracy": 0.25}
    assert differences(one, one / "checkpoints" / "round=0001") == {"a": 0.0, "val/accuracy": 0.0}


def test_other_models_are_refused(tmp_path: Path) -> None:
    one = checkpoint(tmp_path / "one", [1.0, 2.0], 0.5)
    other = checkpoint(tmp_path / "other", [1.25], 0.75)
    with pytest.raises(ValueError, match="expected to be of one model and as many rounds"):
        differences(one, other)
