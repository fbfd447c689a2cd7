"""The federation's curves in TensorBoard."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import torch
from lightning.fabric.loggers import TensorBoardLogger

from lit_fed.callbacks.federated_callback import FederatedCallback
from lit_fed.federation.evaluation import spread

if TYPE_CHECKING:
    from lit_fed.federation.federation_view import FederationView
    from lit_fed.module import FederatedModule
    from lit_fed.update import Update

_DRIFT: Final = "clients/drift"
_BATCH_PHASES: Final = frozenset({"data", "teacher", "forward", "backward", "optimizer"})


def curves_layout(names: Sequence[str]) -> dict[str, dict[str, list[Any]]]:
    """Lay out a run's metrics as TensorBoard's custom scalars.

    Args:
        names: The columns of the history. ``clients/<metric>/mean``, ``/min`` and ``/max`` become a
            margin chart, and so do those of ``groups``; global metrics of one name, such as
            ``train/loss`` and ``val/loss``, share a chart.

    Returns:
        Categories of charts, as ``SummaryWriter.add_custom_scalars`` takes them. Tags of
        ``Multiline`` charts are anchored, because TensorBoard reads them as regular expressions.

    Example:
        >>> layout = curves_layout(["train/loss", "val/loss", "val/accuracy", "bytes/up"])
        >>> layout["Global model"]["loss"]
        ['Multiline', ['^train/loss$', '^val/loss$']]
        >>> list(layout)
        ['Global model', 'Communication']
    """
    charts: dict[str, dict[str, list[str]]] = {}
    margins: dict[str, list[Any]] = {}
    for name in names:
        head, _, rest = name.partition("/")
        if not rest:
            continue
        if head in ("clients", "groups") and rest.endswith("/mean"):
            metric = name.removesuffix("/mean")
            if {f"{metric}/min", f"{metric}/max"} <= set(names):
                tags = [f"{metric}/{part}" for part in ("mean", "min", "max")]
                margins[metric.removeprefix("clients/")] = ["Margin", tags]
        elif name in ("clients/sampled", "clients/failed"):
            charts.setdefault("Participation", {}).setdefault("clients", []).append(name)
        elif head == "bytes":
            title = "bytes in all" if rest == "total" else "bytes per round"
            charts.setdefault("Communication", {}).setdefault(title, []).append(name)
        elif head == "time":
            charts.setdefault("Time", {}).setdefault(_time_chart(rest), []).append(name)
        elif head == "energy":
            charts.setdefault("Energy", {}).setdefault("joules of a round", []).append(name)
        elif head == "backdoor":
            title = "after defences" if "/" in rest else "of triggered and clean rows"
            charts.setdefault("Backdoor", {}).setdefault(title, []).append(name)
        elif head == "memory":
            charts.setdefault("Memory", {}).setdefault("bytes at most", []).append(name)
        elif head not in ("clients", "groups"):
            title = rest.partition("/")[0]
            charts.setdefault("Global model", {}).setdefault(title, []).append(name)
    layout: dict[str, dict[str, list[Any]]] = {
        category: {
            title: ["Multiline", [f"^{re.escape(tag)}$" for tag in tags]]
            for title, tags in by_title.items()
        }
        for category, by_title in charts.items()
    }
    if margins:
        layout["Clients: mean, least, most"] = margins
    order = [
        "Global model",
        "Backdoor",
        "Clients: mean, least, most",
        "Communication",
        "Participation",
    ]
    order += ["Time", "Memory", "Energy"]
    return {category: layout[category] for category in order if category in layout}


def _time_chart(phase: str) -> str:
    """The chart of a phase: TensorBoard folds the legend of one with all of them."""
    if phase == "round":
        return "seconds of a round"
    return "seconds of batches" if phase in _BATCH_PHASES else "seconds around them"


def drift(updates: Sequence[Update]) -> list[float]:
    """Measure how far each client's upload is from the clients' mean, in one Euclidean norm.

    Args:
        updates: A round's updates. Only floating-point tensors that all of them hold in the same
            shape count.

    Returns:
        One distance per update; empty if the uploads have no tensor in common.

    Example:
        >>> from lit_fed.payload import Payload
        >>> from lit_fed.update import Update
        >>> sent = [Payload({"lora_A": torch.tensor([value])}) for value in (1.0, 5.0)]
        >>> drift([Update(name, payload, 1) for name, payload in zip("ab", sent)])
        [2.0, 2.0]
    """
    if not updates:
        return []
    squares = torch.zeros(len(updates), dtype=torch.float64)
    shared = False
    for name, first in updates[0].payload.tensors.items():
        tensors = [update.payload.tensors.get(name) for update in updates]
        same = [t for t in tensors if t is not None and t.shape == first.shape]
        if first.is_floating_point() and len(same) == len(updates):
            shared = True
            # one upload after the other: all of them at once would cost as much memory again
            mean = torch.zeros(first.shape)
            for tensor in same:
                mean += tensor.float() / len(same)
            distances = [torch.linalg.vector_norm(tensor.float() - mean) for tensor in same]
            squares += torch.stack(distances).double().square()
    return [float(value) for value in squares.sqrt()] if shared else []


class FederationCurves(FederatedCallback):
    """Lays the federation's curves out in TensorBoard's tab *Custom Scalars*, and adds how the clients spread.

    The trainer logs each round's metrics itself; this callback lays them out under the tab *Custom Scalars*
    (global metrics; per client mean, least and most; bytes up and down; participation; time) and
    writes histograms over the round's clients: their metrics, rows, bytes sent, and the drift of
    their uploads. The drift is part of the round's row as well, as ``clients/drift/mean``, ``/std``, ``/min``
    and ``/max``. Works with any ``TensorBoardLogger`` of Lightning or Fabric among the trainer's
    loggers; without one, the drift is all it does.

    Args:
        drift: Whether to measure each upload's distance from the clients' mean.
    """

    def __init__(self, drift: bool = True) -> None:
        self.drift = drift
        self._values: dict[str, list[float]] = {}
        self._round = 0
        self._loaded: dict[str, Any] = {}
        self._laid_out: dict[str, None] = {}

    def state_dict(self) -> dict[str, Any]:
        """The clients' values of the last round, which may not have been written when the run is broken off."""
        return {"round": self._round, "values": self._values} if self._values else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave, at the start of the fit."""
        self._loaded = state_dict

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        """Start anew, but for what is known of the last round: each fit has a writer of its own, with a layout."""
        self._laid_out = {}
        kept, self._loaded = self._loaded, {}
        self._values = kept["values"] if kept.get("round") == trainer.federation.round else {}

    def on_round_start(
        self, trainer: FederationView, module: FederatedModule, clients: Sequence[Any]
    ) -> None:
        """Forget the last round's clients."""
        self._values, self._round = {}, trainer.current_round + 1

    def on_aggregate_end(
        self, trainer: FederationView, module: FederatedModule, updates: Sequence[Update]
    ) -> None:
        """Take the clients' values; they are written when the round is finished."""
        if not trainer.is_global_zero:
            return
        if self.drift and (distances := drift(updates)):
            self._values[_DRIFT] = distances
        if not tensorboard_writers(trainer):
            return
        for update in updates:
            for name, value in update.metrics.items():
                self._values.setdefault(f"clients/{name}", []).append(float(value))
            self._values.setdefault("clients/num_samples", []).append(float(update.num_samples))
            self._values.setdefault("clients/bytes/up", []).append(float(update.nbytes))

    def on_round_evaluation(
        self, trainer: FederationView, module: FederatedModule, metrics: dict[str, float]
    ) -> None:
        """Report the drift."""
        metrics |= spread([{_DRIFT: value} for value in self._values.get(_DRIFT, [])], prefix="")

    def on_round_report(
        self, trainer: FederationView, module: FederatedModule, metrics: Mapping[str, float]
    ) -> None:
        """Write the clients' histograms and, where there are new metrics, the layout."""
        step = int(metrics.get("round", trainer.current_round))
        for writer in tensorboard_writers(trainer):
            for name, values in self._values.items():
                # One without finite values cannot be drawn.
                tensor = torch.tensor(values, dtype=torch.float64)
                if bool(tensor.isfinite().all()):
                    writer.add_histogram(name, tensor, step)
        self._lay_out(trainer, metrics)

    def on_fit_end(self, trainer: Any, module: Any) -> None:
        """Give the metrics of the test their places."""
        self._lay_out(trainer, trainer.final_metrics)

    def _lay_out(self, trainer: FederationView, metrics: Mapping[str, float]) -> None:
        """Write the layout, and again where metrics have come that have no place yet: TensorBoard takes the last."""
        known = dict.fromkeys(name for row in trainer.federation.history for name in row)
        every = self._laid_out | known | dict.fromkeys(metrics)
        if every.keys() != self._laid_out.keys():
            self._laid_out = every
            for writer in tensorboard_writers(trainer):
                writer.add_custom_scalars(curves_layout(list(every)))


def tensorboard_writers(trainer: FederationView) -> list[Any]:
    """The TensorBoard writers among the trainer's loggers; none where this process writes no files."""
    if trainer.fast_dev_run or not trainer.is_global_zero:
        return []
    return [
        logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)
    ]
