"""What attacks on rows share: which rows are poisoned, and until when."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from lightning.pytorch.utilities import rank_zero_warn

from lit_fed.attacks.attack import Attack
from lit_fed.client import Client
from lit_fed.data.columns import column_values, require_column, row_ids
from lit_fed.limits import is_number

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.data import FederatedDataModule
    from lit_fed.module import FederatedModule


class RowPoisoning(Attack):
    """Poisons an exact number of training rows: those of malicious clients, or spread over all.

    The rows are drawn once, by the seed alone, before anything trains. Of two rates the rows of the smaller one are
    among those of the larger one. So two attacks with one ``seed`` choose the same rows where they can: a warning says
    how many rows are poisoned by two attacks, of which the later one is what their labels come from.

    Args:
        rate: The share of the rows of *all* clients that are poisoned, above 0 and at most 1, wherever they lie: so
            poison that is concentrated in some clients and poison that is spread thinly are equally much.
        clients: Ids of the malicious clients. None, as ``count``: the rows of all clients can be poisoned.
        count: How many clients are malicious, drawn by the seed: an integer is a count, a float a share.
        until: Rounds in which the attack lasts, from the first on. None: all.
        candidates: Ids of the rows that can be chosen, which are their positions in ``data.train``. None: all. Those of
            no client, such as rows that are carved off for validation, are warned of.
        candidates_column: A column of truth values, or of 0 and 1, that says which rows can be chosen. As texts they
            are ``true``, ``false``, ``1`` and ``0``. None: all.
        seed: Of all draws.

    Raises:
        ValueError: If a number is out of range; before a fit, if the rate gives no row, or more than can be chosen.
    """

    def __init__(
        self,
        rate: float,
        clients: Sequence[str] | None = None,
        count: int | float | None = None,
        until: int | None = None,
        candidates: Sequence[int] | None = None,
        candidates_column: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(clients, count, seed, until)
        if not is_number(rate) or not 0 < rate <= 1:
            raise ValueError(
                f"{self.setting} expects `rate` to be a number above 0 and at most 1, but got {rate!r}"
            )
        self.rate = rate
        self.candidates = None if candidates is None else sorted(candidates)
        self.candidates_column = candidates_column
        self._chosen: dict[str, frozenset[int]] = {}
        self._poisoned: dict[tuple[str, str], Dataset] = {}

    @abstractmethod
    def eligible(self, rows: Dataset) -> npt.NDArray[np.bool_]:
        """Which rows the attack can do something to, [N].

        Args:
            rows: N rows of a malicious client.
        """

    @abstractmethod
    def poisoned(self, client: Client, rows: Dataset, positions: Sequence[int]) -> Dataset:
        """The rows, of which some are poisoned.

        Args:
            client: Whose they are.
            rows: Its rows.
            positions: Which are to be poisoned, at least one.
        """

    def rated(self, rows: int, eligible: int) -> int:
        """Of how many rows ``rate`` is a share. Default: of those of all clients.

        Args:
            rows: The rows of all clients.
            eligible: Those that can be chosen.
        """
        return rows

    def attach(self, module: FederatedModule, data: FederatedDataModule) -> None:
        """Choose the rows.

        Raises:
            ValueError: If there are none to be poisoned, or fewer than are to be.
        """
        self._poisoned.clear()
        self._say_unknown_candidates([row_ids(one.rows) for one in data.clients])
        places: list[tuple[str, int]] = []
        for one in data.clients:
            if self.clients is None or one.id in self.clients:
                possible = self.eligible(one.rows) & self._candidates(one.rows)
                places += [(one.id, int(id)) for id in row_ids(one.rows)[possible]]
        rated = self.rated(sum(len(one.rows) for one in data.clients), len(places))
        number = round(self.rate * rated)
        if not 1 <= number <= len(places):
            raise ValueError(
                f"{self.setting} expects `rate` to give from 1 row to the {len(places):,} that can be chosen, but "
                f"{self.rate!r} of {rated:,} rows gives {number:,}"
            )
        order = np.random.default_rng(self.seed).permutation(len(places))[:number]
        chosen: dict[str, set[int]] = {}
        for i in order:
            chosen.setdefault(places[i][0], set()).add(places[i][1])
        self._chosen = {client: frozenset(ids) for client, ids in chosen.items()}

    def rows(self, client: Client, rows: Dataset) -> Dataset:
        """The client's rows, poisoned while the attack lasts."""
        chosen = self._chosen.get(client.id)
        if not chosen or not self.acts_on(client):
            return rows
        key = (client.id, rows._fingerprint)
        if key not in self._poisoned:
            positions = [i for i, id in enumerate(row_ids(rows).tolist()) if id in chosen]
            self._poisoned[key] = self.poisoned(client, rows, positions) if positions else rows
        return self._poisoned[key]

    def chosen_rows(self, client: str, round: int = 0) -> frozenset[int]:
        """Ids of a client's rows that are poisoned in a round, once the attack is attached.

        Args:
            client: The client's id.
            round: The round, from 0.
        """
        if self.until is not None and round >= self.until:
            return frozenset()
        return self._chosen.get(client, frozenset())

    def shared_rows(self, other: RowPoisoning) -> int:
        """How many rows another attack has chosen as well, once both are attached.

        Args:
            other: The other attack.
        """
        return sum(
            len(ids & other._chosen.get(client, frozenset()))
            for client, ids in self._chosen.items()
        )

    def summarised(self) -> Mapping[str, Any]:
        """How many rows are poisoned, in all and of each client."""
        counts = {client: len(ids) for client, ids in sorted(self._chosen.items())}
        return {"poisoned_rows": sum(counts.values()), "poisoned_rows_by_client": counts}

    def _candidates(self, rows: Dataset) -> npt.NDArray[np.bool_]:
        """Which rows a user lets be chosen, [N]."""
        possible = np.ones(len(rows), dtype=bool)
        if self.candidates is not None:
            possible &= np.isin(row_ids(rows), self.candidates)
        if self.candidates_column is not None:
            name = f"trainer.attachments {type(self).__name__}.candidates_column"
            require_column(rows, self.candidates_column, name, "data.train")
            written = column_values(rows, self.candidates_column)
            possible &= np.array([_truth(value, name) for value in written], dtype=bool)
        return possible

    def _say_unknown_candidates(self, ids: Sequence[npt.NDArray[np.int64]]) -> None:
        """Warn of candidates that are rows of nobody, as those of another division of the data."""
        known = np.concatenate(ids) if ids else np.zeros(0, np.int64)
        unknown = np.setdiff1d(self.candidates or [], known).astype(int).tolist()
        if unknown:
            rank_zero_warn(
                f"{self.setting}: {len(unknown):,} of the {len(self.candidates or ()):,} `candidates` are rows of no "
                f"client, the first of them {unknown[0]}"
            )


def _truth(value: object, setting: str) -> bool:
    """What a column says of a row.

    Raises:
        ValueError: If it is no truth value.
    """
    written = str(value).strip().lower()
    if written in ("1", "1.0", "true"):
        return True
    if written in ("0", "0.0", "false"):
        return False
    raise ValueError(
        f"`{setting}` is expected to name a column of truth values, or of 0 and 1, but a row of it has {value!r}"
    )
