"""Where a run logs."""

from __future__ import annotations

from pathlib import Path

from lightning.fabric.loggers import Logger, TensorBoardLogger


def run_loggers(
    setting: bool | Logger | list[Logger], folder: Path, first_step: int
) -> list[Logger]:
    """The loggers of a fit.

    Args:
        setting: ``trainer.loggers``: True for TensorBoard in the run's folder, False for none, or
            the user's own.
        folder: The run's folder.
        first_step: The round the fit starts with.
    """
    if isinstance(setting, Logger):
        return [setting]
    if not isinstance(setting, bool):
        return list(setting)
    if not setting:
        return []
    # purge_step hides what a killed run logged of rounds that are now done again
    return [
        TensorBoardLogger(
            str(folder), name="", version="", default_hp_metric=False, purge_step=first_step
        )
    ]
