"""What robust rules share: the geometry in which they act, and the account of which clients they count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from lit_fed.aggregation.aggregation import Aggregation, Basis
from lit_fed.aggregation.robust.changes import Changes, Geometry
from lit_fed.aggregation.robust.coordinates import Coordinates, has_factors
from lit_fed.aggregation.robust.products import Products
from lit_fed.aggregation.weighting import client_weights
from lit_fed.limits import require_instance
from lit_fed.payload import Payload
from lit_fed.update import Update

if TYPE_CHECKING:
    from lit_fed.backbones import Backbone

_NAMED: Final = 5  # clients that a line names


class RobustRule(Aggregation):
    """A rule that bounds what some wrong clients can do, by the clients' changes from their common start.

    It takes all updates of a round together, in memory that grows with their number. It says in the log which clients
    it has begun to leave out, or to count again.

    Args:
        geometry: What a client's change is. None: :class:`~lit_fed.aggregation.robust.Products` where the adapter is a
            LoRA, else :class:`~lit_fed.aggregation.robust.Coordinates`.
    """

    def __init__(self, geometry: Geometry | None = None) -> None:
        self.geometry = require_instance("model.aggregation.geometry", geometry, Geometry)
        self._acting: Geometry = geometry or Coordinates()
        self._counted: dict[str, float] = {}
        self._left_out: set[str] = set()
        self._metrics: dict[str, float] = {}

    @property
    def basis(self) -> Basis:
        """That of the geometry."""
        return self._acting.basis

    def setup(self, backbone: Backbone) -> None:
        """Find what the changes are of.

        Raises:
            ValueError: If the adapter has no changes of the chosen kind.
        """
        if self.geometry is None:
            self._acting = Products() if has_factors(backbone) else Coordinates()
        self._acting.setup(backbone, type(self).__name__)

    def weights(self, updates: Sequence[Update]) -> list[float]:
        """What each client counted for in the last round that was combined.

        Args:
            updates: Of the same clients.

        Raises:
            ValueError: If they are of others.
        """
        names = [update.client_id for update in updates]
        if self._counted.keys() != set(names):
            raise ValueError(
                f"`model.aggregation` {type(self).__name__} knows what a client counts for when it has combined the "
                f"round: it is expected to be called before, with the same clients, but got {names}"
            )
        return [self._counted[name] for name in names]

    def metrics(self) -> dict[str, float]:
        """Whom the rule has counted."""
        return dict(self._metrics)

    def _changes(self, updates: Sequence[Update], previous: Payload) -> Changes:
        """The changes of at least one client."""
        client_weights(updates, "uniform")
        return self._acting.changes(updates, previous)

    def _note(self, updates: Sequence[Update], weights: Tensor, metrics: dict[str, float]) -> None:
        """Keep what each client counts for and what is logged, and say whom the rule has begun to leave out.

        Args:
            updates: Of the round.
            weights: At least 0 with the sum 1, [K].
            metrics: What is logged.
        """
        names = [update.client_id for update in updates]
        self._counted = dict(zip(names, weights.tolist(), strict=True))
        self._metrics = metrics
        out = {name for name, weight in self._counted.items() if weight == 0}
        said = [
            f"{what} {_listed(sorted(clients))}"
            for what, clients in (
                ("leaves out", out - self._left_out),
                ("counts again", self._left_out & (set(names) - out)),
            )
            if clients
        ]
        if said:
            rank_zero_info(f"{type(self).__name__} {' and '.join(said)}")
        self._left_out = (self._left_out - set(names)) | out


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_NAMED])
    return f"{shown} and {len(names) - _NAMED} more" if len(names) > _NAMED else shown
