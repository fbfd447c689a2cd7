"""What the methods that average weights share: their constructor and the client–server protocol."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from lit_fed.aggregation import Aggregation, WeightedAverage
from lit_fed.aggregation.aggregation import BASE_CHANGE
from lit_fed.aggregation.lora.distance import LoRADistance
from lit_fed.backbones import Backbone, Prediction
from lit_fed.client import Client
from lit_fed.configuration_error import ConfigurationError
from lit_fed.limits import require_instance
from lit_fed.losses import cross_entropy, soft_cross_entropy
from lit_fed.methods.rewriting import SelfDistillation
from lit_fed.module import FederatedModule
from lit_fed.payload import Payload
from lit_fed.specification import Specification
from lit_fed.update import Update

if TYPE_CHECKING:
    from datasets import Dataset

REWRITING: Final = "rewriting"
"""The part of what a client has prepared that its rewriting has made."""

KEPT: Final = "kept"
"""The part of a client's private state that holds what it trains and does not download."""


FORMAT: Final = "format"
"""The part of an upload that says how the client's rows are written, where the encoding has a digest of it."""

_TEMPLATE: Final = "template"


class AveragingMixin(FederatedModule):
    """Gives a method the exchange of what the backbone trains, combined by an aggregation rule.

    The weights are the payload's main part. A method that exchanges more adds parts of its own::

        def upload(self):
            return super().upload().with_parts({"consensus": self.consensus.send()})

        def expected_upload(self):
            return super().expected_upload().with_parts({"consensus": self.consensus.expected()})

        def download(self, broadcast):
            super().download(broadcast)
            self.consensus.receive(broadcast.parts.get("consensus", Payload()))

        def aggregate(self, updates):
            average = super().aggregate(updates)
            mixed = self.consensus.mix(updates, self.aggregation.weights(updates))
            return average.with_parts({"consensus": mixed})

    The rule also decides what of the backbone trains and travels; see :class:`~lit_fed.aggregation.Aggregation`.

    Args:
        backbone: The model, its tokenizer and its trainable part. None: the embedded classifier.
        aggregation: How uploads are combined. None: the average weighted by the clients' sizes.
        optimizer: Makes the client's optimizer of the trainable parameters. The default's learning rate
            fits adapters; where all weights are trained (``peft: null``), 2e-5 is usual.
        warmup_steps: Linear warm-up of the learning rate over the client's first own steps.
        rewriting: What clients make of their rows' targets by the model itself before they train on them, such as
            :class:`~lit_fed.methods.rewriting.Rewriting`. None: nothing.
        **kwargs: For the next class.
    """

    def __init__(
        self,
        backbone: Backbone | None = None,
        aggregation: Aggregation | None = None,
        optimizer: OptimizerCallable = lambda params: torch.optim.AdamW(
            params, lr=1e-3, weight_decay=0.01
        ),
        warmup_steps: int = 0,
        rewriting: SelfDistillation | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            backbone=backbone, optimizer=optimizer, warmup_steps=warmup_steps, **kwargs
        )
        require_instance("model.rewriting", rewriting, SelfDistillation)
        self.rewriting = rewriting
        require_instance("model.aggregation", aggregation, Aggregation)
        self.aggregation = aggregation or WeightedAverage()
        if not self.aggregation.has_global_model:
            self.has_global_model = False
        self.needs_client_validation = self.aggregation.needs_validation
        self._last_broadcast: Payload | None = None
        self.aggregation.setup(self.backbone)
        self._adapter = self.aggregation.adapter(None)
        self._lora_distance = LoRADistance.of(self.backbone, self.aggregation)
        self._measured: dict[str, float] = {}
        self._choose_what_trains()

    def initial_broadcast(self) -> Payload:
        """Server: θ_g as the backbone has it, on the base as the rule has changed it before, as in a fit or a run."""
        weights, before = self.initial_weights(), self._last_broadcast
        change = Payload() if before is None else before.parts.get(BASE_CHANGE, Payload())
        return weights.with_parts({BASE_CHANGE: change}) if change else weights

    def initial_weights(self) -> Payload:
        """Server: θ_g as the backbone has it; nothing is fitted for it."""
        adapter = self.aggregation.adapter(None)
        weights = self.backbone.trainable(adapter)
        names = set(self.aggregation.receives(list(weights), None))
        return Payload({name: value for name, value in weights.items() if name in names})

    def setup(self, stage: str) -> None:
        """Say before a federation trains what its rewriting needs and is not there.

        Args:
            stage: ``fit`` where it is going to train.

        Raises:
            ConfigurationError: If something is missing, or in a stock Trainer, where nobody prepares.
        """
        super().setup(stage)
        if self.rewriting is None or stage != "fit":
            return
        if self._trainer is not None:
            raise ConfigurationError(
                f"`trainer` is expected to be a FederatedTrainer, since `model.rewriting` is a "
                f"{type(self.rewriting).__name__} and a stock Trainer has no clients that prepare; without a rewriting "
                "a stock Trainer trains lit_fed.FedAvg"
            )
        self.rewriting.check(self)

    @property
    def prepares(self) -> bool:
        """Whether clients prepare: where there is a rewriting, or the method has a ``prepare`` of its own."""
        return self.rewriting is not None or type(self).prepare is not AveragingMixin.prepare

    @property
    def prepare_every(self) -> int | None:
        """Every how many rounds all clients rewrite again."""
        return None if self.rewriting is None else self.rewriting.refresh_every

    @property
    def prepared_by(self) -> tuple[str, ...]:
        """How the names of settings begin that decide what clients prepare: those of the rewriting as well."""
        return *super().prepared_by, "model.rewriting"

    def prepare(self, rows: Dataset) -> Payload:
        """Client: rewrite the targets by the model that it has downloaded; a method that prepares more adds parts."""
        if self.rewriting is None:
            return Payload()
        return Payload(parts={REWRITING: self.rewriting.prepare(self, rows)})

    def check_prepared(self, prepared: Mapping[str, Payload]) -> None:
        """Say before training that nobody can train on what all have rewritten.

        Raises:
            ConfigurationError: If nobody can.
        """
        super().check_prepared(prepared)
        if self.rewriting is not None:
            held = {client: one.parts.get(REWRITING, Payload()) for client, one in prepared.items()}
            self.rewriting.check_prepared(held)

    @property
    def trains_on_all_rows(self) -> bool:
        """Whether each stage trains on as many rows as the client has; a rewriting leaves their number as it is."""
        return type(self).local_data is AveragingMixin.local_data

    def local_data(self, rows: Dataset, stage: str) -> Dataset:
        """Client: its rows, with the targets that it has rewritten; a stage that trains on others asks not for these.

        What is to be told of the rewriting is logged here, for the client's metrics of the round that it trains in.
        """
        if self.rewriting is None:
            return rows
        if self.metric_averager is not None:
            self.log_dict(self.rewriting.metrics(self._rewritten))
        return self.rewriting.rows(self, rows, self._rewritten)

    def task_loss(self, student: Prediction, batch: Mapping[str, Tensor]) -> Tensor:
        """CE, the cross-entropy of the task: with the batch's labels, or the soft ones that the rewriting has made.

        Args:
            student: The client's pass.
            batch: The batch, perhaps with the rows' ``weight`` [B].

        Returns:
            A scalar in nats.
        """
        weight, soft = batch.get("weight"), None
        if self.rewriting is not None and self.training:
            soft = self.rewriting.soft_targets(batch, self._rewritten)
        if soft is not None:
            return soft_cross_entropy(student.logits, soft, student.mask, weight)
        if student.targets is None:
            raise ValueError("`batch` is expected to have `labels`, but has none")
        return cross_entropy(student.logits, student.targets, student.mask, weight)

    def broadcast_to(self, client: Client, broadcast: Payload) -> Payload:
        """Server: what the rule lets a client download of θ_g, and all that is exchanged beside it."""
        main = broadcast.main
        own = self.aggregation.broadcast_to(client, main)
        return broadcast if own is main else own.with_parts(broadcast.parts)

    def act_as(self, client: Client | None) -> None:
        """Be a client, or the server if None, of whose memory nothing is left until it is loaded."""
        super().act_as(client)
        self.aggregation.load_state(Payload())
        adapter = self.aggregation.adapter(client)
        if adapter != self._adapter:
            self.backbone.activate(adapter)
            self._adapter = adapter
        self._choose_what_trains()

    def download(self, broadcast: Payload) -> None:
        """Client: θ_k ← θ_g, on the base as the rule has changed it."""
        change = broadcast.parts.get(BASE_CHANGE, Payload())
        if self.client is None:
            self._last_broadcast = broadcast.main.with_parts({BASE_CHANGE: change})
        self._load(broadcast.tensors, self._received)
        self.backbone.fold(self.aggregation.base_change(change))

    def upload(self) -> Payload:
        """Client: θ_k, and the digest of the template that has written its rows, if there is one."""
        names = set(self._trained)
        if self.client is not None:
            names = set(self.aggregation.sends(self._trained, self.client))
        weights = {name: value for name, value in self._weights.items() if name in names}
        template = self.template_digest
        told = {} if template is None else {_TEMPLATE: [template]}
        return Payload(weights, parts={FORMAT: Payload(strings=told)})

    def expected_upload(self) -> Specification:
        """Server: the weights that the rule lets the client send; a method that sends more adds parts."""
        names = set(self._trained)
        if self.client is not None:
            names = set(self.aggregation.sends(self._trained, self.client))
        weights = Specification.of({n: v for n, v in self._weights.items() if n in names})
        told = {} if self.template_digest is None else {_TEMPLATE: 1}
        return weights.with_parts({FORMAT: Specification(strings=told)})

    def update_norm(self, upload: Payload, broadcast: Payload) -> float | None:
        """Server: how much a client has changed, as the aggregation rule says."""
        return self.aggregation.update_norm(upload, broadcast)

    @property
    def fewest_updates(self) -> int:
        """Server: how many the aggregation rule combines at least."""
        return self.aggregation.fewest_updates

    def check_clients(self, clients: Collection[str], in_round: int) -> None:
        """What the method's settings, and those of the aggregation rule, ask of clients that are not there.

        Raises:
            ValueError: If a client that they name is not there, or a round has fewer than the rule combines.
        """
        super().check_clients(clients, in_round)
        self.aggregation.check_clients(clients)
        if in_round < self.fewest_updates:
            raise ValueError(
                f"`model.aggregation` {type(self.aggregation).__name__} combines at least "
                f"{self.fewest_updates} clients, but by `trainer.clients_per_round` {in_round} of "
                f"{len(clients)} take part in a round"
            )

    def check_update(self, update: Update) -> None:
        """Server: what the aggregation rule cannot combine, and rows that were written by another template."""
        told = update.payload.parts.get(FORMAT, Payload()).strings.get(_TEMPLATE)
        own = self.template_digest
        if own is not None and told != (own,):
            raise ValueError(
                f"client {update.client_id!r} is expected to write its rows by the template of digest {own}, as "
                f"`data.encoding` does here, but does so by {', '.join(told or ('none',))}"
            )
        self.aggregation.check_update(update)

    def aggregate(self, updates: Sequence[Update]) -> Payload:
        """Server: θ_g of the θ_k, by the aggregation rule; other parts of the uploads are left out."""
        previous = self._last_broadcast
        if previous is None:  # nothing has been downloaded, so the module is as it was built
            previous = self.initial_weights().main
        weights = [replace(update, payload=update.payload.main) for update in updates]
        combined = self.aggregation(weights, previous)
        _require_combined(self.aggregation, combined, previous)
        self._measured = self._measure(weights, previous, combined)
        return combined

    def server_metrics(self) -> dict[str, float]:
        """Server: the distance of LoRA's changes from the clients' mean, and what the aggregation rule says."""
        return {**self._measured, **self.aggregation.metrics()}

    def server_state(self) -> Payload:
        """Server: the memory of the aggregation rule."""
        return self.aggregation.state()

    def load_server_state(self, state: Payload) -> None:
        """Server: take it back."""
        self.aggregation.load_state(state.main)

    def private_state(self) -> Payload:
        """Client: what stays with it, among it the weights that it trains and does not download."""
        weights = {name: self._weights[name] for name in self._kept}
        return super().private_state().with_parts({KEPT: Payload(weights)})

    def load_private_state(self, state: Payload) -> None:
        """Client: take it back."""
        super().load_private_state(state)
        if KEPT in state.parts:
            self._load(state.parts[KEPT].tensors, self._kept)

    @property
    def _rewritten(self) -> Payload:
        """What the rewriting has made for whoever the module is."""
        return self.prepared.parts.get(REWRITING, Payload())

    @property
    def _weights(self) -> dict[str, torch.nn.Parameter]:
        """The parameters of whoever the module is, live."""
        return self.backbone.trainable(self._adapter)

    @property
    def _trained(self) -> list[str]:
        """Names of those that train in this round."""
        names = list(self._weights)
        chosen = set(self.aggregation.trains(names, self.client))
        return [name for name in names if name in chosen]

    @property
    def _received(self) -> list[str]:
        """Names of those that are downloaded."""
        names = list(self._weights)
        chosen = set(self.aggregation.receives(names, self.client))
        return [name for name in names if name in chosen]

    @property
    def _kept(self) -> list[str]:
        """Names of those that train in any round, are not downloaded, and do not start anew."""
        names = list(self._weights)
        own = set(self.aggregation.trains(names, None)) - set(self._received)
        chosen = set(self.aggregation.keeps([name for name in names if name in own], self.client))
        return [name for name in names if name in chosen]

    def _measure(
        self, updates: Sequence[Update], previous: Payload, combined: Payload
    ) -> dict[str, float]:
        """What is told of a round of LoRA; see :class:`~lit_fed.aggregation.lora.distance.LoRADistance`."""
        if self._lora_distance is None:
            return {}
        frozen = {n: w for n, w in self._weights.items() if n not in previous.tensors}
        before = {**Payload(frozen).tensors, **previous.tensors}
        weights = self.aggregation.weights(updates)
        return self._lora_distance.metrics(updates, weights, before, combined)

    def _choose_what_trains(self) -> None:
        self.backbone.freeze(self._weights.keys() - set(self._trained), self._adapter)

    def _load(self, values: Mapping[str, Tensor], expected: Sequence[str]) -> None:
        """Take over some of the weights: all that are expected, and no others."""
        weights = self._weights
        others = {name: value for name, value in weights.items() if name not in set(expected)}
        if both := others.keys() & values.keys():
            raise ValueError(
                f"what is loaded is expected to hold what `model.aggregation` lets travel, but holds "
                f"{sorted(both)[0]!r} as well"
            )
        self.backbone.load_trainable({**others, **values}, self._adapter)


def _require_combined(rule: Aggregation, combined: object, previous: Payload) -> None:
    """Refuse what a rule of one's own must not return, before anything reads it.

    Raises:
        TypeError: If it is no payload.
        ValueError: If a tensor has another shape than before.
    """
    named = f"`model.aggregation` {type(rule).__name__}"
    if not isinstance(combined, Payload):
        raise TypeError(
            f"{named} is expected to return a Payload, but returned a {type(combined).__name__}"
        )
    for name, value in combined.tensors.items():
        before = previous.tensors.get(name)
        if before is not None and before.shape != value.shape:
            raise ValueError(
                f"{named} is expected to leave the shape of {name} as it was, {list(before.shape)}, but returned "
                f"{list(value.shape)}"
            )
