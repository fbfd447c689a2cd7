"""Prototype audit: a page by which a person can judge a method's prototypes and what its gate drops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lit_fed.atomic_files import write_file
from lit_fed.callbacks.audit import Audit, AuditedClient, audited_prototypes
from lit_fed.callbacks.audit_page import audit_page
from lit_fed.callbacks.curves import tensorboard_writers
from lit_fed.callbacks.harmless_text import table_cell
from lit_fed.callbacks.periodic_evaluation import PeriodicEvaluation
from lit_fed.callbacks.prototype_view import (
    prototypes_of,
    require_prototypes,
    require_row_vectors,
    row_vectors,
)
from lit_fed.limits import require_at_least
from lit_fed.metrics import class_purity, dead_share, usage_entropy, within_margin

if TYPE_CHECKING:
    from lit_fed.client import Client
    from lit_fed.federation.federation_view import FederationView
    from lit_fed.methods.prototype_defense import Dropped
    from lit_fed.module import FederatedModule
    from lit_fed.prototypes import PrototypeSet

_MARGIN: Final = 0.3
"""The distance within which a row counts as covered, where the method has no margin of its own."""


class PrototypeAudit(PeriodicEvaluation):
    """Writes ``prototypes.html`` into the run's folder, and a table of the prototypes into TensorBoard's text tab.

    The page is one file that loads and runs nothing. It has each prototype's class, its nearest reference texts, how
    many references and validation rows are nearest to it, how many of these have its class, and how far it has moved
    since the version before; and each client's rows that the gate has dropped, with the reason. **It shows clients'
    texts** where the method tells them, which a simulation on one machine can: keep it where they may be read. Of a run
    in several processes, the dropped rows are those that the first process has judged.

    Where there are validation rows, a round's row of the history gets of them, from 0 to 100: ``prototypes/coverage``,
    the share within the margin of a prototype (:class:`~lit_fed.metrics.PrototypeCoverage`, by the method's margin,
    else 0.3), ``prototypes/usage_entropy`` and ``prototypes/dead`` (:class:`~lit_fed.metrics.PrototypeUsage`), and
    ``prototypes/purity`` (:class:`~lit_fed.metrics.PrototypePurity`), where rows have classes.

    Args:
        every_n_rounds: Write after every so many rounds, beside the last. None: not.
        max_characters: Characters of a text that are shown.
        max_rows: Dropped rows of a client that are shown.

    Raises:
        ValueError: If a number is below 1.
        TypeError: When a fit starts, if the method has no prototypes, or cannot embed rows of several texts.

    Example:
        >>> PrototypeAudit(max_rows=0)
        Traceback (most recent call last):
        ValueError: `PrototypeAudit.max_rows` is expected to be at least 1, but got 0
    """

    file_name = "prototypes.html"
    tag = "prototypes"

    def __init__(
        self, every_n_rounds: int | None = None, max_characters: int = 300, max_rows: int = 50
    ) -> None:
        super().__init__(every_n_rounds)
        name = type(self).__name__
        self.max_characters = require_at_least(f"{name}.max_characters", max_characters, 1)
        self.max_rows = require_at_least(f"{name}.max_rows", max_rows, 1)
        self._kept: dict[str, Any] = {}
        self._loaded: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        """The last page, which may not have been written when the run is broken off, and the last two versions."""
        return dict(self._kept)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave, at the start of the fit."""
        self._loaded = state_dict

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        """Take the last page back; say now where there is nothing to audit."""
        require_prototypes(module, type(self).__name__)
        data = trainer.datamodule
        if data.validation is not None:
            require_row_vectors(module, data.encoding, data.validation, type(self).__name__)
        self._kept, self._loaded = dict(self._loaded), {}

    def on_round_start(
        self, trainer: FederationView, module: FederatedModule, clients: Sequence[Client]
    ) -> None:
        """Keep the prototypes that the first round starts from, to tell how far it moves them."""
        prototypes = prototypes_of(module)
        if prototypes is not None and not self._kept:
            self._keep_version(prototypes)

    def on_round_evaluation(
        self, trainer: FederationView, module: FederatedModule, metrics: dict[str, float]
    ) -> None:
        """Look at the prototypes; those of each new version are kept, to tell the next one's drift."""
        prototypes = prototypes_of(module)
        if prototypes is None:
            return
        self._keep_version(prototypes)
        if not self.is_due(trainer):
            return
        similarities, labels = _validation(trainer, module, prototypes)
        metrics |= _figures(similarities, labels, getattr(module, "margin", _MARGIN))
        if not trainer.is_global_zero:
            return
        nearest = similarities.argmax(-1).numpy().astype(np.int64)
        audit = self._audit(trainer, module, prototypes, nearest, labels)
        self._kept |= {
            "round": trainer.current_round,
            "page": audit_page(audit, self.max_characters, self.max_rows),
            "text": self._markdown(audit),
        }

    def on_round_report(
        self, trainer: FederationView, module: FederatedModule, metrics: Mapping[str, float]
    ) -> None:
        """Write the page and the table."""
        if self._kept.get("round") != trainer.current_round:
            return
        folder = self.run_folder(trainer)
        if folder is not None:
            write_file(folder / self.file_name, self._kept["page"])
        for writer in tensorboard_writers(trainer):
            writer.add_text(self.tag, self._kept["text"], self._kept["round"])

    def _keep_version(self, prototypes: PrototypeSet) -> None:
        if self._kept.get("version") == prototypes.version:
            return
        same = self._kept.get("encoder") == prototypes.encoder
        if same and self._kept["vectors"].shape == prototypes.vectors.shape:
            self._kept["before"] = self._kept["vectors"]
        else:
            self._kept.pop("before", None)
        self._kept |= {
            "version": prototypes.version,
            "encoder": prototypes.encoder,
            "vectors": prototypes.vectors.detach().cpu().clone(),
        }

    def _audit(
        self,
        trainer: FederationView,
        module: FederatedModule,
        prototypes: PrototypeSet,
        nearest: npt.NDArray[np.int64],
        labels: npt.NDArray[np.int64],
    ) -> Audit:
        before: Tensor | None = self._kept.get("before")
        judged, dropped = (getattr(module, name, None) for name in ("judged", "dropped"))

        def of_client(client: str) -> Sequence[Dropped] | None:
            if judged is not None and not judged(client):
                return None
            return () if dropped is None else tuple(dropped(client))

        return Audit(
            trainer.current_round,
            prototypes.version,
            prototypes.digest,
            prototypes.encoder,
            len(nearest),
            audited_prototypes(_with_references(module, prototypes), nearest, labels, before),
            tuple(
                AuditedClient(client.id, len(client.rows), of_client(client.id))
                for client in trainer.datamodule.clients
            ),
        )

    def _markdown(self, audit: Audit) -> str:
        def cell(text: object) -> str:
            return table_cell(str(text), self.max_characters)

        names = ("prototype", "class", "references", "validation rows", "of its class", "drift")
        lines = [[*names, "to look at", "nearest reference"], ["---"] * (len(names) + 2)]
        for one in audit.prototypes:
            lines.append(
                [
                    str(one.index),
                    cell(one.class_name),
                    str(one.count),
                    str(one.usage),
                    "" if one.agreement is None else f"{one.agreement:.2f}",
                    "" if one.drift is None else f"{one.drift:.3f}",
                    ", ".join(one.flags),
                    cell(one.references[0]) if one.references else "",
                ]
            )
        dropped = ", ".join(
            f"{cell(client.client)} "
            + (
                "not judged here"
                if client.dropped is None
                else f"{len(client.dropped)} of {client.rows}"
            )
            for client in audit.clients
        )
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"{table}\n\nDropped rows: {dropped}"


