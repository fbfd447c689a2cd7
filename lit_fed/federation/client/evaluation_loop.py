"""Evaluation and prediction with the resident module, whoever it acts as."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Literal

import torch
from lightning.fabric import Fabric
from lightning.fabric.utilities import move_data_to_device

from lit_fed.backbones import BlackBox
from lit_fed.data import FederatedDataModule
from lit_fed.federation.client.events import Events
from lit_fed.federation.client.local_batches import limited
from lit_fed.federation.client.resident_module import ResidentModule
from lit_fed.metric_averager import MetricAverager, of_this_process

if TYPE_CHECKING:
    from datasets import Dataset

Split = Literal["validation", "test", "predict"]
_LOGGED: Final = {"validation": "val", "test": "test"}


class EvaluationLoop:
    """Runs a module's ``validation_step``, ``test_step`` or ``predict_step`` over rows.

    Args:
        resident: The module.
        data: Makes batches of rows.
        fabric: The device and the precision.
        events: What Lightning's hooks are reported to.
    """

    def __init__(
        self, resident: ResidentModule, data: FederatedDataModule, fabric: Fabric, events: Events
    ) -> None:
        self.resident = resident
        self.data = data
        self.fabric = fabric
        self.events = events

    def evaluate(
        self, rows: Dataset, split: Literal["validation", "test"], limit: int | float
    ) -> dict[str, float]:
        """Means of what the module logs in ``validation_step`` or ``test_step`` over ``rows``.

        A client whose model is a black box is judged by its answers, without batches and their hooks.

        Args:
            rows: The rows.
            split: Which step is run.
            limit: Batches, as a count or a fraction.
        """
        with of_this_process(self.resident.module.modules()):  # each evaluates all rows
            return self._evaluate(rows, split, limit)

    def _evaluate(
        self, rows: Dataset, split: Literal["validation", "test"], limit: int | float
    ) -> dict[str, float]:
        module = self.resident.module
        training = module.training
        module.eval()
        module.metric_averager = averager = MetricAverager()
        step = getattr(self.resident.wrapped, f"{split}_step")
        self.events.report(module, f"on_{split}_start")
        self.events.report(module, f"on_{split}_epoch_start")
        if isinstance(module.backbone, BlackBox):
            for name, value in module.answer_metrics(self.limited_rows(rows, limit)).items():
                averager.add(f"{_LOGGED[split]}/{name}", value)
        else:
            self._run_step(step, rows, split, limit, averager)
        # before the means, since a module may log here what it has gathered over the batches
        self.events.report(module, f"on_{split}_epoch_end")
        metrics = averager.compute()
        module.metric_averager = None
        module.train(training)
        self.events.report_metrics(module, metrics)
        self.events.report(module, f"on_{split}_end")
        return metrics

    def _run_step(
        self,
        step: Callable[[dict[str, torch.Tensor], int], Any],
        rows: Dataset,
        split: Split,
        limit: int | float,
        averager: MetricAverager,
    ) -> None:
        module = self.resident.module
        with torch.no_grad():
            for index, batch in self._batches(rows, split, limit):
                with averager.during(batch):
                    with self.fabric.autocast():
                        output = step(batch, index)
                    self.events.report(module, f"on_{split}_batch_end", output, batch, index)

    def predict(self, rows: Dataset, limit: int | float) -> list[Any]:
        """What ``predict_step`` returns for every batch of ``rows``.

        Args:
            rows: The rows.
            limit: Batches, as a count or a fraction.
        """
        module = self.resident.module
        training = module.training
        module.eval()
        self.events.report(module, "on_predict_start")
        self.events.report(module, "on_predict_epoch_start")
        outputs = []
        with torch.no_grad():
            for index, batch in self._batches(rows, "predict", limit):
                with self.fabric.autocast():
                    outputs.append(self.resident.wrapped.predict_step(batch, index))
                self.events.report(module, "on_predict_batch_end", outputs[-1], batch, index)
        self.events.report(module, "on_predict_epoch_end")
        module.train(training)
        self.events.report(module, "on_predict_end")
        return outputs

    def limited_rows(self, rows: Dataset, limit: int | float) -> Dataset:
        """The rows of the batches that are evaluated: the first ones.

        Args:
            rows: The rows.
            limit: Batches, as a count or a fraction.
        """
        return rows.select(range(self._count(rows, limit)))

    def _count(self, rows: Dataset, limit: int | float) -> int:
        size = self.data.eval_batch_size
        return min(len(rows), size * limited(-(-len(rows) // size), limit))

    def _batches(
        self, rows: Dataset, split: Split, limit: int | float
    ) -> Iterator[tuple[int, dict[str, torch.Tensor]]]:
        """The batches on the device, in order where something is said of each row, else the longest rows first."""
        module, data, count = self.resident.module, self.data, self._count(rows, limit)
        loader = data.dataloader(
            rows,
            module.tokenizer,
            batch_size=data.eval_batch_size,
            longest_of=None if split == "predict" else count,
        )
        for index, batch in enumerate(islice(loader, -(-count // data.eval_batch_size))):
            batch = move_data_to_device(batch, self.fabric.device)
            self.events.report(module, f"on_{split}_batch_start", batch, index)
            yield index, batch
