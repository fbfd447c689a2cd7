"""The interface of an aggregation rule: the clients' updates become the next broadcast."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal

from lit_fed.aggregation.weighting import client_weights
from lit_fed.client import Client
from lit_fed.payload import Payload
from lit_fed.update import Update, norm_of_change

if TYPE_CHECKING:
    from lit_fed.backbones import Backbone
    from lit_fed.backbones.folding import WeightChange

BASE_CHANGE: Final = "base_change"
"""The part of a broadcast that says how a rule has changed the frozen base; see :meth:`Aggregation.base_change`."""

Basis = Literal["kept", "near", "new"]
"""Which factors of LoRA a rule broadcasts; see :attr:`Aggregation.basis`."""


class Aggregation(ABC):
    """A rule by which the server makes one payload of many, the ``aggregation`` argument of a method.

    A rule may have memory, such as a server optimizer's moments. It is part of what the server keeps
    between rounds and is in the checkpoint, if :meth:`state` gives it. Before every use the rule forgets
    (``load_state`` of an empty payload) and, from the second round on, is given the last state back.

    A rule may also decide what trains and what travels, for instance where one factor of LoRA is frozen.
    It is asked by the names of an adapter's parameters (without a PEFT configuration: the model's) and
    answers with some of them. By default all train and travel. What a client trains and does not download
    stays with it, as a part of its private state, unless the rule says that it starts anew; what it does not train
    stays as it was built, or as it was downloaded.

    A rule may change the frozen base as well: its broadcast has a part that says how, which every client
    downloads whole.
    """

    needs_validation: bool = False
    """Whether updates have to bring the metrics of each client's validation."""

    has_global_model: bool = True
    """Whether the broadcast makes a model of its own; else the clients' models are evaluated."""

    fewest_updates: int = 1
    """How many updates it needs to combine them; a round of fewer clients is refused before training starts."""

    # ---------------------------------------------------------------- combining

    @abstractmethod
    def __call__(self, updates: Sequence[Update], previous: Payload) -> Payload:
        """Combine at least one update.

        Args:
            updates: One entry per client that finished the round, in the order of the clients.
            previous: The broadcast that the clients started from, without what a method exchanges beside it.

        Returns:
            The combined payload, which is the next broadcast; with a part ``base_change`` if the rule changes the
            frozen base.
        """

    def check_update(self, update: Update) -> None:
        """Say what of a client's update the rule cannot combine, so that the client is left out. Default: nothing.

        Args:
            update: One client's.

        Raises:
            ValueError: If something cannot be combined.
        """
        return

    def weights(self, updates: Sequence[Update]) -> list[float]:
        """What each client counts for, where a method combines something beside the weights.

        Args:
            updates: As in :meth:`__call__`, which has been called with them: a rule may know it only then.

        Returns:
            One weight per update, at least 0, with the sum 1. A client that the rule leaves out has 0.
            Default: proportional to the clients' sizes.
        """
        return client_weights(updates)

    def update_norm(self, upload: Payload, broadcast: Payload) -> float | None:
        """How much a client has changed; see :meth:`lit_fed.FederatedModule.update_norm`.

        Default: the norm of the difference over what both hold.

        Args:
            upload: What the client sends.
            broadcast: What it has downloaded.
        """
        return norm_of_change(upload, broadcast)

    def metrics(self) -> dict[str, float]:
        """What is to be logged of the last :meth:`__call__`, such as ``server/lora_distance``. Default: nothing."""
        return {}

    def state(self) -> Payload:
        """What the rule remembers until the next round. Default: nothing."""
        return Payload()

    def load_state(self, state: Payload) -> None:
        """Take back what :meth:`state` gave.

        Args:
            state: An empty payload stands for the beginning: forget everything.

        Raises:
            ValueError: If there is a state, and this rule keeps none: it is another rule's.
        """
        if state:
            raise ValueError(
                f"the state of `model.aggregation` {type(self).__name__} is expected to be empty, since "
                f"the rule remembers nothing, but got {state}"
            )

    # ---------------------------------------------------------------- what trains and what travels

    @property
    def basis(self) -> Basis:
        """The basis of LoRA's factors in a broadcast, of which B·R with R⁻¹·A are the same change for every R.

        ``kept``: that of the factors that clients have sent, so that what a client remembers of its own, such as a
        change that it still owes, fits them. ``near``: the factors are made anew, and turned to where they are nearest
        to those before. ``new``: they have nothing in common with those before. Default: ``kept``.
        """
        return "kept"

    @property
    def sends_everything(self) -> bool:
        """Whether all clients train, send and receive all of the ``default`` adapter, on the base as it was loaded."""
        decisions = ("adapter", "trains", "sends", "receives", "broadcast_to", "base_change")
        return all(getattr(type(self), name) is getattr(Aggregation, name) for name in decisions)

    def setup(self, backbone: Backbone) -> None:
        """Make ready once, when the method is built: the place to add adapters, for instance of other ranks.

        Args:
            backbone: What the method trains.
        """
        return

    def check_clients(self, ids: Collection[str]) -> None:
        """Say before training which of the clients that the settings name are not there. Default: nothing.

        Args:
            ids: Of all clients.

        Raises:
            ValueError: If one is not.
        """
        return

    def adapter(self, client: Client | None) -> str:
        """The adapter that a client trains. Default: ``default``.

        Args:
            client: The client; None for the server, whose adapter is the global model.
        """
        return "default"

    def trains(self, names: Sequence[str], client: Client | None) -> Collection[str]:
        """Those parameters that a client trains in this round; the others are frozen. Default: all.

        Args:
            names: Of the adapter's parameters.
            client: The client, which knows the round; None for what any client trains in any round,
                which is also what a stock Trainer and the server train.
        """
        return names

    def sends(self, names: Sequence[str], client: Client) -> Collection[str]:
        """Those parameters that a client uploads. Default: all that it has trained.

        Args:
            names: Of the parameters that the client trains in this round.
            client: The client.
        """
        return names

    def receives(self, names: Sequence[str], client: Client | None) -> Collection[str]:
        """Those parameters that a client downloads. Default: all.

        Args:
            names: Of the adapter's parameters.
            client: The client; None for those that the broadcast holds.
        """
        return names

    def keeps(self, names: Sequence[str], client: Client | None) -> Collection[str]:
        """Those parameters that stay with a client until its next round. Default: all.

        Args:
            names: Of the parameters that the client trains in any round and does not download. Those that do not stay
                start every round as they were built.
            client: The client.
        """
        return names

    def base_change(self, part: Payload) -> Mapping[str, WeightChange]:
        """The change of the frozen base, as :meth:`lit_fed.backbones.Backbone.fold` takes it. Default: none.

        Args:
            part: The broadcast's part ``base_change``, which this rule has made; empty where there is none.

        Raises:
            ValueError: If there is one, and it is not this rule's.
        """
        if part:
            raise ValueError(
                f"the broadcast is expected to leave the frozen base as it is, which `model.aggregation` "
                f"{type(self).__name__} does, but changes it: it is another rule's"
            )
        return {}

    def broadcast_to(self, client: Client, broadcast: Payload) -> Payload:
        """What a client downloads of the broadcast. Default: the broadcast itself, the same object.

        It depends on its arguments and the rule's settings alone, not on the rule's state.

        Args:
            client: The client.
            broadcast: The last broadcast, without what is exchanged beside the weights.

        Returns:
            A payload of what the client :meth:`receives`, in the shapes of its adapter.
        """
        return broadcast
