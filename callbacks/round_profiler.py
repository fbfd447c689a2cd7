"""A round under torch's profiler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.profiler import ProfilerActivity, profile

from lit_fed.atomic_files import whole_file, write_file
from lit_fed.callbacks.federated_callback import FederatedCallback
from lit_fed.limits import require_at_least

if TYPE_CHECKING:
    from lit_fed.client import Client
    from lit_fed.federation.federation_view import FederationView
    from lit_fed.module import FederatedModule


class RoundProfiler(FederatedCallback):
    """Profiles one round: what runs how long on the host and the device, under its phase.

    Writes ``profile/round=<round>.txt``, operators and phases (``lit_fed/forward`` and so on) by their
    time, and ``profile/round=<round>.json``, a trace for https://ui.perfetto.dev, to the run's folder.
    A round under the profiler takes longer; the other rounds do not. Every round's seconds by phase are
    ``time/<phase>`` of its row without it.

    Args:
        round: The round, counted from 1. The first one also warms up.
        trace: Whether to write the trace, which takes about 1 kB an operator call.

    Raises:
        ValueError: If ``round`` is below 1.
    """

    def __init__(self, round: int = 2, trace: bool = True) -> None:
        self.round = require_at_least("RoundProfiler.round", round, 1)
        self.trace = trace
        self._profiler: profile | None = None

    def on_round_start(
        self, trainer: FederationView, module: FederatedModule, clients: Sequence[Client]
    ) -> None:
        """Start in the chosen round."""
        if trainer.current_round + 1 != self.round or self.run_folder(trainer) is None:
            return
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        self._profiler = profile(activities=activities)
        self._profiler.start()

    def on_round_end(
        self, trainer: FederationView, module: FederatedModule, metrics: Mapping[str, float]
    ) -> None:
        """Stop and write."""
        profiler, folder = self._stop(), self.run_folder(trainer)
        if profiler is None or folder is None:
            return
        path = folder / "profile" / f"round={self.round:04d}"
        key = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        table = profiler.key_averages().table(sort_by=key, row_limit=100)
        write_file(path.with_suffix(".txt"), table)
        if self.trace:
            with whole_file(path.with_suffix(".json")) as writing:
                profiler.export_chrome_trace(str(writing))

    def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
        """Stop; a round that was broken off has no profile."""
        self._stop()

    def _stop(self) -> profile | None:
        profiler, self._profiler = self._profiler, None
        if profiler is not None:
            profiler.stop()
        return profiler
