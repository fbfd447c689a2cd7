"""Clients with LoRA of different ranks and alphas: an adapter for each pair, on one backbone."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Final

from lit_fed.aggregation.lora.factors import LoRALayout
from lit_fed.backbones.adapters import DEFAULT, some
from lit_fed.client import Client
from lit_fed.limits import require_at_least, require_positive

if TYPE_CHECKING:
    from lit_fed.backbones import Backbone


_SIZES: Final = ("r", "lora_alpha", "rank_pattern")

# What a number has beside digits, as an adapter's name has it: a module's name must not have points.
_SIGNS: Final = str.maketrans({".": "_", "-": "minus", "+": ""})


class ClientAdapters:
    """Which adapter each client trains, where ranks or alphas differ between clients.

    An adapter of another rank or alpha is the backbone's own otherwise: targets, rank-stabilised scale, dropout and
    the modules that are trained as a whole. A client's rank takes the place of ``r``; where ``rank_pattern`` gives a
    layer a rank, the smaller of the two holds. A client's alpha takes the place of ``lora_alpha``, not of what
    ``alpha_pattern`` gives a layer.

    Args:
        ranks: r of clients, by their ids. The others have the backbone's own.
        alphas: Alpha of clients, by their ids. The others have the backbone's own, whatever their rank.

    Raises:
        ValueError: If a rank is below 1, or an alpha is not finite and above 0.

    Example:
        >>> import peft
        >>> from lit_fed.backbones import SequenceClassifier
        >>> backbone = SequenceClassifier(peft=peft.LoraConfig(r=8, lora_alpha=16))
        >>> clients = ClientAdapters({"ward-1": 2, "ward-2": 2}, {"ward-2": 4})
        >>> clients.setup(backbone, rule="FlexLoRA")
        >>> backbone.adapters
        ('default', 'rank_2_alpha_16', 'rank_2_alpha_4')
    """

    def __init__(
        self, ranks: Mapping[str, int] | None = None, alphas: Mapping[str, float] | None = None
    ) -> None:
        self.ranks: dict[str, int] = {
            client: require_at_least(f"model.aggregation.ranks.{client}", rank, 1)
            for client, rank in (ranks or {}).items()
        }
        self.alphas: dict[str, float] = {
            client: require_positive(f"model.aggregation.alphas.{client}", alpha)
            for client, alpha in (alphas or {}).items()
        }
        self._names: dict[str, str] = {}
        self._layouts: dict[str, LoRALayout] = {}

    @property
    def mixed(self) -> bool:
        """Whether any client has an adapter other than the backbone's own, once it is known."""
        return bool(self._names)

    def setup(self, backbone: Backbone, rule: str) -> None:
        """Add the adapters, once the backbone is there.

        Args:
            backbone: The backbone.
            rule: The class that asks, for messages.

        Raises:
            ValueError: If the backbone's adapter is no plain LoRA; see
                :class:`~lit_fed.aggregation.lora.factors.LoRALayout`.
        """
        self._names, self._layouts = {}, {DEFAULT: LoRALayout.of(backbone, rule)}
        own = backbone.model.peft_config[DEFAULT]
        for client in {**self.ranks, **self.alphas}:
            rank, alpha = self.ranks.get(client), self.alphas.get(client, own.lora_alpha)
            config = resized(own, rank, alpha)
            if all(getattr(config, name) == getattr(own, name) for name in _SIZES):
                continue
            name = ("" if rank is None else f"rank_{rank}_") + f"alpha_{_in_a_name(alpha)}"
            if name not in self._layouts:
                backbone.add_adapter(name, config)
                self._layouts[name] = LoRALayout.of(backbone, rule, name)
            self._names[client] = name

    def check(self, ids: Collection[str]) -> None:
        """Say which of the clients with a rank or an alpha of their own are not there.

        Args:
            ids: Of all clients.

        Raises:
            ValueError: Naming them.
        """
        for setting, given in (("ranks", self.ranks), ("alphas", self.alphas)):
            if unknown := sorted(given.keys() - set(ids)):
                raise ValueError(
                    f"`model.aggregation.{setting}` are expected to be of clients among {some(ids)}, but got "
                    f"{some(unknown)}"
                )

    def adapter(self, client: Client | None) -> str:
        """The name of a client's adapter; None, the server, has the backbone's own."""
        return DEFAULT if client is None else self._names.get(client.id, DEFAULT)

    def layout(self, client_id: str | None) -> LoRALayout:
        """The factors in a client's adapter, with the scale that multiplies them; None: in the server's.

        Raises:
            KeyError: If the adapters have not been added.
        """
        name = DEFAULT if client_id is None else self._names.get(client_id, DEFAULT)
        return self._layouts[name]


def _in_a_name(alpha: float) -> str:
    """An alpha in the name of an adapter: six digits where they are all that it has, else as many as tell it apart."""
    short = f"{alpha:g}"
    if float(short) == alpha:
        return short.replace(".", "_")
    return repr(float(alpha)).translate(_SIGNS)


def resized(own: Any, rank: int | None, alpha: float) -> Any:
    """The backbone's LoRA with another alpha and, where there is one, rank."""
    config = copy.deepcopy(own)
    config.modules_to_save = None  # those of the backbone's own adapter are added
    config.lora_alpha = alpha
    if rank is not None:
        config.r = rank
        config.rank_pattern = {name: min(r, rank) for name, r in own.rank_pattern.items()}
    return config
