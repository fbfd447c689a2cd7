"""Who holds what, shown before training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lit_fed.callbacks.federated_callback import FederatedCallback
from lit_fed.standard_output import console

if TYPE_CHECKING:
    from rich.console import Console


class PartitionTable(FederatedCallback):
    """Prints each client's rows and labels once, at the start of a fit.

    Args:
        quiet: Whether it prints nothing: among the trainer's callbacks, such a one takes the default's place.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.console: Console | None = None

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        """Print the data module's table."""
        if self.quiet or not trainer.is_global_zero:
            return
        if self.console is None:
            self.console = console()
        self.console.print(trainer.datamodule.partition_table())
