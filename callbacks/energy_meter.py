"""How much energy a run takes, where hardware counts it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any, Final

from lightning.pytorch.utilities import rank_zero_info

from lit_fed.callbacks.energy_counters import (
    EnergyCounter,
    NotMeasured,
    NVMLCounter,
    RAPLCounter,
)
from lit_fed.callbacks.federated_callback import FederatedCallback
from lit_fed.limits import require_path

if TYPE_CHECKING:
    from lit_fed.federation.federation_view import FederationView
    from lit_fed.module import FederatedModule

_SECONDS: Final = 60.0
"""Between two readings of the counters."""


class EnergyMeter(FederatedCallback):
    """Gives a round's row its joules, ``energy/cpu`` and ``energy/device``, and the run's summary their sums.

    They are read of counters of the hardware, never computed of a power rating: of the processors by RAPL, of a GPU by
    NVML. Where a counter cannot be read, the row has nothing, and the summary says *not measured* and why. What else
    runs on the machine or the GPU is counted as well, so that a figure is of this run alone where nothing else runs.
    A round's joules are those since the last round, or the start of the fit: preparation and the writing of checkpoints
    are among them, the test at the end is not, and neither is a round that was broken off. In several processes the
    first one's machine and GPU are measured. Seconds by phase are in the row without this callback, ``time/<phase>``.

    Args:
        powercap: Linux' powercap interface, where RAPL is.

    Raises:
        ValueError: If ``powercap`` is no path.
    """

    def __init__(self, powercap: str = "/sys/class/powercap") -> None:
        self.powercap = powercap
        self._folder = require_path("EnergyMeter.powercap", powercap) or Path()
        self._counters: dict[str, EnergyCounter] = {}
        self._before: dict[str, float] = {}
        self._why: dict[str, str] = {}
        self._joules: dict[str, float] = {}
        self._rounds: dict[str, int] = {}
        self._loaded: dict[str, Any] = {}
        self._watch: _Watch | None = None

    def state_dict(self) -> dict[str, Any]:
        """The sums so far, and of how many rounds they are."""
        return {"joules": dict(self._joules), "rounds": dict(self._rounds)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave, at the start of the fit."""
        self._loaded = state_dict

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        """Look for counters."""
        kept, self._loaded = self._loaded, {}
        self._joules, self._rounds = dict(kept.get("joules", {})), dict(kept.get("rounds", {}))
        self._counters, self._before, self._why = {}, {}, {}
        if not trainer.is_global_zero:
            return
        device = trainer.fabric.device
        self._begin("cpu", lambda: RAPLCounter(self._folder))
        if device.type == "cuda":
            self._begin("device", lambda: NVMLCounter(device))
        elif device.type != "cpu":
            self._why["device"] = f"there is no counter for a device of type {device.type}"
        for name, why in self._why.items():
            rank_zero_info(f"EnergyMeter: energy/{name} is not measured: {why}")
        self._watch = _Watch(self._read_all) if self._counters else None

    def teardown(self, trainer: Any, module: Any, stage: str) -> None:
        """Read the counters no longer."""
        if self._watch is not None:
            self._watch.end()
            self._watch = None

    def on_round_evaluation(
        self, trainer: FederationView, module: FederatedModule, metrics: dict[str, float]
    ) -> None:
        """Report the round's joules."""
        for name, now in ({} if self._watch is None else self._watch.now()).items():
            spent = now - self._before[name]
            self._before[name] = now
            metrics[f"energy/{name}"] = spent
            self._joules[name] = self._joules.get(name, 0.0) + spent
            self._rounds[name] = self._rounds.get(name, 0) + 1

    def summarised(self, trainer: FederationView) -> dict[str, Any]:
        """Joules of the rounds that were measured, or why there are none; see :class:`FederatedCallback`."""
        rounds = trainer.federation.round
        told: dict[str, Any] = {}
        for name in sorted({"cpu", *self._joules, *self._why}):
            if name in self._joules:
                told[name] = {"joules": self._joules[name], "rounds": self._rounds[name]}
                if self._rounds[name] < rounds:
                    why = self._why.get(name, "there was no counter")
                    told[name]["of the others"] = f"not measured: {why}"
            else:
                told[name] = f"not measured: {self._why.get(name, 'no round was')}"
        return {"energy": told}

    def _begin(self, name: str, make: Any) -> None:
        try:
            self._counters[name] = make()
            self._before[name] = 0.0
        except NotMeasured as error:
            self._why[name] = str(error)

    def _read_all(self) -> dict[str, float]:
        """Joules since the start, of all counters that can be read."""
        now = {name: self._read(name) for name in list(self._counters)}
        return {name: joules for name, joules in now.items() if joules is not None}

    def _read(self, name: str) -> float | None:
        """Joules since the start; None from where a counter cannot be read any more."""
        try:
            return self._counters[name].joules()
        except NotMeasured as error:
            del self._counters[name]
            self._why[name] = str(error)
            rank_zero_info(f"EnergyMeter: energy/{name} is not measured any more: {error}")
            return None


class _Watch(Thread):
    """Reads the counters now and then, whatever the run does, since they must not begin anew twice unseen.

    A package's counter does so after 262 kJ, which are 17 minutes at 250 W.

    Args:
        read: Reads them, one call at a time.
    """

    def __init__(self, read: Callable[[], dict[str, float]]) -> None:
        super().__init__(daemon=True)
        self._read, self._ended, self._lock = read, Event(), Lock()
        self.start()

    def now(self) -> dict[str, float]:
        """What the counters say."""
        with self._lock:
            return self._read()

    def run(self) -> None:
        """Until it is ended."""
        while not self._ended.wait(_SECONDS):
            self.now()

    def end(self) -> None:
        """Stop, and wait for a reading that is under way."""
        self._ended.set()
        self.join()
