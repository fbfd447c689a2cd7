"""Metrics of classification by torchmetrics: F1, AUROC, recall of each class and any other, on every test set."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lit_fed.backbones import BlackBox
from lit_fed.callbacks.periodic_evaluation import PeriodicEvaluation, of_every_model
from lit_fed.federation.predictions import label_names
from lit_fed.limits import require_instance
from lit_fed.metric_averager import of_this_process

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.federation.federation_view import FederationView
    from lit_fed.module import FederatedModule


class ClassificationEvaluation(PeriodicEvaluation):
    """Computes torchmetrics of what the global model predicts for every test set.

    A round's row of the history gets ``classification/<name>`` for each metric, of a test set ``x`` beside the main one
    ``classification/<name>/x``; a metric that gives a value for each class has ``classification/<name>/<label>``. Where
    clients have models of their own, the row has ``clients/classification/<name>/mean``, ``/std``, ``/min`` and
    ``/max``; a client whose model is a black box gives no probabilities, and is left out.

    A metric gets the probabilities [N, C] and the labels [N] of a set; one of torchmetrics whose class begins with
    ``Binary`` gets the probability of the second class, [N]. Values are as torchmetrics gives them: shares from 0 to 1.

    Args:
        metrics: The metrics by name, such as ``{f1: {class_path: torchmetrics.classification.MulticlassF1Score,
            init_args: {num_classes: 6, average: macro}}}``.
        every_n_rounds: Evaluate after every so many rounds, beside after each task and the last. None: not.

    Raises:
        TypeError: If one is no metric; when a fit starts, if the data have no labels.
        ValueError: If there is none, a name has a slash; when it evaluates, if a metric gives neither one value nor one
            for each class, or one of two classes meets more.

    Example:
        >>> from torchmetrics.classification import MulticlassF1Score
        >>> sorted(ClassificationEvaluation({"f1": MulticlassF1Score(num_classes=6)}).metrics)
        ['f1']
    """

    def __init__(self, metrics: dict[str, Metric], every_n_rounds: int | None = None) -> None:
        super().__init__(every_n_rounds)
        if not metrics:
            raise ValueError(
                "`ClassificationEvaluation.metrics` are expected to be one at least, but there is none"
            )
        for name, metric in metrics.items():
            require_instance(f"ClassificationEvaluation.metrics.{name}", metric, Metric)
            if "/" in name:
                raise ValueError(
                    f"`ClassificationEvaluation.metrics` are expected to have names without a slash, but got {name!r}"
                )
        self.metrics = dict(metrics)

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        """Say before the first round that the data have no labels, or there are no test rows."""
        data = trainer.datamodule
        if getattr(data.encoding, "label_ids", None) is None:
            raise TypeError(
                "ClassificationEvaluation expects `data.encoding` to have labels, as a ClassificationEncoding has, but "
                f"got a {type(data.encoding).__name__}"
            )
        if not data.tests:
            raise ValueError(
                "ClassificationEvaluation expects `data.test` to have rows, but there are none"
            )

    def on_round_evaluation(
        self, trainer: FederationView, module: FederatedModule, metrics: dict[str, float]
    ) -> None:
        """Evaluate the sets where it is due."""
        if self.is_due(trainer):
            metrics |= of_every_model(trainer, module, partial(self._over_sets, trainer))

    def _over_sets(
        self, trainer: FederationView, module: FederatedModule, client: int | None
    ) -> dict[str, float]:
        """All values of one model, by name."""
        told: dict[str, float] = {}
        if isinstance(module.backbone, BlackBox):  # it says nothing of how likely a label is
            return told
        for number, (name, rows) in enumerate(trainer.datamodule.tests.items()):
            suffix = f"/{name}" if number else ""
            found = self._values(trainer, trainer.evaluated(rows), client)
            told |= {f"classification/{key}{suffix}": value for key, value in found.items()}
        return told

    def _values(
        self, trainer: FederationView, rows: Dataset, client: int | None
    ) -> Mapping[str, float]:
        """The values of all metrics on some rows, by name."""
        if not len(rows):
            return {}
        encoding: Any = trainer.datamodule.encoding
        labels = torch.as_tensor(encoding.label_ids(rows)).long()
        probabilities = torch.from_numpy(trainer.classify(rows, client)).float()
        names = label_names(encoding, trainer.lightning_module.backbone)
        told: dict[str, float] = {}
        for name, metric in self.metrics.items():
            value = _computed(name, metric, probabilities, labels)
            if value.numel() == 1:
                told[name] = float(value)
            elif value.shape == (len(names),):
                told |= {f"{name}/{label}": float(v) for label, v in zip(names, value, strict=True)}
            else:
                raise ValueError(
                    f"`ClassificationEvaluation.metrics.{name}` is expected to give one value, or one for each of the "
                    f"{len(names)} classes, but gave {list(value.shape)}"
                )
        return told


def _computed(name: str, metric: Metric, probabilities: Tensor, labels: Tensor) -> Tensor:
    """A metric of all rows at once, which all processes have: nothing of an earlier round counts."""
    if type(metric).__name__.startswith("Binary"):
        if probabilities.shape[1] != 2:
            raise ValueError(
                f"`ClassificationEvaluation.metrics.{name}` is expected to be one of {probabilities.shape[1]} classes, "
                f"but got a {type(metric).__name__}, which is of two"
            )
        probabilities = probabilities[:, 1]
    with of_this_process([metric]):
        metric.reset()
        metric.update(probabilities, labels)
        value = metric.compute()
        metric.reset()
    if not isinstance(value, Tensor):
        raise ValueError(
            f"`ClassificationEvaluation.metrics.{name}` is expected to give a tensor, but gave a {type(value).__name__}"
        )
    return value
