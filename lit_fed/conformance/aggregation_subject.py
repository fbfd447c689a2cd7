"""One of this package's aggregation rules, put to the test in a method, as a federation uses it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lit_fed.aggregation import Aggregation
from lit_fed.client import Client
from lit_fed.conformance.lora_case import LoRACase, transposed_layers
from lit_fed.conformance.lora_round import LoRAResult, LoRARound
from lit_fed.conformance.subject import NotOffered
from lit_fed.federation.client.client_state import ClientState
from lit_fed.federation.client.resident_module import ResidentModule
from lit_fed.methods.fedavg import FedAvg
from lit_fed.payload import Payload
from lit_fed.update import Update

if TYPE_CHECKING:
    from lit_fed.backbones import SequenceClassifier


class AggregationSubject:
    """A class of :class:`~lit_fed.aggregation.Aggregation`.

    Each client downloads, has random values in all that the rule lets it train, and uploads what the rule lets it send;
    what the server makes of that is downloaded again, and compared are the weights of the models themselves, as peft
    would merge them. So it does not matter where a rule keeps a change: in factors or in the base.

    Args:
        rule: The class. Where ranks or alphas differ between clients, it has to have the arguments ``ranks`` and
            ``alphas``, by clients' ids.
        **arguments: For its constructor.

    Example:
        >>> from lit_fed.aggregation import WeightedAverage
        >>> from lit_fed.conformance import judge, lora_cases
        >>> judge(lora_cases()[3], AggregationSubject(WeightedAverage)).verdict  # different clients
        'mean of factors'
    """

    def __init__(self, rule: type[Aggregation], **arguments: Any) -> None:
        self.rule = rule
        self.arguments = arguments

    def run(self, case: LoRACase) -> tuple[LoRARound, LoRAResult, LoRAResult]:
        """Run the round; see :class:`~lit_fed.conformance.Subject`."""
        order = list(range(len(case.rows)))
        known, found = self._round(case, order)
        return known, found, self._round(case, order[::-1])[1]

    def _made(self, case: LoRACase) -> Aggregation:
        own: dict[str, dict[str, float]] = {}
        for name, values in (("ranks", case.ranks), ("alphas", case.alphas)):
            if len(set(values)) > 1:
                own[name] = {f"client-{k}": value for k, value in enumerate(values)}
        taken = inspect.signature(self.rule).parameters
        if missing := [name for name in own if name not in taken]:
            raise NotOffered(f"{self.rule.__name__} has no `{missing[0]}` of clients")
        return self.rule(**{**own, **self.arguments})

    def _round(self, case: LoRACase, order: Sequence[int]) -> tuple[LoRARound, LoRAResult]:
        rule, backbone = self._made(case), case.backbone()
        if not rule.has_global_model:
            raise NotOffered(f"{self.rule.__name__} makes no global model")
        if len(order) < rule.fewest_updates:
            raise NotOffered(
                f"{self.rule.__name__} expects at least {rule.fewest_updates} clients in a round, and the case has "
                f"{len(order)}"
            )
        module = FedAvg(backbone, rule).double()
        resident, start = ResidentModule(module), module.initial_broadcast()
        resident.act_as_server(start, None)
        base = _weights(backbone, rule.adapter(None))
        known: dict[int, dict[str, Tensor]] = {}
        sent: list[Update] = []
        for k in order:
            client = Client(f"client-{k}", k, case.rows[k], round=0, rounds=0, steps=0)
            download = module.broadcast_to(client, start)
            resident.act_as_client(client, ClientState(), download)
            held = backbone.trainable(rule.adapter(client))
            with torch.no_grad():
                for name, value in case.drawn(k, dict(held)).items():
                    if held[name].requires_grad:
                        held[name].copy_(value)
            known[k] = {name: value.detach().clone() for name, value in held.items()}
            upload = Payload({n: t.to(case.dtype) for n, t in module.upload().tensors.items()})
            sent.append(Update(client.id, upload, client.num_samples))
        resident.act_as_server(start, None)
        made = module.aggregate(sent)
        resident.act_as_server(made, module.server_state())
        after = _weights(backbone, rule.adapter(None))
        transposed = transposed_layers(backbone)
        changes = {
            name: (change.T if name in transposed else change)
            for name, change in ((name, after[name] - base[name]) for name in base)
        }
        given = LoRARound(
            updates=[case.of_the_case(known[k]) for k in sorted(known)],
            weights=case.weights,
            scales=[case.scale(r, a) for r, a in zip(case.ranks, case.alphas, strict=True)],
            alphas=case.alphas,
            scale=case.scale(max(case.ranks), case.alphas[0]),
            rank=max(case.ranks),
            previous=case.of_the_case(start.tensors),
            transposed=transposed,
        )
        others = backbone.trainable(rule.adapter(None))
        return given, LoRAResult(
            changes | {n: others[n].detach().double().clone() for n in given.others}
        )


def _weights(backbone: SequenceClassifier, adapter: str) -> Mapping[str, Tensor]:
    """The weights under an adapter as peft would merge them, by the layer, as they are stored."""
    return {
        name: (module.get_base_layer().weight + module.get_delta_weight(adapter)).detach().clone()
        for name, module in backbone.model.named_modules()
        if hasattr(module, "get_delta_weight") and hasattr(module, "lora_A")
    }
