"""What defences keep of clients' rows: in each round's row, and by client and class in the summary."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from lit_fed.attachment import attachment_names
from lit_fed.callbacks.federated_callback import FederatedCallback
from lit_fed.defenses import KeptRows, RowDefense

if TYPE_CHECKING:
    from lit_fed.federation.federation_view import FederationView
    from lit_fed.module import FederatedModule


class RowDefenseReport(FederatedCallback):
    """Reports what each :class:`~lit_fed.defenses.RowDefense` keeps of the rows of all clients that have trained.

    A round's row gets ``defense/<class of the defence>/kept``, the share of rows that are kept,
    ``…/kept/<label>``, that of each label where rows have one, and ``…/changed``, the share of the kept whose text is
    another one; they are curves in TensorBoard. The summary has the counts by client and label, and the ids of dropped
    rows, under ``defenses``. Without such an attachment it does nothing.
    """

    def on_round_evaluation(
        self, trainer: FederationView, module: FederatedModule, metrics: dict[str, float]
    ) -> None:
        """Add the shares."""
        for name, clients in _counts(trainer).items():
            total: Counter[str] = Counter()
            kept: Counter[str] = Counter()
            changed = 0
            for one in clients.values():
                total.update(dict(zip(one.classes, one.total, strict=True)))
                kept.update(dict(zip(one.classes, one.kept, strict=True)))
                changed += sum(one.changed)
            metrics[f"defense/{name}/kept"] = kept.total() / total.total()
            metrics[f"defense/{name}/changed"] = changed / max(1, kept.total())
            for label in sorted(total) if set(total) != {""} else ():
                metrics[f"defense/{name}/kept/{label}"] = kept[label] / total[label]

    def summarised(self, trainer: FederationView) -> dict[str, Any]:
        """The counts, by defence and client."""
        counts = _counts(trainer)
        if not counts:
            return {}
        return {
            "defenses": {
                name: {
                    client: {
                        "total": dict(zip(one.classes, one.total, strict=True)),
                        "kept": dict(zip(one.classes, one.kept, strict=True)),
                        "changed": dict(zip(one.classes, one.changed, strict=True)),
                        "dropped_rows": list(one.dropped),
                    }
                    for client, one in clients.items()
                }
                for name, clients in counts.items()
            }
        }


def _counts(trainer: FederationView) -> dict[str, dict[str, KeptRows]]:
    """The counts by defence and client; a second defence of a class has its place in its name."""
    found: dict[str, dict[str, KeptRows]] = {}
    named: set[str] = set()
    attached = zip(attachment_names(trainer.attachments), trainer.attachments, strict=True)
    for number, (memory, attachment) in enumerate(attached):
        if not isinstance(attachment, RowDefense):
            continue
        name = type(attachment).__name__
        name = f"{name}_{number}" if name in named else name
        named.add(name)
        for client, state in trainer.federation.clients.items():
            part = state.attachments.parts.get(memory)
            if part is not None and (counts := KeptRows.from_payload(part)) is not None:
                found.setdefault(name, {})[client] = counts
    return found
