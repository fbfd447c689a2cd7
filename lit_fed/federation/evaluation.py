"""Evaluation of the federation: the global model and, where clients have models of their own, each of these."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from lit_fed.client import Client
from lit_fed.federation.client.client_state import ClientState
from lit_fed.federation.client.evaluation_loop import EvaluationLoop
from lit_fed.federation.client.resident_module import ResidentModule
from lit_fed.federation.state import FederationState

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.data import ClientData


def act_as_server(resident: ResidentModule, state: FederationState) -> None:
    """Let the resident module be the server as it is after the last finished round."""
    resident.act_as_server(state.broadcast, state.server if state.round else None)


def act_as_client(resident: ResidentModule, state: FederationState, client: Client) -> None:
    """Let the resident module be a client at the start of its next round."""
    before = state.clients.get(client.id, ClientState())
    resident.act_as_client(client, before, resident.module.broadcast_to(client, state.broadcast))


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


def spread_of_clients(
    found: Sequence[tuple[Client | ClientData, Mapping[str, float]]],
) -> dict[str, float]:
    """The :func:`spread` of the clients' metrics over all of them, and where they have groups over each of these.

    Args:
        found: Clients and what each reports.

    Example:
        >>> clients = [Client(name, 0, 1, 0, 0, 0, group=name) for name in ("weak", "others")]
        >>> found = spread_of_clients([(client, {"loss": 1.0 + i}) for i, client in enumerate(clients)])
        >>> {name: value for name, value in found.items() if name.endswith("mean")}
        {'clients/loss/mean': 1.5, 'clients/weak/loss/mean': 1.0, 'clients/others/loss/mean': 2.0}
    """
    summary = spread([metrics for _, metrics in found])
    for group in dict.fromkeys(client.group for client, _ in found if client.group):
        own = [metrics for client, metrics in found if client.group == group]
        summary |= spread(own, f"clients/{group}/")
    return summary


def evaluate_federation(
    evaluation: EvaluationLoop,
    state: FederationState,
    clients: Sequence[Client],
    sets: Mapping[str, Dataset],
    split: Literal["validation", "test"],
    limit: int | float,
) -> dict[str, float]:
    """Evaluate the global model and, where clients have models of their own, each of these.

    Args:
        evaluation: Runs the resident module over rows.
        state: The state of the federation.
        clients: All clients.
        sets: Rows by name. Metrics of all but the first end in ``/<name>``.
        split: Which of the module's steps is run.
        limit: Batches of each set, as a count or a fraction.

    Returns:
        Metrics by name of the global model, if there is one; of the clients' own their :func:`spread_of_clients`.
    """

    def over_sets() -> dict[str, float]:
        metrics: dict[str, float] = {}
        for number, (name, rows) in enumerate(sets.items()):
            suffix = f"/{name}" if number else ""
            values = evaluation.evaluate(rows, split, limit)
            metrics |= {f"{key}{suffix}": value for key, value in values.items()}
        return metrics

    resident = evaluation.resident
    common: dict[str, float] = {}
    if resident.module.has_global_model:
        act_as_server(resident, state)
        common = over_sets()
        if not resident.module.has_client_models:
            return common
    per_client = []
    for client in clients:
        act_as_client(resident, state, client)
        per_client.append((client, over_sets()))
    act_as_server(resident, state)
    return common | spread_of_clients(per_client)
