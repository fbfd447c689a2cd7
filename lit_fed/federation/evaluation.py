"""Evaluation loops, of the global model or of a client's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import torch
from lightning.fabric.utilities import move_data_to_device

from lit_fed.federation.client_selection import client_at
from lit_fed.metric_averager import MetricAverager

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.federation.trainer import FederatedTrainer

Split = Literal["validation", "test", "predict"]


def limited(batches: int, limit: int | float) -> int:
    """How many of an epoch's batches a ``limit_*_batches`` setting leaves, as in Lightning.

    Args:
        batches: Batches there are.
        limit: An integer is a count, a float a fraction.

    Example:
        >>> limited(10, 3), limited(10, 0.25), limited(10, 1.0)
        (3, 2, 10)
    """
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)


def batches_of(
    trainer: FederatedTrainer, rows: Dataset, split: Split, limit: int | float
) -> Iterator[tuple[int, dict[str, torch.Tensor]]]:
    """The batches of an evaluation in order, on the device."""
    data = trainer.datamodule
    loader = data.dataloader(
        rows, trainer.lightning_module.tokenizer, batch_size=data.eval_batch_size
    )
    device = trainer.fabric.device
    for index, batch in enumerate(islice(loader, limited(len(loader), limit))):
        batch = move_data_to_device(batch, device)
        trainer.call(f"on_{split}_batch_start", batch, index)
        yield index, batch


def evaluate(
    trainer: FederatedTrainer,
    rows: Dataset,
    split: Literal["validation", "test"],
    limit: int | float,
) -> dict[str, float]:
    """Means of what the module logs in ``validation_step`` or ``test_step`` over ``rows``."""
    module = trainer.lightning_module
    training = module.training
    module.eval()
    module.metric_averager = log = MetricAverager()
    step = getattr(trainer.wrapped_module, f"{split}_step")
    trainer.call(f"on_{split}_start")
    with torch.no_grad():
        for index, batch in batches_of(trainer, rows, split, limit):
            with trainer.fabric.autocast():
                output = step(batch, index)
            trainer.call(f"on_{split}_batch_end", output, batch, index)
    metrics = log.compute()
    module.metric_averager = None
    module.train(training)
    if module.client is None:
        trainer.callback_metrics.update({k: torch.tensor(v) for k, v in metrics.items()})
    trainer.call(f"on_{split}_end")
    return metrics


def predict(trainer: FederatedTrainer, rows: Dataset, limit: int | float) -> list[Any]:
    """What ``predict_step`` returns for every batch of ``rows``."""
    module = trainer.lightning_module
    training = module.training
    module.eval()
    trainer.call("on_predict_start")
    outputs = []
    with torch.no_grad():
        for index, batch in batches_of(trainer, rows, "predict", limit):
            with trainer.fabric.autocast():
                outputs.append(trainer.wrapped_module.predict_step(batch, index))
            trainer.call("on_predict_batch_end", outputs[-1], batch, index)
    module.train(training)
    trainer.call("on_predict_end")
    return outputs


def spread(rows: Sequence[Mapping[str, float]], prefix: str = "clients/") -> dict[str, float]:
    """Mean, standard deviation, least and most of every metric over the clients that report it.

    Args:
        rows: One dictionary of metrics per client.
        prefix: Put before the names.

    Example:
        >>> spread([{"loss": 1.0}, {"loss": 3.0}])
        {'clients/loss/mean': 2.0, 'clients/loss/std': 1.0, 'clients/loss/min': 1.0, 'clients/loss/max': 3.0}
    """
    summary: dict[str, float] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row[name] for row in rows if name in row]
        mean = math.fsum(values) / len(values)
        summary[f"{prefix}{name}/mean"] = mean
        summary[f"{prefix}{name}/std"] = math.sqrt(
            math.fsum((v - mean) ** 2 for v in values) / len(values)
        )
        summary[f"{prefix}{name}/min"] = min(values)
        summary[f"{prefix}{name}/max"] = max(values)
    return summary


def evaluate_everyone(
    trainer: FederatedTrainer,
    sets: dict[str, Dataset],
    split: Literal["validation", "test"],
    limit: int | float,
) -> dict[str, float]:
    """Evaluate the global model or, where the method has none, every client's own.

    Args:
        trainer: The trainer with its state.
        sets: Rows by name. Metrics of all but the first end in ``/<name>``.
        split: Which of the module's steps is run.
        limit: Batches of each set, as a count or a fraction.

    Returns:
        Metrics by name; without a global model their :func:`spread` over the clients.
    """

    def over_sets() -> dict[str, float]:
        metrics: dict[str, float] = {}
        for number, (name, rows) in enumerate(sets.items()):
            suffix = f"/{name}" if number else ""
            values = evaluate(trainer, rows, split, limit)
            metrics |= {f"{key}{suffix}": value for key, value in values.items()}
        return metrics

    state = trainer.federation
    if trainer.lightning_module.has_global_model:
        trainer.resident.act_as_server(state)
        return over_sets()
    per_client = []
    for index in range(len(trainer.datamodule.clients)):
        client = client_at(trainer, index)
        broadcast = trainer.lightning_module.broadcast_to(client, state.broadcast)
        trainer.resident.act_as_client(client, state.clients.get(client.id), broadcast)
        per_client.append(over_sets())
    trainer.resident.act_as_server(state)
    return spread(per_client)


def sanity_check(trainer: FederatedTrainer) -> None:
    """Try a few validation batches, so that an error there does not cost a round."""
    rows = trainer.datamodule.validation
    if not (trainer.num_sanity_val_steps and rows and trainer.lightning_module.has_global_model):
        return
    trainer.sanity_checking = True
    trainer.resident.act_as_server(trainer.federation)
    evaluate(trainer, rows, "validation", trainer.num_sanity_val_steps)
    trainer.callback_metrics.clear()
    trainer.sanity_checking = False
