"""A few rows of clients before and after they have rewritten them, in TensorBoard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lit_fed.callbacks.harmless_text import table_cell
from lit_fed.callbacks.published_text import PublishedText
from lit_fed.limits import require_at_least
from lit_fed.methods.averaging import REWRITING
from lit_fed.methods.rewriting import Rewriting, Rewritten

if TYPE_CHECKING:
    from lit_fed.client import Client
    from lit_fed.federation.federation_view import FederationView
    from lit_fed.module import FederatedModule


class RewritingSamples(PublishedText):
    """Shows rows of clients before and after they have rewritten them in TensorBoard's text tab, as ``rewriting``.

    A table after the round in which clients have rewritten: a row's client, its prompt, the reference, and what is
    trained on in its place, or why that is the reference. The texts are the clients' own data, so this is for a
    simulation, where nobody else reads the events; they are cut, and shown so that they do nothing.

    Args:
        rows: Rows of each client, evenly over its table.
        clients: How many clients, the first.
        max_characters: Characters of a text that are shown.

    Raises:
        TypeError: When a fit starts, if clients do not rewrite texts.
        ValueError: If a number is below 1.
    """

    tag = "rewriting"

    def __init__(self, rows: int = 3, clients: int = 4, max_characters: int = 600) -> None:
        super().__init__()
        name = type(self).__name__
        self.rows = require_at_least(f"{name}.rows", rows, 1)
        self.clients = require_at_least(f"{name}.clients", clients, 1)
        self.max_characters = require_at_least(f"{name}.max_characters", max_characters, 1)

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        """Take the last table back; say now where there is nothing to show."""
        super().on_fit_start(trainer, module)
        if not isinstance(getattr(module, "rewriting", None), Rewriting):
            raise TypeError(
                f"`{type(self).__name__}` expects a method whose clients rewrite texts (`model.rewriting`), but "
                f"`model.rewriting` of {type(module).__name__} is "
                f"{type(getattr(module, 'rewriting', None)).__name__}"
            )

    def on_round_start(
        self, trainer: FederationView, module: FederatedModule, clients: Sequence[Client]
    ) -> None:
        """Take the table of the first round, and of every one in which clients rewrite again."""
        method: Any = module
        done, every = trainer.current_round, method.rewriting.refresh_every
        if done != 0 and (every is None or done % every != 0):
            return
        shown: list[tuple[str, Rewritten]] = []
        for index, client in enumerate(trainer.datamodule.clients[: self.clients]):
            state = trainer.federation.clients.get(client.id)
            if state is None or state.prepared is None:
                continue
            rows = trainer.datamodule.client_data(client.id, trainer.task).rows
            if trainer.fast_dev_run:  # no others have been rewritten
                most = trainer.fast_dev_run * trainer.datamodule.batch_size
                rows = rows.select(range(min(len(rows), most)))
            rows = rows.select(
                [i * len(rows) // self.rows for i in range(self.rows)]
                if len(rows) > self.rows
                else range(len(rows))
            )
            own: Any = trainer.act_as_client(index)
            found = own.rewriting.rewritten(own, rows, state.prepared.parts[REWRITING])
            shown += [(client.id, one) for one in found]
        trainer.act_as_server()
        self.take(done + 1, self._markdown(shown))

    def _markdown(self, shown: Sequence[tuple[str, Rewritten]]) -> str:
        lines = [["client", "prompt", "reference", "trained on"], ["---"] * 4]
        for client, row in shown:
            response = (
                self._cell(row.response)
                if row.reason is None
                else f"*the reference: {table_cell(row.reason)}*"
            )
            lines.append(
                [self._cell(client), self._cell(row.prompt), self._cell(row.reference), response]
            )
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def _cell(self, text: str) -> str:
        return table_cell(text, self.max_characters)
