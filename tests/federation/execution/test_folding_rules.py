"""Rules that change the frozen base, in two processes and in one."""

from pathlib import Path

import pytest
import torch

from tests.federation.execution.agreement import TOLERANCE
from tests.federation.execution.federation_cases import FOLDING
from tests.federation.execution.launched import last_state, python_m


@pytest.fixture(scope="module")
def one_process(toy_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("one")
    for case, fit in FOLDING.items():
        fit(toy_model, root / case)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("execution", ["distributed", "sharded"])
def test_two_processes_fold_as_one_does(
    execution: str, toy_model: Path, one_process: Path, tmp_path: Path
) -> None:
    words = (execution, "2", str(toy_model), str(tmp_path), *FOLDING)
    ended = python_m("tests.federation.execution.federation_cases", *words)
    assert ended.returncode == 0, ended.stderr
    for case in FOLDING:
        one, two = last_state(one_process / case), last_state(tmp_path / case)
        assert one.ledger == two.ledger
        assert one.history[-1]["val/loss"] == pytest.approx(two.history[-1]["val/loss"], abs=1e-9)
        ours, theirs = one.broadcast.parts["base_change"], two.broadcast.parts["base_change"]
        assert ours.tensors.keys() == theirs.tensors.keys()
        for name, tensor in ours.tensors.items():
            torch.testing.assert_close(theirs.tensors[name], tensor, rtol=0, atol=TOLERANCE)
