"""The closing table of a defence: clean accuracy, false positives and success of an attack, with it and without."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from lightning.pytorch.utilities import rank_zero_warn

from lit_fed.aggregation import Aggregation, WeightedAverage
from lit_fed.atomic_files import write_file
from lit_fed.attacks.attack import Attack
from lit_fed.callbacks.backdoor_evaluation import BackdoorEvaluation, defense_names
from lit_fed.callbacks.federated_callback import FederatedCallback
from lit_fed.callbacks.partition_table import PartitionTable
from lit_fed.callbacks.phrase_backdoor_evaluation import PhraseBackdoorEvaluation
from lit_fed.callbacks.run_summary import RunSummary
from lit_fed.federation.validation import require_teacher
from lit_fed.limits import require_instance
from lit_fed.methods.fedavg import FedAvg
from lit_fed.module import FederatedModule

if TYPE_CHECKING:
    from rich.table import Table

    from lit_fed.attachment import Attachment
    from lit_fed.federation.federation_view import FederationView

Figures = Mapping[str, float]
"""``clean_accuracy``, ``false_positives``, ``asr`` and ``floor`` of a model, from 0 to 100."""

FIGURES: Final = ("clean_accuracy", "false_positives", "asr", "floor")
LEAST_ASR: Final = 90.0
"""The least success rate of an attack that works, without any defence."""
MOST_DROP: Final = 3.0
"""The most points of clean accuracy that an attack which works may cost."""
LEAST_RISE: Final = 10.0
"""The least number of points by which the success rate of an attack which works is above its floor."""


class DefenseTable(FederatedCallback):
    """Ends a fit with a table of what an attack does with the run's defence, without it, and to a clean model.

    The run itself is *with* the defence, be it the method, its aggregation rule, DP-SGD or an attachment, all of which
    its row names. When it is over, two further federations of an undefended method are run in the same process, on the
    same data, with the same settings, seed, number of rounds and attachments that are no defences: one with the run's
    attacks, and one without any, whose success rate is the floor of this trigger. They have folders of their own in the
    run's, ``backdoor/undefended`` and ``backdoor/never_poisoned``, and go on there where they were broken off. The
    table is in ``backdoor/table.json`` and in the run's summary as well.

    An attack that does not work cannot be defended against: if it succeeds in less than 90 % of the rows without a
    defence, by less than 10 points more than the trigger does with the clean model, as where either of them calls
    everything the target, or costs more than 3 points of clean accuracy, the table says that there is none.

    Needs a :class:`~lit_fed.callbacks.BackdoorEvaluation` among the callbacks, which says what the trigger is, or of
    models that write a :class:`~lit_fed.callbacks.PhraseBackdoorEvaluation`.

    Args:
        undefended: The method without a defence, a whole one with its backbone, such as a :class:`~lit_fed.FedAvg`.
            None: a :class:`~lit_fed.FedAvg` that trains a copy of the run's own model as it was before the fit, with
            the run's optimizer and warm-up, so that the defence is the only difference.

    Raises:
        TypeError: If it is no method.
        ValueError: When a fit starts, if there is no evaluation of a backdoor or no attack, the method has no global
            model, ``undefended`` is for other labels or lacks a teacher that an attack acts on, or there are several
            processes.
    """

    def __init__(self, undefended: FederatedModule | None = None) -> None:
        require_instance("DefenseTable.undefended", undefended, FederatedModule)
        self.undefended = undefended
        self._rows: dict[str, Figures] = {}
        self._method: FederatedModule

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Copy the run's model, before a checkpoint is loaded into it."""
        if stage != "fit":
            return
        self._method = self.undefended or FedAvg(
            copy.deepcopy(pl_module.backbone),
            optimizer=pl_module.make_optimizer,
            warmup_steps=pl_module.warmup_steps,
        )

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        """Say what is missing before anything trains."""
        self._rows = {}
        self._evaluation(trainer)
        attacks = [one for one in trainer.attachments if isinstance(one, Attack)]
        if not attacks:
            raise ValueError(
                "DefenseTable expects an attack in `trainer.attachments`, but there is none"
            )
        for setting, one in (("model", module), ("DefenseTable.undefended", self._method)):
            if not one.has_global_model:
                raise ValueError(
                    f"DefenseTable expects `{setting}` to have a global model, but {type(one).__name__} has none"
                )
        try:
            trainer.datamodule.check_labels(self._method.backbones)
            require_teacher(attacks, self._method)
        except ValueError as error:
            raise ValueError(
                f"`DefenseTable.undefended` is expected to be a method for the run's data and attacks, but: {error}"
            ) from None
        if trainer.fabric.world_size > 1:
            raise ValueError(
                f"DefenseTable expects one process, but there are {trainer.fabric.world_size}: compare separate runs"
            )

    def on_fit_end(self, trainer: Any, module: Any) -> None:
        """Run both other federations, and put the figures together."""
        last = trainer.federation.history[-1]
        if "backdoor/asr" not in last:
            rank_zero_warn(
                f"DefenseTable has nothing to compare: the run ended after round {trainer.current_round}, which "
                "BackdoorEvaluation does not evaluate (`every_n_rounds`)"
            )
            return
        attacked_with = [one for one in trainer.attachments if not one.defends]
        others = [one for one in attacked_with if not isinstance(one, Attack)]
        clean = self._federation(trainer, "never_poisoned", others)
        attacked = self._federation(trainer, "undefended", attacked_with)
        evaluation = self._evaluation(trainer)
        defenses = [one for one in trainer.attachments if one.defends]
        name, run = _with_rule(self._method), _with_rule(module)
        if trainer.privacy is not None:
            run += f", {type(trainer.privacy).__name__}"
        own = [run, *(type(one).__name__ for one in defenses)]
        self._rows = {
            f"{name}, never poisoned": _figures(clean, clean),
            f"without the defence: {name}": _figures(attacked, clean),
            f"with it: {' and '.join(own)}": _figures(last, clean),
        }
        for defense in defense_names(evaluation.defenses):
            row = f"with it: {' and '.join([*own, defense])}"
            self._rows[row] = _figures(last, clean, f"{defense}/")
        if (folder := self.run_folder(trainer)) is not None:
            text = json.dumps(self.summarised(trainer)["backdoor"], indent=2)
            write_file(folder / "backdoor" / "table.json", text + "\n")

    def summarised(self, trainer: FederationView) -> dict[str, Any]:
        """The table, and whether there is an attack."""
        if not self._rows:
            return {}
        return {"backdoor": {"attack_works": self._works, "rows": dict(self._rows)}}

    def closing_table(self, trainer: FederationView) -> Table | None:
        """The table, with what it takes for an attack beneath it."""
        return defense_table(self._rows, self._works) if self._rows else None

    @property
    def _works(self) -> bool:
        clean, attacked, *_ = self._rows.values()
        return attack_works(attacked, clean)

    def _evaluation(self, trainer: FederationView) -> BackdoorEvaluation | PhraseBackdoorEvaluation:
        for callback in trainer.callbacks:
            if isinstance(callback, PhraseBackdoorEvaluation):
                return callback
            if isinstance(callback, BackdoorEvaluation) and callback.name is None:
                return callback
        raise ValueError(
            "DefenseTable expects a BackdoorEvaluation without a `name`, or a PhraseBackdoorEvaluation, in "
            "`trainer.callbacks`, but there is none"
        )

    def _federation(
        self, trainer: FederationView, name: str, attached: Sequence[Attachment]
    ) -> Figures:
        """The last round's row of the history of another federation."""
        own = self._evaluation(trainer).at_the_end(trainer)
        folder = None if trainer.log_dir is None else trainer.log_dir / "backdoor" / name
        other = trainer.beside(
            max_rounds=trainer.current_round,
            attachments=list(attached),
            callbacks=[own, PartitionTable(quiet=True), RunSummary(quiet=True)],
            default_root_dir=None if folder is None else str(folder),
            enable_progress_bar=False,
            # what is not looked at
            check_val_every_n_rounds=max(1, trainer.current_round),
            num_sanity_val_steps=0,
            test_at_end=False,
        )
        begun = folder is not None and folder.is_dir()  # also where its first round was broken off
        model = copy.deepcopy(self._method)
        other.fit(model, trainer.datamodule, "last" if begun else None)
        if other.interrupted:
            # the command goes on there when it is given again
            raise KeyboardInterrupt
        return other.federation.history[-1]


