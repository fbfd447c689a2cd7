"""The work in Flower's simulation, in the best arrangement it has for this work.

``python -m tests.benchmarks.rivals.flower --work C --threads 1 --processes 2``: as many Ray actors as processes, of
one thread each. An actor keeps its model between clients, only adapter and head are sent, the server imports no
torch, and there is no evaluation. The rounds are counted from when the first client has its model.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

# Neither may wait for a network at the end.
os.environ |= {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0"}

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, MetricRecord, RecordDict
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from safetensors.numpy import load_file

from tests.benchmarks.rivals import job
from tests.benchmarks.rivals.flower_client import app as client_app


def _first(records: Sequence[RecordDict], weight: str) -> MetricRecord:
    """When the first client of a round began."""
    return MetricRecord({"began": min(record["metrics"]["began"] for record in records)})


def main() -> None:
    options = job.parser().parse_args()
    job.begin(options)
    found: dict[str, Any] = {}
    server_app = ServerApp()

    @server_app.main()
    def serve(grid: Grid, context: Context) -> None:
        initial = load_file(options.folder / "initial.safetensors")
        strategy = FedAvg(
            fraction_evaluate=0.0,
            min_train_nodes=options.clients,
            min_available_nodes=options.clients,
            train_metrics_aggr_fn=_first,
        )
        result = strategy.start(
            grid,
            ArrayRecord({name: Array(array) for name, array in initial.items()}),
            num_rounds=options.rounds,
            train_config=ConfigRecord(
                {
                    "work": options.work,
                    "folder": str(options.folder),
                    "threads": options.threads,
                }
            ),
        )
        found["ended"] = time.perf_counter()
        found["began"] = result.train_metrics_clientapp[1]["began"]
        found["arrays"] = result.arrays

    run_simulation(
        server_app,
        client_app,
        options.clients,
        backend_config={
            "init_args": {"num_cpus": options.processes},
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        },
    )
    weights = {name: array.numpy() for name, array in found["arrays"].items()}
    job.report(found["ended"] - found["began"], weights, options.folder)


if __name__ == "__main__":
    main()
