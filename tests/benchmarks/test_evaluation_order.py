"""Seconds of an evaluation with the longest rows first beside one in the order of the table, by turns.

``python -m pytest -m benchmark -s tests/benchmarks/test_evaluation_order.py``. The embedded encoder with LoRA over the
embedded test rows; ``BENCHMARK_ENCODER`` names the folder of another one, ``BENCHMARK_ROWS`` a TSV file with columns
``text`` and ``label`` of 0 and 1.
"""

import os
import statistics
import time

import pytest
import torch

from lit_fed import FedAvg, FederatedTrainer
from lit_fed.backbones import SequenceClassifier
from lit_fed.data import ClassificationEncoding, FederatedDataModule, TSVSource

TURNS = 7

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]


def data() -> FederatedDataModule:
    rows = os.environ.get("BENCHMARK_ROWS")
    if rows is None:
        return FederatedDataModule(num_clients=2, seed=0)
    encoding = ClassificationEncoding("text", None)
    return FederatedDataModule(TSVSource(rows), test=TSVSource(rows), encoding=encoding, seed=0)


def test_longest_rows_first(tmp_path: object) -> None:
    held = data()
    labels = 6 if os.environ.get("BENCHMARK_ROWS") is None else 2
    module = FedAvg(SequenceClassifier(os.environ.get("BENCHMARK_ENCODER"), num_labels=labels))
    trainer = FederatedTrainer(default_root_dir=str(tmp_path), max_rounds=1, accelerator="cpu")
    seconds: dict[bool, list[float]] = {True: [], False: []}
    found: dict[bool, float] = {}
    # of the processor, since others use it as well
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    for turn in range(2 * (TURNS + 1)):
        held.bucketing = turn % 2 == 0
        start = clock()
        (metrics,) = trainer.test(module, held)
        if turn > 1:  # the first of each tokenises
            seconds[held.bucketing].append(clock() - start)
        found[held.bucketing] = metrics["test/accuracy"]
    assert found[True] == pytest.approx(found[False], abs=2e-3)
    ratios = [a / b for a, b in zip(seconds[True], seconds[False], strict=True)]
    print(
        f"\nevaluation, longest rows first / in order: {statistics.median(ratios):.3f} "
        f"({min(ratios):.3f} to {max(ratios):.3f})"
    )
    assert statistics.median(ratios) < 1.05
