"""How well a backdoor works after a round: on test rows with the trigger and without."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from lit_fed.attacks.target_labels import KnownLabels
from lit_fed.attacks.trigger_poisoning import TriggerPoisoning
from lit_fed.attacks.trigger_writing import require_readable, warn_of_unread
from lit_fed.attacks.triggers.trigger import Trigger
from lit_fed.attacks.triggers.writing import trigger_column, triggered_rows
from lit_fed.backbones import BlackBox
from lit_fed.callbacks.periodic_evaluation import (
    PeriodicEvaluation,
    of_every_model,
    require_own_names,
)
from lit_fed.defenses.input_defense import Classify, InputDefense, Inspection
from lit_fed.limits import require_at_least, require_instance
from lit_fed.metrics import attack_successes

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.federation.federation_view import FederationView
    from lit_fed.module import FederatedModule


class BackdoorEvaluation(PeriodicEvaluation):
    """Classifies the test rows as they are and with a trigger, by the global model and by clients' own.

    A round's row of the history gets, from 0 to 100:

    - ``backdoor/asr``, the attack success rate: the share of triggered rows of other classes that are taken for the
      target (:class:`~lit_fed.metrics.AttackSuccessRate`);
    - ``backdoor/clean_accuracy``, of the rows as they are;
    - ``backdoor/false_positives``, the share of rows of other classes that are taken for the target without a trigger;
    - the same after each defence of inputs as ``backdoor/<its class>/…``, and ``…/false_rejections``, the share of the
      clean rows that it refuses. A triggered row that is refused is no success, a clean one an error.

    Of the clients' own models, where the method has such, there are ``clients/backdoor/asr/mean``, ``/std``, ``/min``
    and ``/max``, and so on. What the same trigger does to a model that was never poisoned is told by
    :class:`~lit_fed.callbacks.DefenseTable`.

    The rows are those of the first test set.

    Args:
        trigger: What is written into the rows. None: the trigger of the run's first
            :class:`~lit_fed.attacks.TriggerPoisoning`, with its target and column where these are not given. Of
            several attacks each gets an evaluation with its own trigger, target and name.
        target: The label that the attacker wants, by its name, or its number where labels have no names.
        column: The column that the trigger is written into. None: the first text that the model reads.
        defenses: What is done to inputs at test time, each fitted on the validation rows and tried on its own.
        every_n_rounds: Evaluate after every so many rounds, beside the last one. None: not.
        seed: Of the trigger's places.
        name: What stands behind ``backdoor/`` in the metrics' names, where there are several. None: nothing.

    Raises:
        TypeError: If something has a wrong type.
        ValueError: If ``every_n_rounds`` is below 1; when a fit starts, if there is no trigger or no target, no such
            label or column, no test rows of another label, no validation rows for a defence, or the trigger is longer
            than the model reads.
    """

    def __init__(
        self,
        trigger: Trigger | None = None,
        target: str | int | None = None,
        column: str | None = None,
        defenses: list[InputDefense] | None = None,
        every_n_rounds: int | None = 1,
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        super().__init__(every_n_rounds)
        self.name = name
        self.prefix = "backdoor" if name is None else f"backdoor/{name}"
        require_instance("BackdoorEvaluation.trigger", trigger, Trigger)
        for defense in defenses or []:
            require_instance("BackdoorEvaluation.defenses", defense, InputDefense)
        self.trigger = trigger
        self.target = target
        self.column = column
        self.defenses = list(defenses or [])
        self.seed = require_at_least("BackdoorEvaluation.seed", seed, 0)

    def settings(self, trainer: FederationView) -> dict[str, Any]:
        """The trigger, the target and the column: those that were given, else those of the run's attack.

        Raises:
            ValueError: If there are none.
        """
        attacks = [one for one in trainer.attachments if isinstance(one, TriggerPoisoning)]
        given = {"trigger": self.trigger, "target": self.target, "column": self.column}
        if self.trigger is None and attacks:
            for name, value in given.items():
                given[name] = getattr(attacks[0], name) if value is None else value
        if lacking := [name for name in ("trigger", "target") if given[name] is None]:
            raise ValueError(
                "BackdoorEvaluation expects `trigger` and `target`, or neither and a TriggerPoisoning in "
                f"`trainer.attachments` that has them, but got no {' and no '.join(lacking)}"
            )
        return given

    def at_the_end(self, trainer: FederationView) -> BackdoorEvaluation:
        """The same evaluation without defences, after the last round alone, for a run beside this one.

        Args:
            trainer: The run, whose attack has what was not given.
        """
        return BackdoorEvaluation(**self.settings(trainer), every_n_rounds=None, seed=self.seed)

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        """Find the rows, and say what cannot be evaluated before anything is trained."""
        require_own_names(self, trainer)
        data, chosen = trainer.datamodule, self.settings(trainer)
        if not data.tests:
            raise ValueError(
                "BackdoorEvaluation expects `data.test` to have rows, but there are none"
            )
        if self.defenses and not data.validation:
            raise ValueError(
                "`BackdoorEvaluation.defenses` expect `data.validation` to have rows, but there are none"
            )
        labels = KnownLabels.of(
            data.encoding, [client.rows for client in data.clients], "BackdoorEvaluation"
        )
        self._target = labels.number(chosen["target"], "`BackdoorEvaluation.target`")
        if self.trigger is not None:  # that of an attack is ready
            self.trigger.attach(module, data, self._target)
        require_readable(chosen["trigger"], module, data, "`BackdoorEvaluation.trigger`")
        rows: Dataset = next(iter(data.tests.values()))
        if trainer.fast_dev_run:
            rows = rows.select(range(min(len(rows), trainer.fast_dev_run * data.eval_batch_size)))
        self._labels = torch.from_numpy(labels.of_rows(rows))
        if bool((self._labels == self._target).all()):
            raise ValueError(
                f"BackdoorEvaluation expects test rows of other labels than `target` {chosen['target']!r}, which the "
                "trigger could turn, but there are none"
            )
        column = trigger_column(data.encoding, rows, chosen["column"], "BackdoorEvaluation.column")
        for defense in self.defenses:
            defense.attach(data.encoding, rows)
        self._clean = rows
        self._triggered = triggered_rows(rows, column, chosen["trigger"], [self.seed])
        warn_of_unread(
            rows,
            self._triggered,
            module,
            data,
            "BackdoorEvaluation",
            so="the attack cannot succeed there",
        )

    def on_round_evaluation(
        self, trainer: FederationView, module: FederatedModule, metrics: dict[str, float]
    ) -> None:
        """Evaluate where it is due."""
        if self.is_due(trainer):
            metrics |= of_every_model(trainer, module, partial(self._evaluated, trainer))

    def _evaluated(
        self, trainer: FederationView, module: FederatedModule, client: int | None
    ) -> dict[str, float]:
        """All figures of one model; a black box, which gives no probabilities, has none."""
        if isinstance(module.backbone, BlackBox):
            return {}
        classify: Classify = partial(trainer.classify, client=client)
        nobody = np.zeros(len(self._clean), bool)
        found = self._figures(
            classify, Inspection(self._clean, nobody), Inspection(self._triggered, nobody)
        )
        for name, defense in zip(defense_names(self.defenses), self.defenses, strict=True):
            defense.fit(classify, trainer.datamodule.validation)
            clean = defense.inspect(classify, self._clean)
            told = self._figures(classify, clean, defense.inspect(classify, self._triggered))
            told["false_rejections"] = 100 * float(clean.rejected.mean())
            found |= {f"{name}/{figure}": value for figure, value in told.items()}
        return {f"{self.prefix}/{figure}": value for figure, value in found.items()}

    def _figures(
        self, classify: Classify, clean: Inspection, triggered: Inspection
    ) -> dict[str, float]:
        """What a model makes of rows as a defence leaves them."""
        seen = torch.from_numpy(np.asarray(classify(clean.rows)))
        right = (seen.argmax(-1) == self._labels) & ~torch.from_numpy(clean.rejected)
        return {
            "asr": self._share(classify(triggered.rows), triggered.rejected),
            "clean_accuracy": 100 * float(right.double().mean()),
            "false_positives": self._share(seen.numpy(), clean.rejected),
        }

    def _share(self, seen: npt.NDArray[np.floating], rejected: npt.NDArray[np.bool_]) -> float:
        """The share of rows of other classes that are taken for the target."""
        judged, success = attack_successes(
            torch.from_numpy(np.asarray(seen)),
            self._labels,
            self._target,
            torch.from_numpy(rejected),
        )
        return 100 * float(success.sum()) / max(1, int(judged.sum()))


def defense_names(defenses: Sequence[InputDefense]) -> list[str]:
    """What defences are called: by their classes, the second one of a class with a 2, and so on.

    Args:
        defenses: The defences.
    """
    names: list[str] = []
    for defense in defenses:
        kind = type(defense).__name__
        count = sum(name.rstrip("0123456789") == kind for name in names)
        names.append(f"{kind}{count + 1}" if count else kind)
    return names
