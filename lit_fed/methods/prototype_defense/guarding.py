"""Guarding: how a method gets its guard, on the server and as a client, and judges rows by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn

from lit_fed.backbones.length_sorted import in_length_sorted_batches
from lit_fed.configuration_error import ConfigurationError
from lit_fed.data.columns import row_ids
from lit_fed.data.datamodule import Table
from lit_fed.defenses.kept_rows import KeptRows
from lit_fed.methods.prototype_defense.encoders.gate_encoder import GateEncoder
from lit_fed.methods.prototype_defense.gated_rows import Dropped, GatedRows, GateMemory
from lit_fed.methods.prototype_defense.guard import ABOUT, AGREED_ON, Guard
from lit_fed.methods.prototype_defense.guard_fitting import fit_guard, require_width
from lit_fed.methods.prototype_defense.references import reference_rows, split_references
from lit_fed.methods.prototype_defense.text_pairs import split_pairs
from lit_fed.payload import Payload
from lit_fed.prototypes import Gate, NoGate, PrototypeSet
from lit_fed.prototypes.prototype_set import require_same_prototypes

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.client import Client
    from lit_fed.module import FederatedModule

AGREED: Final = "prototypes_agreed_on"
"""The part of each broadcast and upload that says by which prototypes its sender goes."""

MERGED: Final = "merged_prototypes"
"""The part of a broadcast with prototypes that have been merged of the clients' own."""

_FACTS: Final = "about"
_AT_ONCE: Final = 64  # texts, where there may be no data that say how many