def _with_rule(method: FederatedModule) -> str:
    """What a method is called in the table: its class, and its rule's where that is no plain average."""
    name, rule = type(method).__name__, getattr(method, "aggregation", None)
    plain = not isinstance(rule, Aggregation) or type(rule) is WeightedAverage
    return name if plain else f"{name}, {type(rule).__name__}"


def attack_works(attacked: Figures, clean: Figures) -> bool:
    """Whether there is an attack to defend against: it succeeds, and is not seen in the accuracy.

    Args:
        attacked: Of the undefended model that was attacked.
        clean: Of the same method, never poisoned.

    Example:
        >>> clean = {"clean_accuracy": 93.0, "asr": 0.0}
        >>> attack_works({"clean_accuracy": 91.5, "asr": 98.0}, clean)
        True
        >>> attack_works({"clean_accuracy": 88.0, "asr": 98.0}, clean)
        False
        >>> collapsed = {"clean_accuracy": 50.0, "asr": 100.0}
        >>> attack_works(collapsed, collapsed)
        False
    """
    drop = clean["clean_accuracy"] - attacked["clean_accuracy"]
    rise = attacked["asr"] - clean["asr"]
    return attacked["asr"] >= LEAST_ASR and rise >= LEAST_RISE and drop <= MOST_DROP


def defense_table(rows: Mapping[str, Figures], works: bool) -> Table:
    """Set models beside each other.

    Args:
        rows: The figures of each.
        works: Whether there is an attack.

    Example:
        >>> figures = {"clean_accuracy": 93.0, "false_positives": 1.0, "asr": 2.0, "floor": 2.0}
        >>> table = defense_table({"FedAvg, never poisoned": figures}, works=True)
        >>> [list(column.cells)[0] for column in table.columns]
        ['FedAvg, never poisoned', '93.0', '1.0', '2.0', '2.0']
    """
    from rich.table import Table

    said = (
        None
        if works
        else f"no attack: it works where it succeeds in {LEAST_ASR:g} % without a defence, {LEAST_RISE:g} points more "
        f"than the floor, and costs at most {MOST_DROP:g} points of clean accuracy"
    )
    table = Table(title="Backdoor, in percent", title_justify="left", caption=said)
    table.add_column("", overflow="fold")
    for title in ("clean accuracy", "false positives", "ASR", "floor of this trigger"):
        table.add_column(title, justify="right")
    for name, figures in rows.items():
        table.add_row(name, *(f"{figures[figure]:.1f}" for figure in FIGURES))
    return table


def _figures(row: Mapping[str, float], clean: Mapping[str, float], of: str = "") -> Figures:
    """Those of a row of the history, with what the trigger does to a clean model."""
    own = {name: row[f"backdoor/{of}{name}"] for name in FIGURES[:-1]}
    return {**own, "floor": clean["backdoor/asr"]}
