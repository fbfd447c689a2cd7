"""Two tasks on the toy federation: which words are good, and which are long; a client may lack one."""

from __future__ import annotations

from typing import Any

from datasets import Dataset, concatenate_datasets

from lit_fed.data import ClassificationEncoding, FederatedDataModule, NaturalPartitioner
from tests.federation.toy import toy_rows

TASKS = ["first", "second"]


def task_rows(count: int, seed: int, clients: int = 4) -> Dataset:
    """Rows of both tasks; in the second the labels are swapped. The last client has none of the second."""
    parts = []
    for number, task in enumerate(TASKS):
        rows = toy_rows(count, seed + 10 * number)
        labels = [1 - y if number else y for y in rows["label"]]
        holders = clients - number
        parts.append(
            Dataset.from_dict(
                {
                    "text": rows["text"],
                    "label": labels,
                    "task": [task] * count,
                    "owner": [f"owner {(i // 2) % holders}" for i in range(count)],
                }
            )
        )
    return concatenate_datasets(parts)


def task_data(**settings: Any) -> FederatedDataModule:
    given: dict[str, Any] = {
        "train": task_rows(48, 0),
        "validation": task_rows(16, 1),
        "test": {"test": task_rows(20, 2), "shifted": task_rows(12, 3)},
        "encoding": ClassificationEncoding(text="text", text_pair=None),
        "partitioner": NaturalPartitioner(column="owner"),
        "num_clients": 4,
        "batch_size": 8,
        "max_length": 16,
        "seed": 0,
        "tasks": TASKS,
    }
    return FederatedDataModule(**given | settings)