def _with_references(module: Any, prototypes: PrototypeSet) -> PrototypeSet:
    """Merged prototypes with the texts and the counts of the references that they come from, place by place."""
    guarding = getattr(module, "guarding", None)
    first = None if guarding is None or guarding.guard is None else guarding.guard.prototypes
    if prototypes.references or first is None or len(first) != len(prototypes):
        return prototypes
    return replace(prototypes, references=first.references, counts=first.counts)


def _validation(
    trainer: FederationView, module: FederatedModule, prototypes: PrototypeSet
) -> tuple[Tensor, npt.NDArray[np.int64]]:
    """Of each validation row its cosines with all prototypes, [n, P], and its class, −1 where it is not known."""
    rows, encoding = trainer.datamodule.validation, trainer.datamodule.encoding
    if rows is None or not len(rows):
        return torch.zeros(0, len(prototypes)), np.zeros(0, np.int64)
    similarities = prototypes.similarities(row_vectors(module, encoding, rows)).cpu()
    label_ids = getattr(encoding, "label_ids", None)
    labels = np.full(len(rows), -1, np.int64) if label_ids is None else label_ids(rows)
    return similarities, labels


def _figures(
    similarities: Tensor, labels: npt.NDArray[np.int64], margin: float
) -> dict[str, float]:
    """How rows lie among prototypes; nothing without rows."""
    rows, count = similarities.shape
    if not rows:
        return {}
    nearest, classes = similarities.argmax(-1), torch.from_numpy(labels)
    used = torch.bincount(nearest, minlength=count).double()
    told = {
        "coverage": within_margin(similarities, margin).double().mean(),
        "usage_entropy": usage_entropy(used),
        "dead": dead_share(used),
    }
    if bool((classes >= 0).all()):
        kinds = int(classes.max()) + 1
        pairs = torch.bincount(nearest * kinds + classes, minlength=count * kinds)
        told["purity"] = class_purity(pairs.view(count, kinds).double())
    return {f"prototypes/{name}": 100 * float(value) for name, value in told.items()}
