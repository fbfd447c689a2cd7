"""What a client can change of the process that it trains in, and what is put back after its round."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import torch


@dataclass(frozen=True)
class ProcessState:
    """Settings of torch, of Python and of the process that outlast whoever makes them.

    Covered are: torch's gradient mode, default dtype and device, number of threads, deterministic algorithms
    and cuDNN's flags, precision of matrix products, anomaly detection and autocast (of the CPU and of one
    accelerator); Python's warning filters; the environment and the working folder. Random generators need
    not be kept, since every client and every aggregation is seeded anew. Not covered are inference mode,
    signal handlers, modules that are imported or patched, files, and whatever C libraries keep to themselves.

    Attributes:
        device_type: The accelerator whose autocast is looked at.
        values: Torch's settings.
        filters: Python's warning filters.
        environment: The environment.
        folder: The working folder; None where it is gone.
    """

    device_type: str
    values: list[Any]
    filters: list[Any]
    environment: dict[str, str]
    folder: Path | None

    @classmethod
    def taken(cls, device_type: str) -> Self:
        """The state as it is now.

        Args:
            device_type: The type of the accelerator, such as ``cuda``; ``cpu`` without one.
        """
        return cls(
            device_type,
            [setting.read() for setting in _settings(device_type)],
            list(warnings.filters),
            dict(os.environ),
            _folder(),
        )

    def restore(self) -> None:
        """Put back what differs by now."""
        for setting, value in zip(_settings(self.device_type), self.values, strict=True):
            if setting.read() != value:
                setting.write(value)
        if list(warnings.filters) != self.filters:
            # typed as a sequence, of which Python alone makes another
            filters: Any = warnings.filters
            filters[:] = self.filters
            with (
                warnings.catch_warnings()
            ):  # which lets Python forget what it has concluded from the others
                pass
        if dict(os.environ) != self.environment:
            os.environ.clear()
            os.environ.update(self.environment)
        if self.folder is not None and _folder() != self.folder:
            os.chdir(self.folder)


@contextmanager
def undisturbed(device_type: str) -> Iterator[None]:
    """Leave the process as it was before the block, however the block ends; see :class:`ProcessState`.

    Args:
        device_type: The type of the accelerator.

    Example:
        >>> with undisturbed("cpu"):
        ...     torch.set_grad_enabled(False) and None
        >>> torch.is_grad_enabled()
        True
    """
    state = ProcessState.taken(device_type)
    try:
        yield
    finally:
        state.restore()


class _Setting(NamedTuple):
    """How one of torch's settings is read and put back."""

    read: Callable[[], Any]
    write: Callable[[Any], object]


def _autocast(kind: str) -> _Setting:
    def write(value: tuple[bool, torch.dtype]) -> None:
        torch.set_autocast_enabled(kind, value[0])
        torch.set_autocast_dtype(kind, value[1])

    return _Setting(
        lambda: (torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)), write
    )


def _set_cudnn(values: tuple[bool, ...]) -> None:
    for flag, value in zip(_CUDNN, values, strict=True):
        setattr(torch.backends.cudnn, flag, value)


_CUDNN: Final = ("enabled", "benchmark", "deterministic")
_SETTINGS: Final = (
    _Setting(torch.is_grad_enabled, torch.set_grad_enabled),
    _Setting(torch.get_default_dtype, torch.set_default_dtype),
    # without one it is the CPU, at no cost for each operation
    _Setting(
        torch.get_default_device,
        lambda device: torch.set_default_device(None if device == torch.device("cpu") else device),
    ),
    _Setting(torch.get_num_threads, torch.set_num_threads),
    _Setting(
        lambda: (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        lambda value: torch.use_deterministic_algorithms(value[0], warn_only=value[1]),
    ),
    _Setting(lambda: tuple(getattr(torch.backends.cudnn, flag) for flag in _CUDNN), _set_cudnn),
    _Setting(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    _Setting(
        lambda: (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
        lambda value: torch.autograd.set_detect_anomaly(value[0], check_nan=value[1]),
    ),
    _Setting(torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled),
)


def _settings(device_type: str) -> list[_Setting]:
    return [*_SETTINGS, *(_autocast(kind) for kind in dict.fromkeys(("cpu", device_type)))]


def _folder() -> Path | None:
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None
