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
        """The global adapter after two rounds of four clients with different numbers of rows."""
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
        """Either order of summation is about as far from single precision as the other.

        A gradient goes through some 2⁶ roundings: of about 16 products, sums and norms in each of 2
        layers, forward and back. Each errs by a part of ``BF16`` at most; at random signs that is
        √2⁶ · ``BF16`` together. If every step errs by that part of its length, so does the way of a run:
        the first bound, on the sequential run. Rounded in another order the vectorized run errs by as
        much, and the two by twice as much from each other; a largest difference of few samples varies by
        another factor of two: 4 times what the sequential run is measured to err.
        """
        exact = self.broadcast("exact", "32-true", None)
        theirs = self.broadcast("sequential", "bf16-mixed", None)
        rounded = largest_difference(theirs, exact)
        assert 0 < rounded < 8 * BF16 * self.moved(exact)
        ours = self.broadcast("vectorized", "bf16-mixed", VectorizedClients(3))
        assert 0 < largest_difference(ours, exact) < 4 * rounded
        assert_close(ours, theirs, 4 * rounded)
