"""What a guarded method shares: how prototypes are sent, rows judged, and adapted prototypes merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from lit_fed.client import Client
from lit_fed.defenses.kept_rows import KeptRows
from lit_fed.methods.averaging import AveragingMixin
from lit_fed.methods.prototype_defense.gated_rows import Dropped
from lit_fed.methods.prototype_defense.guarding import AGREED, MERGED, Guarding
from lit_fed.payload import Payload
from lit_fed.prototypes import PrototypeSet, adapt_prototypes, merge_prototypes, prototype_drift
from lit_fed.prototypes.prototype_set import require_same_prototypes
from lit_fed.specification import Specification, TensorSpecification
from lit_fed.update import Update

if TYPE_CHECKING:
    from datasets import Dataset

_ADAPTED: Final = "adapted_prototypes"
_KEPT_ROWS: Final = "kept_rows"


class GuardedMixin(AveragingMixin):
    """Gives a method prototypes of clean references, and the rows that a gate keeps.

    Attributes:
        guarding: Has the prototypes, the encoder and the gate. None: there are none, and all is as without.
    """

    guarding: Guarding | None = None
    _adapted: PrototypeSet | None = None
    _drift: float | None = None
    _kept_parts: Mapping[str, Payload] = {}

    @property
    def prototypes(self) -> PrototypeSet:
        """Those that representations are pulled to now.

        Raises:
            RuntimeError: If the server has not made any yet.
        """
        found = None if self.guarding is None else self.guarding.prototypes
        if found is None:
            raise RuntimeError(
                "prototypes are there when a federation with a defence has begun, but there are none"
            )
        return found

    def embed(self, texts: Sequence[str | tuple[str, str]]) -> Tensor:
        """The gate's encoder's vectors of texts, [n, d], in the space of the prototypes; it needs no data.

        Args:
            texts: All texts or, as where the data's rows have two, all pairs of texts; there may be none.

        Raises:
            ValueError: If they are neither, or cannot be read.
        """
        return self._required.embed(self, texts)

    def embed_rows(self, rows: Dataset) -> Tensor:
        """The gate's encoder's vectors of rows as the data's encoding writes them, [n, d]: of pairs, both texts.

        It needs the data, which a method from a run's folder has not: :meth:`embed` takes pairs as well.

        Args:
            rows: The rows, at least one.
        """
        return self._required.embed_rows(self, rows)

    def judged(self, client_id: str) -> bool:
        """Whether this process has judged a client's rows, which it does when the client first trains.

        Args:
            client_id: The client's id.
        """
        return self.guarding is not None and self.guarding.judged(client_id)

    def dropped(self, client_id: str) -> Sequence[Dropped]:
        """The rows of a client that the gate has dropped; none where there is no gate.

        Args:
            client_id: The client's id.

        Raises:
            ValueError: If this process has not judged the client's rows, see :meth:`judged`.
        """
        if self.guarding is None or not self.guarding.judges:
            return ()
        if not self.judged(client_id):
            raise ValueError(
                f"the rows of client {client_id!r} are expected to have been judged here, as when it trains, but they "
                "have not; what a run has dropped is under `defenses` in its summary.json"
            )
        return self.guarding.dropped(self, client_id)

    @staticmethod
    def kept_rows(private: Payload) -> KeptRows | None:
        """How many of its rows the gate has kept by a client's private state, and which it has dropped.

        Args:
            private: The private state; of a client that no gate has judged, which has no counts, the answer is None.
        """
        counts = private.parts.get(_KEPT_ROWS)
        return None if counts is None else KeptRows.from_payload(counts)

    def private_state(self) -> Payload:
        """Client: what stays with it, among it what the gate has kept of its rows."""
        state, guarding = super().private_state(), self.guarding
        if guarding is None or self.client is None:
            return state
        counts = guarding.counted(type(self).__name__, self.client.id)
        return state if counts is None else state.with_parts({_KEPT_ROWS: counts.to_payload()})

    def check_replaced_rows(self, by: str) -> None:
        """Refuse to adapt prototypes to rows that are none of the client's own, which the server cannot count."""
        super().check_replaced_rows(by)
        if self.guarding is not None and self.guarding.adaptation:
            raise ValueError(
                f"`model.adaptation` is expected to be 0 with {by}, which gives clients other rows than their own to "
                f"adapt prototypes to, but got {self.guarding.adaptation}"
            )

    def initial_broadcast(self) -> Payload:
        """Server: θ_g as it was built; the prototypes are made now, and sent by :meth:`broadcast_to`."""
        if self.guarding is not None and self.datamodule is not None:
            self.guarding.fit(self)
        return super().initial_broadcast()

    def broadcast_to(self, client: Client, broadcast: Payload) -> Payload:
        """Server: θ_g, by which prototypes it goes and, to a client that has not finished a round, all of these."""
        own = super().broadcast_to(client, broadcast)
        parts = {} if self.guarding is None else self.guarding.parts_for(not client.rounds)
        return own.with_parts(parts) if parts else own

    @property
    def prepares(self) -> bool:
        """Whether clients prepare: they keep what they receive once."""
        return self.guarding is not None or self.rewriting is not None

    def prepare(self, rows: Dataset) -> Payload:
        """Client: keep the prototypes and the encoder; rewrite, where there is a rewriting."""
        return super().prepare(rows).with_parts(self._kept_parts)

    def download(self, broadcast: Payload) -> None:
        """Client: θ_k ← θ_g, and the prototypes."""
        super().download(broadcast)
        parts, guarding = broadcast.parts, self.guarding
        if guarding is None:
            return
        if self.client is not None:
            guarding.take(parts, self.prepared.parts, f"client {self.client.id!r}")
        self._kept_parts = guarding.kept(parts, self.prepared.parts)
        guarding.go_by(parts.get(MERGED))
        self._adapted = None

    @property
    def trains_on_all_rows(self) -> bool:
        """Whether no row is left out."""
        return self.guarding is None or not self.guarding.gates or self.guarding.pull

    def local_data(self, rows: Dataset, stage: str) -> Dataset:
        """Client: the rows that the gate keeps; it is logged how many, of all and of each class.

        Raises:
            ValueError: If it keeps none: the client is left out.
        """
        guarding = self.guarding
        if guarding is None or not guarding.judges or self.client is None:
            return super().local_data(rows, stage)
        gated = guarding.judge(self, self.client, rows)
        if guarding.gates and self.metric_averager is not None:
            self.log_dict(gated.metrics(self.prototypes.labels))
        if guarding.gates and not len(gated.kept):
            raise ValueError(f"`model.gate` keeps none of the {len(rows)} rows of the client")
        if guarding.adaptation and gated.states is not None:
            own = gated.states[gated.judgement.kept]
            self._adapted = adapt_prototypes(self.prototypes, own, guarding.adaptation)
        return super().local_data(rows if guarding.pull else gated.kept, stage)

    def upload(self) -> Payload:
        """Client: θ_k, by which prototypes it goes and, where it adapts them, its own with their counts."""
        sent = super().upload()
        if self.guarding is None or self.client is None:
            return sent
        parts = {AGREED: Payload(strings={"about": self.guarding.agreed_on})}
        if self._adapted is not None:
            counts = self._adapted.counts.int()
            parts[_ADAPTED] = Payload({"vectors": self._adapted.vectors, "counts": counts})
        return sent.with_parts(parts)

    def expected_upload(self) -> Specification:
        """Server: θ_k, and what is said of prototypes."""
        expected = super().expected_upload()
        if self.guarding is None or self.client is None:
            return expected
        parts: dict[str, Specification | None] = {AGREED: Specification(strings={"about": 3})}
        guard = self.guarding.guard
        # before a run there is none, and then weights alone are asked about
        if self.guarding.adaptation and guard is not None:
            shape = tuple(guard.prototypes.vectors.shape)
            vectors = TensorSpecification(shape, torch.float32, -1.01, 1.01)
            counts = TensorSpecification(shape[:1], torch.int32, least=0)
            parts[_ADAPTED] = Specification({"vectors": vectors, "counts": counts})
        return expected.with_parts(parts)

    def check_update(self, update: Update) -> None:
        """Server: what the rule cannot combine, and updates by other prototypes."""
        super().check_update(update)
        if self.guarding is None:
            return
        parts = update.payload.parts
        told = parts[AGREED].strings["about"] if AGREED in parts else ()
        require_same_prototypes(self.guarding.agreed_on, told, f"client {update.client_id!r}")
        if (
            self.guarding.adaptation
            and (rows := int(self._sent(update).counts.sum())) > update.num_samples
        ):
            raise ValueError(
                f"client {update.client_id!r} is expected to adapt prototypes to its {update.num_samples} rows, "
                f"but says: {rows:,}"
            )

    def aggregate(self, updates: Sequence[Update]) -> Payload:
        """Server: θ_g and, where clients adapt them, the next version of the prototypes."""
        average = super().aggregate(updates)
        if self.guarding is None or not self.guarding.adaptation:
            return average
        merged = merge_prototypes(self.prototypes, [self._sent(update) for update in updates])
        if (guard := self.guarding.guard) is not None:
            self._drift = prototype_drift(guard.prototypes, merged)
        return average.with_parts({MERGED: merged.to_payload(texts=False)})

    def server_metrics(self) -> dict[str, float]:
        """Server: what the rule says, what is known of the references, and how far merged prototypes have moved."""
        told = super().server_metrics()
        guard = None if self.guarding is None else self.guarding.guard
        if guard is None:
            return told
        told |= {f"server/references/{name}": value for name, value in guard.metrics.items()}
        if self._drift is not None:
            told["server/prototype_drift"] = self._drift
        return told

    def server_state(self) -> Payload:
        """Server: the memory of the rule, and all of the prototypes, with their reference texts."""
        guard = None if self.guarding is None else self.guarding.guard
        state = super().server_state()
        return state if guard is None else state.with_parts(guard.parts(for_server=True))

    def load_server_state(self, state: Payload) -> None:
        """Server: take it back."""
        super().load_server_state(state)
        if self.guarding is not None:
            self.guarding.load(state.parts)

    @property
    def _required(self) -> Guarding:
        if self.guarding is None:
            raise RuntimeError("a defence is expected, but `model.gate` and the margin are off")
        return self.guarding

    def _sent(self, update: Update) -> PrototypeSet:
        """The prototypes that a client has adapted.

        Raises:
            ValueError: If they are none.
        """
        sent, now = update.payload.parts[_ADAPTED].tensors, self.prototypes
        return PrototypeSet(
            sent["vectors"],
            now.classes,
            sent["counts"].long(),
            now.version,
            now.encoder,
            (),
            now.labels,
        )
