"""What a process runs on: its figures are that machine's."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch


def machine() -> dict[str, Any]:
    """Processor, cores, threads and accelerator of this process.

    Floating-point sums depend on the processor's vector instructions and on the number of threads, and
    seconds on all of it.

    Returns:
        ``processor``, ``instructions`` (the widest vector instructions that torch uses there), ``cores``
        (those that this process may use), ``threads`` (those that torch computes with), ``accelerator``
        (None without one) and ``system``.

    Example:
        >>> machine()["threads"] == torch.get_num_threads()
        True
    """
    return {
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerator": _accelerator(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    """The processor's name; Linux tells it in a file of its own alone."""
    told = Path("/proc/cpuinfo")
    if told.is_file():
        for line in told.read_text("utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _accelerator() -> str | None:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return "Apple GPU" if torch.backends.mps.is_available() else None
