"""What happens while a module trains and evaluates, reported hook by hook."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lit_fed.module import FederatedModule


class Events:
    """Reports Lightning's hooks to the module itself; whoever else wants to know extends this class.

    Attributes:
        raised: What someone other than the module has raised: an error of the run, not of the client
            under way.

    Example:
        >>> class Module:
        ...     def on_train_start(self):
        ...         return "started"
        >>> Events().report(Module(), "on_train_start")
        'started'
    """

    raised: BaseException | None = None

    def report(self, module: FederatedModule, hook: str, *args: Any) -> Any:
        """Say that something happens.

        Args:
            module: The module that it happens to.
            hook: Name of the hook.
            *args: Its arguments.

        Returns:
            What the module's own hook returns, if it has it.
        """
        own = getattr(module, hook, None)
        return None if own is None else own(*args)

    def report_metrics(self, module: FederatedModule, metrics: Mapping[str, float]) -> None:
        """Say what an evaluation of ``module`` came to. Default: to nobody."""
