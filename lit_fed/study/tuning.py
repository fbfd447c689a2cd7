"""Tuning: each configuration's settings are chosen among as many candidates, by validation, on seeds of their own."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lit_fed.limits import require_distinct
from lit_fed.study.arm import Arm
from lit_fed.study.run import Run

Candidate = list[str]


@dataclass(frozen=True)
class Tuning:
    """What is tried for every configuration of a study before its seeds are run.

    Every configuration has the same number of candidates and seeds, so that no arm is tuned more than another.

    Args:
        candidates: Settings as on the command line, such as ``["--model.optimizer.init_args.lr=0.01"]``, one list a
            candidate.
        own: Other candidates of some configurations, by their names, where they have settings of their own, such as
            a server's learning rate.
        seeds: Seeds of the trials, none of the study's.
        metric: A validation metric, of which the last round counts.
        mode: Whether its largest or its smallest mean over the seeds is best.
        otherwise: The metric of configurations that have none of it: where clients have models of their own,
            ``clients/val/accuracy/mean``.
        variant: The variant in which each configuration is tuned, for all of them. None: in each. So a
            defence is tuned under one attack, and has the same settings where nobody attacks.
        set: Settings of the trials alone, over all others: since validation chooses, they can do without a test
            (``["--trainer.limit_test_batches=0", "--trainer.callbacks=null"]``).

    Raises:
        ValueError: If there are no candidates or seeds, a configuration has more candidates than another, or a
            metric is a test's.
    """

    candidates: list[Candidate]
    own: dict[str, list[Candidate]] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=lambda: [1000])
    metric: str = "val/accuracy"
    mode: Literal["max", "min"] = "max"
    otherwise: str | None = None
    variant: str | None = None
    set: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        require_distinct("tune.seeds", self.seeds)
        if not self.candidates or not self.seeds:
            raise ValueError(
                f"`tune` is expected to have candidates and seeds, but has {len(self.candidates)} and {len(self.seeds)}"
            )
        for name, candidates in self.own.items():
            if len(candidates) != len(self.candidates):
                raise ValueError(
                    f"`tune.own` is expected to have as many candidates for {name} as there are for all, "
                    f"{len(self.candidates)}, but has {len(candidates)}: no arm is to be tuned more than another"
                )
        for name in (self.metric, self.otherwise or ""):
            if name.removeprefix("clients/").startswith("test"):
                raise ValueError(f"`tune.metric` is expected to be of validation, but is {name!r}")

    def tuned(self, arms: Sequence[Arm]) -> list[Arm]:
        """Those of a study's arms that are tuned.

        Args:
            arms: All of them.

        Raises:
            ValueError: If no arm is of :attr:`variant`.
        """
        found = [arm for arm in arms if self.variant in (None, arm.variant)]
        if not found:
            variants = sorted({arm.variant for arm in arms if arm.variant is not None})
            there = ", ".join(variants) or "of which there are none"
            raise ValueError(
                f"`tune.variant` is expected to be one of the study's variants, {there}, but is {self.variant!r}"
            )
        return found

    def trials(self, arm: Arm, root: Path, settings: Sequence[str]) -> list[list[Run]]:
        """The runs that are tried for an arm, one list a candidate.

        Args:
            arm: The arm.
            root: Folder of the study.
            settings: Of all runs.
        """
        folder = root / arm.name / "tuning"
        return [
            [
                Run(
                    arm.config,
                    seed,
                    folder / str(number) / f"seed_{seed}",
                    arm.overlays,
                    (*settings, *candidate, *self.set),
                )
                for seed in self.seeds
            ]
            for number, candidate in enumerate(self.of(arm.row))
        ]

    def of(self, name: str) -> list[Candidate]:
        """The candidates of a configuration."""
        return self.own.get(name, self.candidates)

    def best(self, arm: Arm, trials: Sequence[Sequence[Run]]) -> tuple[Candidate, float]:
        """The candidate with the best mean of the metric in the last round, the first of equals.

        Args:
            arm: The arm.
            trials: Its runs. A candidate of which one has not ended, or ended with no finite number, is left out.

        Raises:
            ValueError: If none has the metric.
        """
        found: dict[int, float] = {}
        for number, runs in enumerate(trials):
            lasts = [run.history[-1] for run in runs if run.summary is not None]
            named = [last.get(self.metric, last.get(self.otherwise or "")) for last in lasts]
            values = [value for value in named if value is not None]
            # what is no number is no candidate's best
            if len(values) == len(runs) and all(map(math.isfinite, values)):
                found[number] = statistics.fmean(values)
        if not found:
            raise ValueError(
                f"`tune.metric` {self.metric} is expected to be a finite number in the last round of a trial of "
                f"{arm.name}, but no candidate has one"
            )
        number = (max if self.mode == "max" else min)(found, key=lambda n: found[n])
        return self.of(arm.row)[number], found[number]


def tuned_table(
    chosen: Mapping[str, tuple[Candidate, float]],
    metric: str,
    failed: Mapping[str, str] | None = None,
) -> str:
    """What was chosen, as Markdown.

    Args:
        chosen: The candidate and its metric, by configuration.
        metric: The metric's name.
        failed: Configurations of which candidates failed, and how many of how many.

    Example:
        >>> print(tuned_table({"fedavg": (["--model.lr=0.1"], 0.91)}, "val/accuracy"))
        | configuration | chosen | val/accuracy |
        | --- | --- | ---: |
        | fedavg | `--model.lr=0.1` | 0.9100 |
    """
    lines = [f"| configuration | chosen | {metric} |", "| --- | --- | ---: |"]
    for name, (candidate, value) in chosen.items():
        told = f"`{' '.join(candidate)}`" if candidate else "as it is"
        if failed and name in failed:
            told += f" ({failed[name]} candidates failed)"
        lines.append(f"| {name} | {told} | {value:.4f} |")
    return "\n".join(lines)
