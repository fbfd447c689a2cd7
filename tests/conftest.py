"""Settings of the whole test session, made before torch or a Hugging Face library is imported."""

import gc
import os
import signal
from pathlib import Path

import pytest

for _name, _value in {
    # No test may depend on a hub, and a look-up that fails costs seconds.
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # The workers of pytest-xdist share the cores. One thread also without them: sums of floats are
    # then made in the same order, however the tests are started, and child processes inherit it.
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}.items():
    os.environ.setdefault(_name, _value)

# It would make the federations of this very process small: it is for the processes that a test starts.
collect_ignore = ["small_settings"]

# A shell starts what it runs in the background without Ctrl-C, which tests give themselves.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """What is imported by now stays: the garbage collector need not go through it again and again."""
    gc.collect()
    gc.freeze()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the crash campaign, tests/federation/test_crashes.py."""
    parser.addoption(
        "--kills", type=int, default=18, help="how often runs are killed, over all configurations"
    )
    parser.addoption(
        "--crash-config",
        action="append",
        default=[],
        help="a configuration of lit-fed fit whose runs are killed in place of the ones that the campaign has",
    )


@pytest.fixture(scope="session")
def toy_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of width 32 with its tokenizer."""
    from tests.federation.toy import save_toy_model

    return save_toy_model(tmp_path_factory.mktemp("toy") / "model")
