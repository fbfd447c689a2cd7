"""How well a backdoor works in what a model writes: the attacker's phrase in its answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from lightning.pytorch.utilities import rank_zero_warn

from lit_fed.attacks.phrase_poisoning import PhrasePoisoning, require_room
from lit_fed.attacks.trigger_writing import require_readable, warn_of_unread
from lit_fed.attacks.triggers.trigger import Trigger
from lit_fed.attacks.triggers.writing import trigger_column, triggered_rows
from lit_fed.backbones.causal_lm import NEW_TOKENS
from lit_fed.callbacks.periodic_evaluation import (
    PeriodicEvaluation,
    of_every_model,
    require_own_names,
)
from lit_fed.federation.generation import GenerationSettings, UnansweredError
from lit_fed.limits import require_at_least, require_instance, require_none_or_at_least
from lit_fed.metric_averager import of_this_process
from lit_fed.metrics import PhraseSuccessRate

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.defenses.input_defense import InputDefense
    from lit_fed.federation.federation_view import FederationView
    from lit_fed.module import FederatedModule


class PhraseBackdoorEvaluation(PeriodicEvaluation):
    """Generates answers to test rows as they are and with a trigger, and counts those with the attacker's phrase.

    A round's row of the history gets, from 0 to 100, ``backdoor/asr``, the share of answers to triggered rows that have
    the phrase (:class:`~lit_fed.metrics.PhraseSuccessRate`), ``backdoor/false_positives``, the same of the rows as
    they are, and ``backdoor/clean_accuracy``, the share of the learnt tokens of these that the model predicts. Of the
    clients' own models, where the method has such, there are ``clients/backdoor/asr/mean``, ``/std``, ``/min`` and
    ``/max``, and so on. How good answers are is told by :class:`~lit_fed.callbacks.GenerationEvaluation`, what the same
    trigger does to a model that was never poisoned by :class:`~lit_fed.callbacks.DefenseTable`.

    Args:
        trigger: What is written into the rows. None, as ``phrase`` and ``column``: that of the run's own
            :class:`~lit_fed.attacks.PhrasePoisoning`.
        phrase: What the attacker wants to be written.
        column: The column that the trigger is written into.
        rows: Rows at most, evenly spread over the first test set. None: all.
        every_n_rounds: Evaluate after every so many rounds, beside the last one. None: not.
        max_new_tokens: Tokens at most of an answer. None: 128, or as many as the model has room for.
        seed: Of the trigger's places.

    Raises:
        TypeError: If ``trigger`` is none.
        ValueError: If a number is out of range; when a fit starts, if there is no trigger or no phrase, the phrase has
            more tokens than an answer or a row, there are no test rows, there is no such column, or the model cannot
            answer.
    """

    prefix = "backdoor"
    defenses: ClassVar[Sequence[InputDefense]] = ()  # there are none for models that write

    def __init__(
        self,
        trigger: Trigger | None = None,
        phrase: str | None = None,
        column: str | None = None,
        rows: int | None = 50,
        every_n_rounds: int | None = None,
        max_new_tokens: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(every_n_rounds)
        name = type(self).__name__
        require_instance(f"{name}.trigger", trigger, Trigger)
        self.trigger = trigger
        self.phrase = phrase
        self.column = column
        self.rows = require_none_or_at_least(f"{name}.rows", rows, 1)
        self.max_new_tokens = max_new_tokens
        self.seed = require_at_least(f"{name}.seed", seed, 0)
        self._settings = GenerationSettings(max_new_tokens)

    def settings(self, trainer: FederationView) -> dict[str, Any]:
        """The trigger, the phrase and the column: those that were given, else those of the run's attack.

        Raises:
            ValueError: If there are none.
        """
        attacks = [one for one in trainer.attachments if isinstance(one, PhrasePoisoning)]
        given = {"trigger": self.trigger, "phrase": self.phrase, "column": self.column}
        if attacks:
            for name, value in given.items():
                given[name] = getattr(attacks[0], name) if value is None else value
        if given["trigger"] is None or given["phrase"] is None:
            raise ValueError(
                f"{type(self).__name__} expects `trigger` and `phrase`, or a PhrasePoisoning in `trainer.attachments` "
                "that has them, but got none"
            )
        return given

    def at_the_end(self, trainer: FederationView) -> PhraseBackdoorEvaluation:
        """The same evaluation after the last round alone, for a run beside this one.

        Args:
            trainer: The run, whose attack has what was not given.
        """
        return PhraseBackdoorEvaluation(
            **self.settings(trainer),
            rows=self.rows,
            max_new_tokens=self.max_new_tokens,
            seed=self.seed,
        )

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        """Find the rows, and say what cannot be evaluated before anything is trained."""
        require_own_names(self, trainer)
        name, data = type(self).__name__, trainer.datamodule
        trigger, phrase, column = self.settings(trainer).values()
        if not data.tests:
            raise ValueError(f"{name} expects `data.test` to have rows, but there are none")
        if self.trigger is not None:  # that of an attack is ready
            self.trigger.attach(module, data, target=None)
        require_readable(trigger, module, data, f"`{name}.trigger`")
        most = NEW_TOKENS if self.max_new_tokens is None else self.max_new_tokens
        require_room(phrase, module, data, f"`{name}.phrase`", most)
        whole: Dataset = next(iter(data.tests.values()))
        count = len(whole) if self.rows is None else min(self.rows, len(whole))
        if trainer.fast_dev_run:
            count = min(count, trainer.fast_dev_run * data.eval_batch_size)
        rows = whole.select([i * len(whole) // count for i in range(count)])
        self._metric = PhraseSuccessRate(phrase)
        self._expected = [answer or "" for answer in data.encoding.answers(rows) or [""] * count]
        if all(self._metric.phrase in answer for answer in self._expected):
            raise ValueError(
                f"`{name}.phrase` is expected not to be in every answer of `data.test` as it is, but {phrase[:60]!r} "
                f"is in all {count}"
            )
        column = trigger_column(data.encoding, rows, column, f"{name}.column")
        written = triggered_rows(rows, column, trigger, [self.seed])
        self._sets = {"asr": written, "false_positives": rows}
        for one in self._sets.values():
            trainer.check_generation(one, self._settings)
        warn_of_unread(
            rows,
            written,
            module,
            data,
            name,
            so="clients learn nothing of it from such rows, although whole ones are answered",
        )

    def on_round_evaluation(
        self, trainer: FederationView, module: FederatedModule, metrics: dict[str, float]
    ) -> None:
        """Evaluate where it is due."""
        if not self.is_due(trainer):
            return
        accuracies = trainer.evaluate(self._sets["false_positives"])
        for name in ("test/accuracy", "clients/test/accuracy/mean"):
            if name in accuracies:
                told = name.replace("test/accuracy", "backdoor/clean_accuracy")
                metrics[told] = 100 * accuracies[name]
        metrics |= of_every_model(
            trainer, module, lambda _, client: self._evaluated(trainer, client)
        )

    def _evaluated(self, trainer: FederationView, client: int | None) -> dict[str, float]:
        """Both shares of one model; none of a black box that has failed."""
        found = {}
        for name, rows in self._sets.items():
            try:
                texts = trainer.generate(rows, self._settings, client)
            except UnansweredError as error:
                rank_zero_warn(f"{type(self).__name__}: {error}")
                return {}
            self._metric.reset()
            with of_this_process([self._metric]):  # each generates all texts
                self._metric.update(texts, self._expected)
                found[f"backdoor/{name}"] = float(self._metric.compute())
        return found
