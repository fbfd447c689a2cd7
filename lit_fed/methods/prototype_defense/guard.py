"""Guard: what the server makes of the references, and each client receives once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor, nn

from lit_fed.payload import Payload
from lit_fed.prototypes import PrototypeSet

PROTOTYPES: Final = "prototypes"
"""The part of a payload with the prototypes' vectors, P · d · 4 bytes, and nothing else."""

ABOUT: Final = "prototype_facts"
"""The part with their classes, counts, version, digests and labels."""

ENCODER: Final = "gate_encoder"
"""The part with the weights of the encoder, where they are sent."""

GATE: Final = "gate"
"""The part with what the gate needs beside the prototypes."""

PROJECTOR: Final = "projector"
"""The part with the map from the student's width to the encoder's."""

LAYER: Final = "prototypes_of_layer_"
"""How the parts begin that hold the prototypes of further layers."""

AGREED_ON: Final = "agreed_on"
"""The texts by which server and clients agree on all layers, among the facts; with one layer they are its own."""

_VECTORS: Final = "vectors"


@dataclass(frozen=True, eq=False)
class Guard:
    """The prototypes of the references, and all that rows are judged and representations are pulled by.

    Attributes:
        prototypes: Of the references; version 0.
        encoder: Weights of the encoder that are sent.
        gate: What the gate has learnt of the references.
        projector: Weight and bias of the frozen map from the student's states to the encoder's; empty: there is none.
        deeper: Prototypes of further layers, by their numbers.
        metrics: What is told of the references, such as the encoder's accuracy on those that it has not seen. It stays
            with the server.
    """

    prototypes: PrototypeSet
    encoder: Mapping[str, Tensor] = field(default_factory=dict)
    gate: Mapping[str, Tensor] = field(default_factory=dict)
    projector: Mapping[str, Tensor] = field(default_factory=dict)
    deeper: Mapping[int, PrototypeSet] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)

    def __deepcopy__(self, memo: object) -> Guard:
        return self  # it is immutable, and clients that train at once share it

    @property
    def agreed_on(self) -> tuple[str, str, str]:
        """Version, encoder and a digest of the prototypes of all layers."""
        version, encoder, digest = self.prototypes.about
        if self.deeper:
            digests = [digest, *(one.digest for one in self.deeper.values())]
            digest = hashlib.blake2b("".join(digests).encode(), digest_size=8).hexdigest()
        return version, encoder, digest

    def map_of_states(self) -> nn.Linear | None:
        """The projector, frozen; None where there is none."""
        if not self.projector:
            return None
        weight = self.projector["weight"]
        made = nn.Linear(weight.shape[1], weight.shape[0])
        made.load_state_dict(dict(self.projector))
        return made.requires_grad_(False)

    def parts(self, for_server: bool = False) -> dict[str, Payload]:
        """All of it as parts of a payload; read again by :meth:`read`.

        Args:
            for_server: Whether the reference texts and the metrics, which clients do not get, are with it.
        """
        whole = self.prototypes.to_payload(texts=for_server)
        told: dict[str, Tensor] = {n: t for n, t in whole.tensors.items() if n != _VECTORS}
        strings = dict(whole.strings)
        if self.deeper:
            strings[AGREED_ON] = self.agreed_on
        if for_server and self.metrics:
            strings["metrics"] = tuple(self.metrics)
            told["metric_values"] = torch.tensor(list(self.metrics.values()), dtype=torch.float64)
        return {
            PROTOTYPES: whole.select([_VECTORS]),
            ABOUT: Payload(told, strings),
            ENCODER: Payload(self.encoder),
            GATE: Payload(self.gate),
            PROJECTOR: Payload(self.projector),
            **{f"{LAYER}{n}": one.to_payload(texts=False) for n, one in self.deeper.items()},
        }

    @classmethod
    def read(cls, parts: Mapping[str, Payload]) -> Guard | None:
        """What :meth:`parts` gave; None where there are no prototypes among the parts.

        Raises:
            ValueError: If they are damaged.
        """
        if PROTOTYPES not in parts or ABOUT not in parts:
            return None
        about = parts[ABOUT]
        names = about.strings.get("metrics", ())
        values = about.tensors["metric_values"].tolist() if names else []
        whole = Payload({**parts[PROTOTYPES].tensors, **about.tensors}, about.strings)
        held = {n: parts[n].tensors if n in parts else {} for n in (ENCODER, GATE, PROJECTOR)}
        return cls(
            PrototypeSet.from_payload(whole),
            held[ENCODER],
            held[GATE],
            held[PROJECTOR],
            {
                int(name.removeprefix(LAYER)): PrototypeSet.from_payload(part)
                for name, part in parts.items()
                if name.startswith(LAYER)
            },
            dict(zip(names, values, strict=True)),
        )
