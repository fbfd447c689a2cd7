"""How much of the model a round of the clients changes: PE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lit_fed.callbacks.federated_callback import FederatedCallback
from lit_fed.callbacks.reported_index import report_index
from lit_fed.metrics import ParameterEfficiency
from lit_fed.metrics.parameter_efficiency import EfficiencyMode

if TYPE_CHECKING:
    from lit_fed.federation.federation_view import FederationView
    from lit_fed.module import FederatedModule
    from lit_fed.update import Update


class ParameterChange(FederatedCallback):
    """Gives a round's row of the history ``index/PE``, parameter efficiency, of Zou (2024), Table 1.

    By its definition nearly every number that AdamW trains counts. Beside it are ``index/PE/above_rms``, the share
    that moved by more than their tensor's own root mean square, and ``index/PE/relative_change``, the norm of the
    change in percent of that of the trainable parameters; and the standard errors over the round's clients,
    ``index/<name>/error``.

    It compares what the clients send with the broadcast that they started from, so it is for methods that
    exchange weights.

    Args:
        mode: See :class:`~lit_fed.metrics.ParameterEfficiency`.
        threshold: Changes up to this part of a tensor's root mean square do not count.

    Raises:
        ValueError: If an argument is out of range; in the first round, if the clients do not send what the
            backbone trains.
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

    def on_aggregate_end(
        self, trainer: FederationView, module: FederatedModule, updates: Sequence[Update]
    ) -> None:
        """Compare the round's uploads with the broadcast before it."""
        backbone = module.backbone
        names, before = backbone.trainable(), trainer.federation.broadcast.tensors
        for metric in self._metrics.values():
            metric.reset()
        for update in updates:
            after = update.payload.tensors
            if missing := [name for name in names if name not in after or name not in before]:
                raise ValueError(
                    f"ParameterChange expects clients to exchange what they train, but "
                    f"{type(module).__name__} does not send {missing[0]}"
                )
            if other := [name for name in names if after[name].shape != before[name].shape]:
                raise ValueError(
                    f"ParameterChange expects clients to send what the server broadcasts, but client "
                    f"{update.client_id!r} has another shape of {other[0]}, as where LoRA's ranks are mixed"
                )
            sent = sum(tensor.numel() for tensor in after.values())
            old, new = ({name: side[name] for name in names} for side in (before, after))
            for metric in self._metrics.values():
                metric.update(old, new, backbone.num_parameters, sent)
        self._found = {}
        for name, metric in self._metrics.items():
            report_index(self._found, name, metric.compute(), metric.standard_error())

    def on_round_evaluation(
        self, trainer: FederationView, module: FederatedModule, metrics: dict[str, float]
    ) -> None:
        """Report the round's value; a round without updates has none."""
        metrics |= self._found
        self._found = {}
