"""What defences keep of clients' rows: in each round's row, and by client and class in the summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from lit_fed.attachment import Attachment, attachment_names
from lit_fed.attacks import RowPoisoning
from lit_fed.callbacks.federated_callback import FederatedCallback
from lit_fed.defenses import KeptRows, RowDefense

if TYPE_CHECKING:
    from lit_fed.federation.federation_view import FederationView
    from lit_fed.module import FederatedModule


class _Judged(NamedTuple):
    """What a defence has made of clients' rows."""

    clients: Mapping[str, KeptRows]
    """The counts, by client."""
    before: Sequence[Attachment]
    """What has acted on the rows before the defence has seen them."""


class RowDefenseReport(FederatedCallback):
    """Reports what defences keep of the rows of all clients that have trained.

    Of each :class:`~lit_fed.defenses.RowDefense` a round's row gets ``defense/<class of the defence>/kept``, the share
    of rows that are kept, ``…/kept/<label>``, that of each label where rows have one, and ``…/changed``, the share of
    the kept whose text is another one; they are curves in TensorBoard. Where an attack has poisoned rows,
    which is known in a trial of one's own, there are ``…/clean_rows_lost``, the share of the clean rows that is dropped
    (:class:`~lit_fed.metrics.CleanRowsLost`, as a share), and ``…/poisoned_rows_kept``, that of the poisoned ones that
    is not. The gate of a method such as :class:`~lit_fed.PrototypeDefense`, which reports what it keeps by itself, has
    the last two as well, as ``defense/<class of the method>/…``.

    The summary has the counts by client and label, and the ids of dropped rows, under ``defenses``: of attachments, and
    of such a gate. Without a defence of rows it does nothing.
    """

    def on_round_evaluation(
        self, trainer: FederationView, module: FederatedModule, metrics: dict[str, float]
    ) -> None:
        """Add the shares."""
        attached = _of_attachments(trainer)
        for name, (clients, before) in _with_gate(trainer, attached).items():
            told = _shares(clients) if name in attached else {}
            told |= _by_attack(clients, before)
            metrics |= {f"defense/{name}/{what}": share for what, share in told.items()}

    def summarised(self, trainer: FederationView) -> dict[str, Any]:
        """The counts, by defence and client."""
        defenses = _with_gate(trainer, _of_attachments(trainer))
        if not defenses:
            return {}
        return {
            "defenses": {
                name: {
                    client: {
                        "total": dict(zip(one.classes, one.total, strict=True)),
                        "kept": dict(zip(one.classes, one.kept, strict=True)),
                        "changed": dict(zip(one.classes, one.changed, strict=True)),
                        "dropped_rows": list(one.dropped),
                        **_by_attack({client: one}, before),
                    }
                    for client, one in clients.items()
                }
                for name, (clients, before) in defenses.items()
            }
        }


def _with_gate(trainer: FederationView, attached: Mapping[str, _Judged]) -> Mapping[str, _Judged]:
    """The counts of the attachments and, behind them, those of the method's own gate, where it has one."""
    told = getattr(trainer.lightning_module, "kept_rows", None)
    if told is None:
        return attached
    states = trainer.federation.clients.items()
    found = {client: told(state.private) for client, state in states}
    clients = {client: one for client, one in found.items() if one is not None}
    if not clients:
        return attached
    gate = _Judged(clients, trainer.attachments)
    return {**attached, type(trainer.lightning_module).__name__: gate}


def _of_attachments(trainer: FederationView) -> dict[str, _Judged]:
    """What attached defences have counted, by name; a second defence of a class has its place in its name."""
    found: dict[str, _Judged] = {}
    named: set[str] = set()
    attached = zip(attachment_names(trainer.attachments), trainer.attachments, strict=True)
    for number, (memory, attachment) in enumerate(attached):
        if not isinstance(attachment, RowDefense):
            continue
        name = type(attachment).__name__
        name = f"{name}_{number}" if name in named else name
        named.add(name)
        kept = {
            client: KeptRows.from_payload(state.attachments.parts[memory])
            for client, state in trainer.federation.clients.items()
            if memory in state.attachments.parts
        }
        counted = {client: counts for client, counts in kept.items() if counts is not None}
        if counted:
            found[name] = _Judged(counted, trainer.attachments[:number])
    return found


def _shares(clients: Mapping[str, KeptRows]) -> dict[str, float]:
    """The shares of rows that are kept, of all and of each label, and of those of which the text is another one."""
    total: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    changed = 0
    for one in clients.values():
        total.update(dict(zip(one.classes, one.total, strict=True)))
        kept.update(dict(zip(one.classes, one.kept, strict=True)))
        changed += sum(one.changed)
    told = {"kept": kept.total() / total.total(), "changed": changed / max(1, kept.total())}
    labels = sorted(total) if set(total) != {""} else []
    return told | {f"kept/{label}": kept[label] / total[label] for label in labels}


def _by_attack(clients: Mapping[str, KeptRows], before: Sequence[Attachment]) -> dict[str, float]:
    """The share of clean rows that is lost, and that of poisoned ones that is kept; none where nothing is poisoned.

    They are of the rows that the defence has seen: none of another task, none that a defence before it has dropped, and
    none where the rows that it sees are others than those that attacks have chosen from.

    Args:
        clients: The counts, by client.
        before: What has acted on the rows before.
    """
    attacks = [one for one in before if isinstance(one, RowPoisoning)]
    lost = clean = kept = poisoned = 0
    for client, seen in clients.items():
        if any(one.replaces_rows and _is_for(one, client) for one in before):
            continue
        bad = set().union(*(one.chosen_rows(client, seen.round) for one in attacks))
        bad &= set(seen.judged)
        caught = len(bad.intersection(seen.dropped))
        lost += len(seen.dropped) - caught
        clean += sum(seen.total) - len(bad)
        kept += len(bad) - caught
        poisoned += len(bad)
    if not poisoned:
        return {}
    told = {"poisoned_rows_kept": kept / poisoned}
    return {"clean_rows_lost": lost / clean, **told} if clean else told


def _is_for(attachment: Attachment, client: str) -> bool:
    """Whether an attachment acts on a client, by its id."""
    return attachment.clients is None or client in attachment.clients
