"""Vectorised = sequential on a card, in single precision and in mixed precision with bfloat16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lit_fed import FedAvg, Payload
from lit_fed.federation import VectorizedClients
from tests.federation.execution.agreement import assert_close, largest_difference, run, sgd
from tests.federation.toy import toy_backbone, toy_data, toy_rows

pytestmark = pytest.mark.gpu

BF16 = 2.0**-8
"""What rounding to bfloat16, with its 8 significant bits, changes at most, as a part of the number."""


@pytest.mark.usefixtures("exact_float32")
class TestVectorizedOnADevice:
    @pytest.fixture(autouse=True)
    def places(self, accelerator: str, sober_model: Path, tmp_path: Path) -> None:
        self.accelerator, self.model, self.root = accelerator, sober_model, tmp_path

    def broadcast(self, name: str, precision: str, execution: Any, **settings: Any) -> Payload:
        """The global adapter after two rounds of three clients with different numbers of rows."""
        module = FedAvg(toy_backbone(self.model), optimizer=sgd, warmup_steps=0)
        rows = {"train": toy_rows(60, 0), "validation": toy_rows(8, 1)}
        data = toy_data(**rows, public=None, test=None, batch_size=5)
        given = {"accelerator": self.accelerator, "devices": 1, "precision": precision}
        return run(module, data, self.root / name, execution, **given | settings).broadcast

    def moved(self, end: Payload) -> float:
        """How far the weight that moved most has come, on the way to ``end``."""
        start = FedAvg(toy_backbone(self.model)).initial_broadcast()
        return largest_difference(start, end)

    def test_in_single_precision_within_1e_5(self) -> None:
        """SGD does not amplify rounding, as AdamW does where a gradient is next to zero."""
        theirs = self.broadcast("sequential", "32-true", None)
        ours = self.broadcast("vectorized", "32-true", VectorizedClients(3))
        assert self.moved(theirs) > 1e-2  # the tolerance is not that of runs that stand still
        assert_close(ours, theirs, 1e-5)

    def test_in_mixed_precision_as_far_from_the_exact_run(self) -> None:
        """Either order of summation is as far from single precision as rounding to bfloat16 takes it.

        A gradient goes through some 2⁶ roundings (2 layers, forward and back, about 16 products, sums
        and norms each), which err by a part of up to ``BF16`` each and at random, hence by 2³ · ``BF16``
        together; every step errs by that part of its own way, and so does the run of the whole way:
        the first bound. Two runs that differ in the order of summation are each about as far from the
        exact one as the sequential one is, which is measured, and at most 4 times as far with a margin of
        2 for each: the second one.
        """
        exact = self.broadcast("exact", "32-true", None)
        theirs = self.broadcast("sequential", "bf16-mixed", None)
        rounded = largest_difference(theirs, exact)
        assert 0 < rounded < 8 * BF16 * self.moved(exact)
        ours = self.broadcast("vectorized", "bf16-mixed", VectorizedClients(3))
        assert 0 < largest_difference(ours, exact) < 4 * rounded
        assert_close(ours, theirs, 4 * rounded)