class Guarding:
    """Has the guard of a method: fits it on the server, receives it as a client.

    Args:
        references: The references; None: the public set.
        num_prototypes: P.
        supervised: Whether prototypes are means of classes.
        held_out: The share of the references that is held out of fitting.
        encoder: Makes vectors of rows.
        gate: Judges them.
        pull: Whether rows that are dropped stay among those that are trained on.
        adaptation: β, by how much a client moves prototypes.
        project: Whether the student's states are mapped to the encoder's width.
        seed: Of the division of the references and of k-means++.
        layers: Further layers that have prototypes.
        pulls: Whether the student's states are compared with prototypes.
        judges: Whether clients' rows are judged, or assigned to prototypes.

    Attributes:
        guard: What the server has made of the references; None before.
        prototypes: Those that representations are pulled to: of the guard, or merged ones.
        projector: The frozen map of the student's states, in a tuple, where torch takes it for nobody's own.
        gated: What was said of the rows of whoever the module is.
    """

    def __init__(
        self,
        references: Table | None,
        num_prototypes: int,
        supervised: bool,
        held_out: float,
        encoder: GateEncoder,
        gate: Gate,
        pull: bool,
        adaptation: float,
        project: bool,
        seed: int,
        layers: Sequence[int],
        pulls: bool,
        judges: bool,
    ) -> None:
        self._settings = references, num_prototypes, supervised, held_out, project, seed
        self.layers, self.pulls = tuple(layers), pulls
        self.encoder, self.gate, self.judges = encoder, gate, judges
        self.gates, self.pull, self.adaptation = not isinstance(gate, NoGate), pull, adaptation
        self.guard: Guard | None = None
        self.prototypes: PrototypeSet | None = None
        self.projector: tuple[nn.Module, ...] = ()
        self.gated: GatedRows | None = None
        self._memory = GateMemory()
        self._parts: dict[str, Payload] = {}

    def fit(self, module: FederatedModule) -> None:
        """Server: make the guard of the references, once for the data that the module has.

        Args:
            module: The method, as it was built.

        Raises:
            ConfigurationError: If the references are not there or not enough, or rows are packed.
        """
        if module.data.encoding.packing:
            raise ConfigurationError(
                "`data.encoding.packing` is expected to be false with prototypes, which are of one row each, but got "
                "true"
            )
        references, count, supervised, held_out, project, seed = self._settings
        rows = reference_rows(module, references)
        split = split_references(module, rows, held_out, seed)
        training = module.training
        module.eval()
        try:
            # a module that has been trained before may have something folded in, which is not as it was built
            with module.backbone.unfolded():
                guard = fit_guard(
                    module,
                    split,
                    self.encoder,
                    self.gate,
                    count,
                    supervised,
                    project,
                    seed,
                    self.layers,
                )
            if self.pulls and not project:
                require_width(module, split.fitted, guard.prototypes, self.layers)
            self._hold(guard)
        finally:
            module.train(training)

    def parts_for(self, is_new: bool) -> dict[str, Payload]:
        """Server: what a client is sent: all of the guard once, and in each round by which one it goes.

        Args:
            is_new: Whether the client has not finished a round yet.
        """
        if self.guard is None:
            return {}
        agreed = {AGREED: Payload(strings={_FACTS: self.guard.agreed_on})}
        return {**self._parts, **agreed} if is_new else agreed

    def kept(self, parts: Mapping[str, Payload], kept: Mapping[str, Payload]) -> dict[str, Payload]:
        """Client: what it keeps for its later rounds.

        Args:
            parts: Of the broadcast.
            kept: What it has prepared before.
        """
        own = parts if ABOUT in parts else kept
        return {name: own[name] for name in self._parts if name in own}

    def take(self, parts: Mapping[str, Payload], kept: Mapping[str, Payload], who: str) -> None:
        """Client: go by the guard that it has received now or before.

        Args:
            parts: Of the broadcast.
            kept: What the client has prepared.
            who: The client, for messages.

        Raises:
            ValueError: If these are not the prototypes or the encoder that the server goes by.
        """
        own = parts if ABOUT in parts else kept
        facts = own[ABOUT].strings if ABOUT in own else {}
        told = facts.get(AGREED_ON, facts.get(_FACTS, ()))
        if AGREED in parts:
            require_same_prototypes(parts[AGREED].strings[_FACTS], told, who)
        if told and (self.guard is None or self.guard.agreed_on != tuple(told)):
            guard = Guard.read(own)
            if guard is not None:
                self._hold(guard)

    def go_by(self, merged: Payload | None) -> None:
        """Take the encoder's weights, and the prototypes that representations are pulled to.

        Args:
            merged: Prototypes merged of the clients'. None: those of the guard.
        """
        self.gated = None
        if self.guard is None:
            self.prototypes = None
            return
        self.prototypes = self.guard.prototypes
        if merged is not None:
            self.prototypes = PrototypeSet.from_payload(merged)
        if self.judges:
            self.encoder.load(self.guard.encoder)

    @property
    def agreed_on(self) -> tuple[str, ...]:
        """Version, encoder and digest of what whoever the module is goes by; nothing where there is none."""
        if self.guard is None or self.prototypes is None:
            return ()
        merged = self.prototypes is not self.guard.prototypes
        return self.prototypes.about if merged else self.guard.agreed_on

    def load(self, parts: Mapping[str, Payload]) -> None:
        """Server: take back the guard of a checkpoint."""
        guard = Guard.read(parts)
        known = None if self.guard is None else self.guard.agreed_on
        if guard is not None and guard.agreed_on != known:
            self._hold(guard)

    def judge(self, module: FederatedModule, client: Client, rows: Dataset) -> GatedRows:
        """Client: what the gate says of its rows, once for each set of rows.

        Args:
            module: The method, as the client.
            client: The client.
            rows: Its rows.
        """
        guard = self._required
        key = (rows._fingerprint, guard.prototypes.digest)
        held = self._memory.held.get(client.id)
        if held is None or held.key != key:
            states, _ = self.encoder.states_of(module, rows)
            labels = torch.cat([batch["labels"].cpu() for batch in module.batches(rows)])
            judgement = self.gate.judge(guard.prototypes, guard.gate, states, labels)
            ids = torch.from_numpy(row_ids(rows))
            keeps = self.adaptation > 0
            held = GatedRows.of(key, rows, ids, labels, states, judgement, keeps, client.round)
        self._memory.held[client.id] = self.gated = replace(held, round=client.round)
        return self.gated

    def judged(self, client: str) -> bool:
        """Whether this process has judged a client's rows.

        Args:
            client: The client's id.
        """
        return client in self._memory.held

    def counted(self, method: str, client: str) -> KeptRows | None:
        """How many rows of a client the gate has kept, as far as this process has judged them.

        Args:
            method: The method's class.
            client: The client's id.
        """
        held = self._memory.held.get(client)
        if held is None or not self.gates:
            return None
        return held.counted(method, self._required.prototypes)

    def dropped(self, module: FederatedModule, client: str) -> Sequence[Dropped]:
        """The rows of a client that the gate has dropped, as far as this process has judged them.

        Args:
            module: The method, with its data.
            client: The client's id.
        """
        held = self._memory.held.get(client)
        return () if held is None else held.dropped(module.data.encoding, self._required.prototypes)

    def embed(self, module: FederatedModule, texts: Sequence[str | tuple[str, str]]) -> Tensor:
        """The encoder's vectors of texts or of pairs of texts, [n, d], float32, on the CPU.

        Args:
            module: The method; it may be one from a run's folder, without data.
            texts: All texts, or all pairs of texts; there may be none.

        Raises:
            ValueError: If they are neither, or cannot be read.
        """
        width = self._required.prototypes.vectors.shape[1]
        firsts, seconds = split_pairs(texts)
        if not firsts:
            return torch.zeros(0, width)
        self.encoder.load(self._required.encoder)
        backbone = self.encoder.backbone

        def run(batch: Mapping[str, Tensor]) -> Tensor:
            return self.encoder.states({n: field.to(module.device) for n, field in batch.items()})

        with self.encoder.backbone.unfolded():
            found = in_length_sorted_batches(
                firsts, backbone.tokenizer, backbone.max_tokens, _AT_ONCE, run, seconds
            )
        # where no text has a token, nothing has told how wide a vector is
        return found.expand(-1, width)

    def embed_rows(self, module: FederatedModule, rows: Dataset) -> Tensor:
        """The encoder's vectors of rows, [n, d], float32, on the CPU.

        Args:
            module: The method, with its data.
            rows: The rows, at least one.
        """
        self.encoder.load(self._required.encoder)
        vectors, _ = self.encoder.states_of(module, rows)
        return vectors

    @property
    def _required(self) -> Guard:
        if self.guard is None:
            raise RuntimeError(
                "prototypes are expected, which a federation's server makes of references before round 0, but there "
                "are none"
            )
        return self.guard

    def _hold(self, guard: Guard) -> None:
        digest = self.encoder.digest(guard.encoder)
        if digest != guard.prototypes.encoder:
            raise ValueError(
                f"the prototypes of digest {guard.prototypes.digest} are expected to be of the encoder {digest}, a "
                f"{type(self.encoder).__name__}, but are of another one, {guard.prototypes.encoder}"
            )
        self.guard, self._parts = guard, {n: p for n, p in guard.parts().items() if p}
        projector = guard.map_of_states()
        self.projector = () if projector is None else (projector,)
