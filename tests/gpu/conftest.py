"""The device of the tests that need one, and what makes their numbers comparable.

They are skipped where torch finds no CUDA device. With ``LIT_FED_GPU_TESTS_ON_CPU=1`` the same bodies run
on the CPU. **They have been run on the CPU only**: what a card does differently nobody has seen yet,
and the test of memory, which reads CUDA's counters, is skipped there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.methods.toy_methods import save_sober_model

# cuBLAS reads it when it starts, and adds in a fixed order only with a workspace of a fixed size.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

ON_CPU = "LIT_FED_GPU_TESTS_ON_CPU"


@pytest.fixture(scope="session")
def accelerator() -> str:
    """Of the trainer: ``gpu``, or ``cpu`` where the bodies alone are tried."""
    if os.environ.get(ON_CPU) == "1":
        return "cpu"
    if not torch.cuda.is_available():
        pytest.skip(f"needs a CUDA device; {ON_CPU}=1 runs it on the CPU")
    return "gpu"


@pytest.fixture(scope="session")
def sober_model(accelerator: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy classifier without any dropout, whose masks two executions would draw in another order."""
    return save_sober_model(tmp_path_factory.mktemp("sober") / "model")


@pytest.fixture
def exact_float32() -> Iterator[None]:
    """Products in single precision as they are named, without TF32's 10 bits."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32 = before


@pytest.fixture(scope="module")
def deterministic() -> Iterator[None]:
    """Kernels that add in a fixed order; one that has none raises an error."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)
