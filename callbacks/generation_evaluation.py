"""Metrics of what the model generates for rows: the global model's and clients' own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from math import isnan
from typing import TYPE_CHECKING, Any, Literal

from lightning.pytorch.utilities import rank_zero_warn
from torchmetrics import Metric, MetricCollection

from lit_fed.backbones import Sampling
from lit_fed.callbacks.periodic_evaluation import PeriodicEvaluation
from lit_fed.data.columns import ROW_ID, require_column, written_values
from lit_fed.federation.evaluation import spread, spread_of_clients
from lit_fed.federation.generation import GenerationSettings, UnansweredError
from lit_fed.limits import require_none_or_at_least
from lit_fed.metric_averager import of_this_process

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.data import Encoding
    from lit_fed.federation.federation_view import FederationView
    from lit_fed.module import FederatedModule


class GenerationEvaluation(PeriodicEvaluation):
    """Generates answers to rows after the last round, and what metrics say of them.

    A round's row of the history gets ``test/<metric>`` (or ``val/<metric>``) of the global model; of test sets after
    the first ``test/<metric>/<set>``. Where the method has no global model, and with ``personalised`` where its clients
    have models of their own beside it, as :class:`~lit_fed.FedSDR`'s have, the row gets ``clients/test/<metric>/mean``,
    ``/std``, ``/min`` and ``/max`` over the clients' own models, each as it is at the start of the client's next round.
    With ``own_column`` it gets ``groups/test/<metric>/mean`` and so on of the global model as well: over the groups of
    rows that belong to a client each, the same that the clients' own models answer. A client without rows, or of
    whose answers a metric has nothing to tell (NaN), does not count, nor does a black box that fails, which a
    warning tells.

    Args:
        metrics: Metrics by name. Each is updated by those of these keyword arguments that its ``update`` takes:
            ``preds`` (generated texts), ``target`` (expected ones), ``source`` (what they are about) and ``rows`` (the
            rows as dictionaries). One that computes several numbers names them.
        split: The rows: ``test`` (all sets) or ``validation``.
        personalised: Whether each client's own model answers as well, where the method has a global model and clients
            have models of their own. Where they have none, as with FedAvg, it changes nothing.
        own_column: A column whose value says to which client a row belongs, by the client's id: clients' own models
            answer these rows alone, of those that the global model answers. None: all, or of the validation those
            that a client holds out itself, where it does, also where there are no others.
        rows: Rows at most of each set, evenly spread, with ``own_column`` over each client's; of rows that a client
            holds out itself so many of each client. None: all.
        source: The column of what a text is about, such as a document to be summarised. None: all columns that the
            encoding reads but the expected answer, a line each; of chats what is said before the answer.
        every_n_rounds: Evaluate after every so many rounds as well. None: not.
        max_new_tokens: Tokens at most of an answer. None: 128, or as many as the model has room for.
        sampling: How each token is chosen.
        stop: Texts that end an answer, and are cut off it. None: there are none.
        cache: A folder in which answers are kept, so that a run that goes on generates none twice. None: none are.

    Raises:
        TypeError: If something else than a metric is given.
        ValueError: If a number is out of range or there are no metrics; when a fit starts, if there are no rows or no
            such column, the model cannot answer the rows, or a metric has the name of another one, such as ``loss``.
    """

    def __init__(
        self,
        metrics: dict[str, Metric],
        split: Literal["test", "validation"] = "test",
        personalised: bool = False,
        own_column: str | None = None,
        rows: int | None = 100,
        source: str | None = None,
        every_n_rounds: int | None = None,
        max_new_tokens: int | None = None,
        sampling: Sampling = Sampling(),  # noqa: B008 (it is frozen)
        stop: list[str] | None = None,
        cache: str | None = None,
    ) -> None:
        super().__init__(every_n_rounds)
        name = type(self).__name__
        if not metrics:
            raise ValueError(f"`{name}.metrics` is expected to have one or more, but is empty")
        if wrong := [key for key, one in metrics.items() if not isinstance(one, Metric)]:
            raise TypeError(
                f"`{name}.metrics.{wrong[0]}` is expected to be a torchmetrics.Metric, but got "
                f"{metrics[wrong[0]]!r:.80}"
            )
        if split not in ("test", "validation"):
            raise ValueError(
                f"`{name}.split` is expected to be test or validation, but got {split!r}"
            )
        # each on its own: groups of equal state are found by what the first update has done
        self.metrics = MetricCollection(dict(metrics), compute_groups=False)
        self.split = split
        self.personalised = personalised
        self.own_column = own_column
        self.rows = require_none_or_at_least(f"{name}.rows", rows, 1)
        self.source = source
        self.settings = GenerationSettings(max_new_tokens, sampling, stop or (), cache)
        self._prefix = {"test": "test", "validation": "val"}[split]

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        """Say what cannot be evaluated before anything is trained."""
        self._require_names(trainer)
        tables = self._tables(trainer)
        for rows in tables.values():
            for setting in ("source", "own_column"):
                column = getattr(self, setting)
                if column is not None:
                    require_column(rows, column, f"{type(self).__name__}.{setting}")
        asked = [self._sets(trainer)] if module.has_global_model else []
        if self._asks_clients(module):
            clients = range(len(trainer.datamodule.clients))
            asked += [self._sets(trainer, index) for index in clients]
        answered = [rows for sets in asked for rows in sets.values() if len(rows)]
        if not any(map(len, tables.values())) and not answered:
            raise ValueError(
                f"{type(self).__name__} expects `data.{self.split}` to have rows, but there are none"
            )
        for rows in answered:
            trainer.check_generation(rows, self.settings)
        if self.own_column is not None:
            self._require_own(trainer)

    def on_round_evaluation(
        self, trainer: FederationView, module: FederatedModule, metrics: dict[str, float]
    ) -> None:
        """Generate and evaluate where it is due."""
        if not self.is_due(trainer):
            return
        clients = range(len(trainer.datamodule.clients))
        found: dict[str, float] = {}
        if module.has_global_model:
            sets = self._sets(trainer)
            answers = self._answers(trainer, sets)
            found = self._evaluated(trainer, sets, answers)
            if self.own_column is not None:
                groups = [self._of_client(trainer, sets, answers, index) for index in clients]
                found |= spread([_told(one) for one in groups], "groups/")
        if self._asks_clients(module):
            own = [self._of_own_model(trainer, index) for index in clients]
            found |= spread_of_clients(list(zip(trainer.datamodule.clients, own, strict=True)))
        self._require_free(found.keys() & metrics.keys())
        metrics |= found

    def _require_names(self, trainer: Any) -> None:
        """Raise where a name is one of the evaluation's own, or of another of these callbacks."""
        taken = {f"{self._prefix}/{name}" for name in ("loss", "accuracy")}
        for other in trainer.callbacks:
            if isinstance(other, GenerationEvaluation) and other is not self:
                taken |= {f"{other._prefix}/{name}" for name in other.metrics}
        self._require_free(taken & {f"{self._prefix}/{name}" for name in self.metrics})

    def _require_free(self, taken: Set[str]) -> None:
        if taken:
            raise ValueError(
                f"`{type(self).__name__}.metrics` is expected to have names that a round has no metric of yet, but "
                f"{min(taken)} is there"
            )

    def _asks_clients(self, module: FederatedModule) -> bool:
        """Whether clients' own models answer."""
        return not module.has_global_model or (self.personalised and module.has_client_models)

    def _require_own(self, trainer: FederationView) -> None:
        """Raise unless some client has rows of its own."""
        clients = trainer.datamodule.clients
        own = (self._sets(trainer, index) for index in range(len(clients)))
        if not any(len(rows) for sets in own for rows in sets.values()):
            raise ValueError(
                f"`{type(self).__name__}.own_column` is expected to name a column of clients' ids, such as "
                f"{clients[0].id}, but {self.own_column} of `data.{self.split}` has none of them"
            )

    def _tables(self, trainer: FederationView, client: int | None = None) -> dict[str, Dataset]:
        """The rows that rows are chosen of, by the name of their set, of all or of a client."""
        data = trainer.datamodule
        sets: Mapping[str, Dataset | None] = data.tests
        if self.split == "validation":
            held = None
            if client is not None and self.own_column is None:
                held = data.clients[client].validation
            sets = {"validation": data.validation if held is None else held}
        return {name: rows for name, rows in sets.items() if rows is not None}

    def _sets(self, trainer: FederationView, client: int | None = None) -> dict[str, Dataset]:
        """The rows by the name of their set, of all or of a client; a set may have none."""
        tables = self._tables(trainer, client)
        encoding = trainer.datamodule.encoding
        chosen = {
            name: _up_to_the_answer(encoding, self._some(trainer, rows))
            for name, rows in tables.items()
        }
        if client is None or self.own_column is None:
            return chosen
        return {n: rows.select(self._places(trainer, rows, client)) for n, rows in chosen.items()}

    def _places(self, trainer: FederationView, rows: Dataset, client: int) -> list[int]:
        """Where a client's rows are."""
        own = trainer.datamodule.clients[client].id
        return [i for i, value in enumerate(self._owners(rows)) if value == own]

    def _owners(self, rows: Dataset) -> list[str]:
        """Whose each row is, as a partitioner by that column names clients."""
        setting = f"{type(self).__name__}.own_column"
        return [value or "" for value in written_values(rows, str(self.own_column), setting)]

    def _some(self, trainer: FederationView, rows: Dataset) -> Dataset:
        """As many as are asked for, evenly spread."""
        count = len(rows) if self.rows is None else min(self.rows, len(rows))
        if trainer.fast_dev_run:
            count = min(count, trainer.fast_dev_run * trainer.datamodule.eval_batch_size)
        order = list(range(len(rows)))
        if self.own_column is not None:
            # clients may take turns, of whom even steps would leave some out
            order.sort(key=self._owners(rows).__getitem__)
        return rows.select(sorted(order[i * len(rows) // count] for i in range(count)))

    def _answers(
        self, trainer: FederationView, sets: Mapping[str, Dataset], client: int | None = None
    ) -> dict[str, list[str]]:
        """What one model generates, by set."""
        return {
            name: trainer.generate(rows, self.settings, client) if len(rows) else []
            for name, rows in sets.items()
        }

    def _of_own_model(self, trainer: FederationView, client: int) -> dict[str, float]:
        """Metrics by name of what a client's own model answers; none where it is a black box that fails."""
        sets = self._sets(trainer, client)
        try:
            answers = self._answers(trainer, sets, client)
        except UnansweredError as error:
            rank_zero_warn(str(error))
            return {}
        return _told(self._evaluated(trainer, sets, answers))

    def _of_client(
        self,
        trainer: FederationView,
        sets: Mapping[str, Dataset],
        answers: Mapping[str, Sequence[str]],
        client: int,
    ) -> dict[str, float]:
        """Metrics by name of the answers to a client's rows."""
        places = {name: self._places(trainer, rows, client) for name, rows in sets.items()}
        return self._evaluated(
            trainer,
            {name: rows.select(places[name]) for name, rows in sets.items()},
            {name: [answers[name][i] for i in own] for name, own in places.items()},
        )

    def _evaluated(
        self,
        trainer: FederationView,
        sets: Mapping[str, Dataset],
        answers: Mapping[str, Sequence[str]],
    ) -> dict[str, float]:
        """Metrics by name of one model's answers."""
        found: dict[str, float] = {}
        for number, (name, rows) in enumerate(sets.items()):
            if not len(rows):
                continue
            self.metrics.reset()
            self.metrics.to(trainer.fabric.device)
            # each process has all rows
            with of_this_process(self.metrics.values()):
                self.metrics.update(preds=answers[name], **self._told(trainer, rows))
                values = self.metrics.compute()
            suffix = f"/{name}" if number else ""
            for metric, value in values.items():
                if getattr(value, "numel", lambda: 1)() != 1:
                    raise ValueError(
                        f"`{type(self).__name__}.metrics` is expected to give single numbers, but {metric} is "
                        f"of shape {list(value.shape)}"
                    )
                found[f"{self._prefix}/{metric}{suffix}"] = float(value)
        self.metrics.reset()
        return found

    def _told(self, trainer: FederationView, rows: Dataset) -> dict[str, Any]:
        """What metrics may ask for beside the generated texts."""
        encoding = trainer.datamodule.encoding
        own = rows.remove_columns([ROW_ID]) if ROW_ID in rows.column_names else rows
        told: dict[str, Any] = {"rows": list(own)}
        answers = encoding.answers(rows)
        if answers is not None:
            told["target"] = [answer or "" for answer in answers]
        told["source"] = self._sources(encoding, rows)
        return told

    def _sources(self, encoding: Encoding, rows: Dataset) -> list[str]:
        """What each row is about."""
        from datasets import ClassLabel, Value  # which takes a second

        hidden = {encoding.answer_column, encoding.weight}
        read = [
            column for column in dict.fromkeys(encoding.columns.values()) if column not in hidden
        ]
        columns = read if self.source is None else [self.source]
        if not all(isinstance(rows.features[column], Value | ClassLabel) for column in columns):
            # such as turns of a chat, of which the last one may be the answer
            return encoding.prompts(rows) or []
        texts = [written_values(rows, column, "data.encoding") for column in columns]
        return ["\n".join(filter(None, (text[i] for text in texts))) for i in range(len(rows))]


def _up_to_the_answer(encoding: Encoding, rows: Dataset) -> Dataset:
    """Chats without what follows the turn that is learnt, whose answer is asked for and compared."""
    more = encoding.goes_on(rows)
    return rows if more is None or not more.any() else encoding.with_hints(rows, [""] * len(rows))


def _told(metrics: Mapping[str, float]) -> dict[str, float]:
    """Those that have something to tell of a client."""
    return {name: value for name, value in metrics.items() if not isnan(value)}
