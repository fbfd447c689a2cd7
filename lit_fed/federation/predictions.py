"""What a model says of rows, in their own words: texts, labels by name, generated answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import torch

from lit_fed.backbones import BlackBox
from lit_fed.data.columns import ROW_ID, column_values, row_ids
from lit_fed.federation.client.evaluation_loop import EvaluationLoop
from lit_fed.federation.client.local_batches import limited
from lit_fed.federation.generation import GenerationSettings, generated_texts

if TYPE_CHECKING:
    from datasets import Dataset

_FIELDS: Final = frozenset({"set", "row", "expected", "label", "probabilities", "generated"})
_DIGITS: Final = 6


def predicted_rows(
    evaluation: EvaluationLoop,
    sets: Mapping[str, Dataset],
    limit: int | float,
    settings: GenerationSettings,
) -> Iterator[dict[str, Any]]:
    """What the resident module, whoever it acts as, says of each row.

    Args:
        evaluation: Runs the module over rows.
        sets: Rows by name.
        limit: Batches of each set, as a count or a fraction.
        settings: How texts are generated, where the model does.

    Yields:
        For each row ``set``, ``row``, the table's columns but for the answer and a weight (one of a field's name with
        ``_`` behind it), ``expected`` where the table says it, and ``label`` and ``probabilities``, or ``generated``.

    Raises:
        TypeError: If the model can neither classify nor generate.
    """
    encoding = evaluation.data.encoding
    for name, rows in sets.items():
        count = _count(evaluation, rows, limit)
        if not count:
            continue
        rows = rows.select(range(count))
        if encoding.prompts(rows) is None:
            answers = _labelled(evaluation, rows)
        else:
            texts = generated_texts(evaluation, rows, settings)
            answers = [{"generated": text} for text in texts]
        hidden = {encoding.answer_column, encoding.weight, ROW_ID}
        columns = [column for column in rows.column_names if column not in hidden]
        untold = evaluation.data.unanswered.get(name, frozenset())
        ids = row_ids(rows).tolist()
        read = set(encoding.columns.values())
        held = {
            f"{c}_" if c in _FIELDS else c: _given(rows, c, untold if c in read else frozenset())
            for c in columns
        }
        expected = _expected(evaluation, rows)
        for i, row in enumerate(ids):
            yield {
                "set": name,
                "row": row,
                **{column: values[i] for column, values in held.items()},
                **({} if row in untold else {"expected": expected[i]}),
                **answers[i],
            }


def _given(rows: Dataset, column: str, untold: Set[int]) -> list[Any]:
    """A column's values; of chats that wait for an answer without the turn that stands in for it."""
    return [
        value[:-1] if row in untold and isinstance(value, list) else value
        for row, value in zip(row_ids(rows).tolist(), column_values(rows, column), strict=True)
    ]


def _count(evaluation: EvaluationLoop, rows: Dataset, limit: int | float) -> int:
    size = evaluation.data.eval_batch_size
    return min(len(rows), size * limited(-(-len(rows) // size), limit))


def _expected(evaluation: EvaluationLoop, rows: Dataset) -> list[Any]:
    """What the table says, labels by their names."""
    encoding = evaluation.data.encoding
    label_ids = getattr(encoding, "label_ids", None)
    if label_ids is None:
        return encoding.answers(rows) or [None] * len(rows)
    names = label_names(evaluation.data.encoding, evaluation.resident.module.backbone)
    return [names[label] for label in label_ids(rows).tolist()]


def label_names(encoding: Any, backbone: Any) -> list[str]:
    """The data's names of labels, else the model's, else their numbers.

    Args:
        encoding: The data's.
        backbone: The model.
    """
    names = encoding.names or backbone.label_names or []
    return [*names, *map(str, range(len(names), max(len(names), backbone.num_labels or 0)))]


def class_probabilities(evaluation: EvaluationLoop, rows: Dataset) -> npt.NDArray[np.float64]:
    """The probabilities that the resident module, whoever it acts as, gives the classes of each row, [N, C].

    Args:
        evaluation: Runs the module over rows.
        rows: N rows.

    Raises:
        TypeError: If the module does not classify, or is a black box, which gives no probabilities.
    """
    resident = evaluation.resident.module
    if isinstance(resident.backbone, BlackBox) and resident.client is not None:
        raise TypeError(
            f"`client` is expected to be one whose model gives probabilities, but {resident.client.id!r} is a black "
            f"box: {resident.backbone.generator!r} answers prompts by texts alone"
        )
    outputs = evaluation.predict(rows, 1.0) if len(rows) else []
    module = type(resident).__name__
    if not all(isinstance(o, Mapping) and "logits" in o and o["logits"].ndim == 2 for o in outputs):
        raise TypeError(
            f"predict_step of {module} is expected to return `logits` [B, C], as that of FederatedModule does"
        )
    if not outputs:
        return np.zeros((0, resident.backbone.num_labels or 0))
    logits = torch.cat([o["logits"] for o in outputs]).double()
    return np.asarray(logits.softmax(-1).cpu().numpy())


def _labelled(evaluation: EvaluationLoop, rows: Dataset) -> list[dict[str, Any]]:
    """The likeliest label of each row, and the probability of each."""
    probabilities = class_probabilities(evaluation, rows).tolist()
    names = label_names(evaluation.data.encoding, evaluation.resident.module.backbone)
    return [
        {
            "label": names[max(range(len(row)), key=row.__getitem__)],
            "probabilities": {n: round(p, _DIGITS) for n, p in zip(names, row, strict=False)},
        }
        for row in probabilities
    ]
