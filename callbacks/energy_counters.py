"""Counters of energy that hardware has: RAPL of processors, NVML of NVIDIA's GPUs."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Final

import torch

_PACKAGE: Final = re.compile(r"intel-rapl:\d+")
_PART: Final = re.compile(r"intel-rapl:\d+:\d+")


class NotMeasured(Exception):
    """There is no counter, or it cannot be read; the words say why."""


class EnergyCounter(ABC):
    """A counter of joules."""

    @abstractmethod
    def joules(self) -> float:
        """Joules since the counter was made.

        Raises:
            NotMeasured: If it cannot be read any more.
        """


class RAPLCounter(EnergyCounter):
    """The energy of a machine's processors and, where they tell it, memory: Running Average Power Limit.

    Of ``intel-rapl`` in Linux' powercap interface, which AMD's processors have as well
    (https://docs.kernel.org/power/powercap/powercap.html). It is that of the whole machine: whatever else runs there is
    in it. The packages and the parts ``dram`` beside them are added up; other parts are within packages, and a zone
    ``psys``, of the whole platform, is taken where there are no packages. Mostly root alone may read it.

    Counters begin anew at their range, after an hour or less at full power: it has to be read more often.

    Args:
        folder: The powercap interface.

    Raises:
        NotMeasured: If there are no counters, or they cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._zones = _zones(folder)
        if not self._zones:
            raise NotMeasured(f"there are no RAPL counters in {folder}")
        self._ranges = {zone: _number(zone / "max_energy_range_uj") for zone in self._zones}
        self._last = {zone: _number(zone / "energy_uj") for zone in self._zones}
        self._microjoules = 0

    def joules(self) -> float:
        """See :class:`EnergyCounter`."""
        for zone in self._zones:
            now = _number(zone / "energy_uj")
            gone = now - self._last[zone]
            self._microjoules += gone if gone >= 0 else gone + self._ranges[zone]
            self._last[zone] = now
        return self._microjoules / 1e6


class NVMLCounter(EnergyCounter):
    """The energy of an NVIDIA GPU with its memory, by ``pynvml`` (of the package ``nvidia-ml-py``, as in torch.cuda).

    It is that of the whole GPU: whatever else runs there is in it. GPUs before Volta do not count.

    Args:
        device: The GPU, as torch numbers it.

    Raises:
        NotMeasured: If there is no ``pynvml``, or the GPU does not count.
    """

    def __init__(self, device: torch.device) -> None:
        try:
            import pynvml
        except ImportError as error:
            raise NotMeasured("pynvml is not installed: pip install nvidia-ml-py") from error
        self._nvml: Any = pynvml
        index = device.index if device.index is not None else torch.cuda.current_device()
        try:
            pynvml.nvmlInit()
            # by its id: NVML does not know CUDA_VISIBLE_DEVICES
            name = f"GPU-{torch.cuda.get_device_properties(index).uuid}"
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(name)
            self._first = pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        except pynvml.NVMLError as error:
            raise NotMeasured(f"NVML does not tell the energy of {device}: {error}") from error

    def joules(self) -> float:
        """See :class:`EnergyCounter`."""
        try:
            now = self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        except self._nvml.NVMLError as error:
            raise NotMeasured(f"NVML no longer tells the energy: {error}") from error
        return float(now - self._first) / 1e3


def _zones(folder: Path) -> list[Path]:
    """The zones that are to be added up."""
    try:
        found = {
            path: (path / "name").read_text().strip()
            for path in sorted(folder.iterdir())
            if _is_zone(path)
        }
    except OSError as error:
        raise NotMeasured(f"there are no RAPL counters in {folder}: {error.strerror}") from error
    packages = [path for path, name in found.items() if name.startswith("package")]
    if not packages:
        return [path for path, name in found.items() if name == "psys"]
    memory = [p for p, name in found.items() if name == "dram" and _PART.fullmatch(p.name)]
    return [*packages, *memory]


def _is_zone(path: Path) -> bool:
    return bool(_PACKAGE.fullmatch(path.name) or _PART.fullmatch(path.name))


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError) as error:
        raise NotMeasured(f"{path} cannot be read: {error}") from error
