"""Flower's client: a module of its own, so that an actor imports it once and keeps the model."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from tests.benchmarks.rivals import job

app = ClientApp()


@cache
def _loaded(work: str, folder: str, threads: int) -> tuple[Any, ...]:
    """Once for each actor, instead of once for each client and round."""
    import torch

    torch.set_num_threads(threads)
    model = job.load_model(work, Path(folder))
    return model, job.trainable(model), *job.load_rows(Path(folder))


@app.train()
def train(message: Message, context: Context) -> Message:
    config = message.content["config"]
    model, parameters, tokens, labels = _loaded(config["work"], config["folder"], config["threads"])
    began = time.perf_counter()  # of the machine, the same in every process
    client = int(context.node_config["partition-id"])
    job.load_weights(parameters, message.content["arrays"].to_torch_state_dict())
    job.train_client(
        model, list(parameters.values()), config["work"], tokens[client], labels[client]
    )
    content = {
        "arrays": ArrayRecord({name: p.detach() for name, p in parameters.items()}),
        "metrics": MetricRecord({"num-examples": len(labels[client]), "began": began}),
    }
    return Message(content=RecordDict(content), reply_to=message)
