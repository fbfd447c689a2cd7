"""How much memory a round takes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from lit_fed.callbacks.federated_callback import FederatedCallback

if TYPE_CHECKING:
    from lit_fed.client import Client
    from lit_fed.federation.federation_view import FederationView
    from lit_fed.module import FederatedModule


class PeakMemory(FederatedCallback):
    """Gives a round's row its peak memory in bytes, in the run's first process.

    ``memory/process`` is the most that the process has had resident since it started, and
    ``memory/device``, on a GPU, the most that its tensors have taken there in the round.
    """

    def on_round_start(
        self, trainer: FederationView, module: FederatedModule, clients: Sequence[Client]
    ) -> None:
        """Begin to measure the device's memory."""
        if trainer.fabric.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(trainer.fabric.device)

    def on_round_evaluation(
        self, trainer: FederationView, module: FederatedModule, metrics: dict[str, float]
    ) -> None:
        """Report what the round took."""
        import resource  # which Windows does not have

        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        metrics["memory/process"] = float(peak * unit)
        if trainer.fabric.device.type == "cuda":
            metrics["memory/device"] = float(torch.cuda.max_memory_allocated(trainer.fabric.device))
