"""How much of the model a round of the clients changes: PE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from lit_fed.callbacks.federated_callback import FederatedCallback
from lit_fed.callbacks.reported_index import report_index
from lit_fed.metrics import ParameterEfficiency
from lit_fed.metrics.parameter_efficiency import EfficiencyMode

if TYPE_CHECKING:
    from lit_fed.federation.federation_view import FederationView
    from lit_fed.module import FederatedModule
    from lit_fed.payload import Payload
    from lit_fed.update import Update


class ParameterChange(FederatedCallback):
    """Gives a round's row of the history ``index/PE``, parameter efficiency, of Zou (2024), Table 1.

    By its definition nearly every number that AdamW trains counts. Beside it are ``index/PE/above_rms``, the share
    that moved by more than their tensor's own root mean square, and ``index/PE/relative_change``, the norm of the
    change in percent of that of the trainable parameters; and the standard errors over the round's clients,
    ``index/<name>/error``.

    It compares what the clients send with what they started from; what a rule keeps from training in a round has not
    changed. Where that cannot be said, because clients keep what they train or have LoRA of different ranks, there
    is no PE, and a warning says so.

    Args:
        mode: See :class:`~lit_fed.metrics.ParameterEfficiency`.
        threshold: Changes up to this part of a tensor's root mean square do not count.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, mode: EfficiencyMode = "changed", threshold: float = 1e-3) -> None:
        def of_all(mode: EfficiencyMode, least: float = 1e-3) -> ParameterEfficiency:
            # every process has all updates of a round
            return ParameterEfficiency(mode, least, sync_on_compute=False)

        self._metrics = {
            "PE": of_all(mode, threshold),
            "PE/above_rms": of_all("changed", 1.0),
            "PE/relative_change": of_all("relative_change"),
        }
        self._found: dict[str, float] = {}
        self._said = False

    def on_aggregate_end(
        self, trainer: FederationView, module: FederatedModule, updates: Sequence[Update]
    ) -> None:
        """Compare the round's uploads with the broadcast before it."""
        self._found = {}
        before = _start(module, trainer.federation.broadcast)
        if reason := _unknown(module, before, updates):
            if not self._said:
                rank_zero_warn(f"ParameterChange reports no PE: {reason}")
            self._said = True
            return
        for metric in self._metrics.values():
            metric.reset()
        for update in updates:
            sent = {name: t for name, t in update.payload.tensors.items() if name in before}
            count = sum(tensor.numel() for tensor in update.payload.tensors.values())
            for metric in self._metrics.values():
                metric.update(before, {**before, **sent}, module.backbone.num_parameters, count)
        for name, metric in self._metrics.items():
            report_index(self._found, name, metric.compute(), metric.standard_error())

    def on_round_evaluation(
        self, trainer: FederationView, module: FederatedModule, metrics: dict[str, float]
    ) -> None:
        """Report the round's value; a round without updates has none."""
        metrics |= self._found
        self._found = {}


def _start(module: FederatedModule, broadcast: Payload) -> dict[str, Tensor]:
    """What clients started from: what the server broadcast, and the rest as the backbone was built."""
    live = module.backbone.trainable()
    started = {name: value.detach().clone() for name, value in live.items()}
    return {**started, **{n: t for n, t in broadcast.tensors.items() if n in started}}


def _unknown(
    module: FederatedModule, before: Mapping[str, Tensor], updates: Sequence[Update]
) -> str | None:
    """Why the server does not know how much clients have changed; None if it does."""
    if not module.has_global_model:
        return f"by {type(module).__name__}'s settings clients keep some of what they train"
    for update in updates:
        sent = {name: t for name, t in update.payload.tensors.items() if name in before}
        if not sent:
            return f"{type(module).__name__} does not exchange what the backbone trains"
        for name, tensor in sent.items():
            if tensor.shape != before[name].shape:
                return f"client {update.client_id!r} has another shape of {name}, as where LoRA's ranks are mixed"
    return None
