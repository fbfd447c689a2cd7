"""A stand-in for the trainer: what a callback reads of it, and rounds that cost nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch import Callback

from lit_fed.federation.state import FederationState
from lit_fed.payload import Payload


@dataclass
class StandInTrainer:
    log_dir: Path
    max_rounds: int = 3
    fast_dev_run: int = 0
    is_global_zero: bool = True
    interrupted: bool = False
    seed: int = 7
    loggers: list[Any] = field(default_factory=list)
    callbacks: list[Any] = field(default_factory=list)
    attachments: list[Any] = field(default_factory=list)
    final_metrics: dict[str, float] = field(default_factory=dict)
    federation: FederationState = field(default_factory=lambda: FederationState(0, Payload()))
    saved: list[str] = field(default_factory=list)
    datamodule: Any = None
    attachments: list[Any] = field(default_factory=list)
    identity: dict[str, Any] = field(default_factory=dict)
    module: Any = field(default_factory=lambda: SimpleNamespace(client=SimpleNamespace(id="c0")))

    def checkpoint_writer(self, path: Path) -> Callable[[], None]:
        return lambda: self.save_checkpoint(path)

    @property
    def current_round(self) -> int:
        return self.federation.round

    def save_checkpoint(self, path: Path) -> None:
        path.mkdir(parents=True)
        (path / "state.json").write_text("{}")
        self.saved.append(path.name)

    def call(self, callbacks: Sequence[Callback], hook: str, *args: Any) -> None:
        for callback in callbacks:
            getattr(callback, hook, lambda *_: None)(self, self.module, *args)

    def finish_round(self, callbacks: Sequence[Callback], **metrics: float) -> None:
        """Finish a round whose row has ``metrics``, in which ``__`` stands for ``/``."""
        state = self.federation
        row = {"round": state.round + 1} | {k.replace("__", "/"): v for k, v in metrics.items()}
        ledger = state.ledger.copy()
        ledger.open_round()
        ledger.record("c0", up=int(row.get("bytes/up", 0)), down=int(row.get("bytes/down", 0)))
        self.federation = replace(
            state, round=state.round + 1, history=[*state.history, row], ledger=ledger
        )
        self.call(callbacks, "on_round_report", row)
        self.call(callbacks, "on_round_end", row)


@pytest.fixture
def trainer(tmp_path: Path) -> StandInTrainer:
    return StandInTrainer(tmp_path / "run")
