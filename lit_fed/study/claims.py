"""What studies say about the claims of Zou (2024), as a page.

``python -m lit_fed.study.claims --roots '{"Embedded pairs": runs/studies/embedded}' --output page.md``

Zou, "Federated Distillation with Structural Perturbation for Robust Fine-Tuning of LLMs", 2024, Tables 1
and 2, Figures 4 and 5. The paper's numbers come from a model of 6 B parameters; what smaller ones can test
are the directions. Each claim is taken apart into comparisons of two means over the same seeds, and counts as
reproduced only if every comparison goes its way by more than the spread of the paired differences.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lit_fed.atomic_files import write_file
from lit_fed.study.run import Run
from lit_fed.study.table import results_table

INDICES = ("SRS", "TTA", "RSI", "GuS", "PE")
BASELINE, DDG, MSI, BOTH = "lora_fedavg", "ddg", "msi", "ddg_msi"
TABLE_1 = ("fed_pet", BASELINE, "fed_prompt", "fed_adapters", BOTH)

Scores = Mapping[str, Mapping[int, Mapping[str, float]]]
"""Index by configuration and seed; larger is better, so PE with its sign turned."""


@dataclass(frozen=True)
class Comparison:
    """Whether something is larger than something else.

    Attributes:
        text: What is compared.
        differences: One for each seed; above 0 as claimed. Empty: not tested.
    """

    text: str
    differences: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean difference; NaN of none."""
        return statistics.fmean(self.differences) if self.differences else math.nan

    @property
    def spread(self) -> float:
        """Sample standard deviation of the differences; 0 of a single one."""
        return statistics.stdev(self.differences) if len(self.differences) > 1 else 0.0

    @property
    def holds(self) -> bool:
        """Whether the mean difference is above its spread.

        Example:
            >>> Comparison("a > b", (1.0, 1.5, 2.0)).holds, Comparison("a > b", (-1.0, 3.0)).holds
            (True, False)
        """
        return self.mean > self.spread

    def row(self) -> str:
        """The comparison as a row of a Markdown table."""
        if not self.differences:
            return f"| {self.text} | | | not tested |"
        verdict = "yes" if self.holds else "within the spread" if self.mean > 0 else "no"
        seeds = f"{sum(d > 0 for d in self.differences)} of {len(self.differences)}"
        return f"| {self.text} | {self.mean:+.3f} ± {self.spread:.3f} | {seeds} | {verdict} |"


def scores(root: Path, metric_prefix: str = "index/") -> Scores:
    """The indices of a study's runs, without those of sweeps.

    Args:
        root: The study's folder.
        metric_prefix: What the indices' names begin with in the runs' summaries.
    """
    found: dict[str, dict[int, dict[str, float]]] = {}
    for folder in sorted(root.glob("*/seed_*")):
        seed = int(folder.name.removeprefix("seed_"))
        summary = Run(Path(folder.parent.name), seed, folder).summary
        if summary is not None:
            values = summary["metrics"]
            found.setdefault(folder.parent.name, {})[seed] = {
                index: (-1 if index == "PE" else 1) * values[metric_prefix + index]
                for index in INDICES
                if values.get(metric_prefix + index) is not None
            }
    return found


def compare(found: Scores, index: str, larger: str, smaller: str) -> Comparison:
    """One index of two configurations over the seeds that both have.

    Example:
        >>> found = {"a": {0: {"SRS": 3.0}, 1: {"SRS": 4.0}}, "b": {0: {"SRS": 1.0}}}
        >>> compare(found, "SRS", "a", "b").differences
        (2.0,)
    """
    ours, theirs = found.get(larger, {}), found.get(smaller, {})
    differences = tuple(
        ours[seed][index] - theirs[seed][index]
        for seed in sorted(ours.keys() & theirs.keys())
        if index in ours[seed] and index in theirs[seed]
    )
    return Comparison(f"{index}: {larger} better than {smaller}", differences)


def synergy(found: Scores, index: str) -> Comparison:
    """Whether the gain of both exceeds the sum of the gains of each alone."""
    rows = [found.get(name, {}) for name in (BASELINE, DDG, MSI, BOTH)]
    seeds = [s for s in sorted(rows[0]) if all(index in row.get(s, {}) for row in rows)]
    values = [[row[s][index] for row in rows] for s in seeds]
    gains = tuple((both - base) - (ddg - base) - (msi - base) for base, ddg, msi, both in values)
    return Comparison(f"{index}: gain of both above the sum of the gains", gains)


def half_rise(curve: Sequence[tuple[int, float]]) -> int:
    """The round at which a curve has first made half of its way from its first to its last value.

    Args:
        curve: Rounds, counted from 1, and values.

    Example:
        >>> half_rise([(1, 0.0), (2, 6.0), (3, 9.0), (4, 10.0)])
        2
    """
    (_, first), (_, last) = curve[0], curve[-1]
    way = last - first
    return next(r for r, v in curve if way == 0 or (v - first) / way >= 0.5)


def curves(root: Path, name: str) -> dict[int, dict[str, list[tuple[int, float]]]]:
    """Each index against the rounds, by seed."""
    found = {}
    for folder in sorted((root / name).glob("seed_*")):
        run = Run(Path(name), int(folder.name.removeprefix("seed_")), folder)
        if run.summary is not None:
            history = run.history
            found[run.seed] = {
                index: [
                    (int(row["round"]), row[f"index/{index}"])
                    for row in history
                    if f"index/{index}" in row
                ]
                for index in INDICES
            }
    return found


def against_rounds(found: Mapping[int, Mapping[str, list[tuple[int, float]]]]) -> list[Comparison]:
    """Claim 4, in comparisons."""
    seeds = [c for c in found.values() if all(c[index] for index in INDICES)]
    if not seeds:
        return []

    def rise(curve: Mapping[str, list[tuple[int, float]]], index: str) -> float:
        return curve[index][-1][1] - curve[index][0][1]

    comparisons = [
        Comparison(f"{index} rises with the rounds", tuple(rise(c, index) for c in seeds))
        for index in ("SRS", "TTA", "RSI")
    ]
    comparisons += [
        Comparison(
            f"rounds until half of the rise: {index} before RSI",
            tuple(float(half_rise(c["RSI"]) - half_rise(c[index])) for c in seeds),
        )
        for index in ("SRS", "TTA")
    ]
    comparisons += [
        Comparison(
            f"GuS is flatter than {index}",
            tuple(abs(rise(c, index)) - abs(rise(c, "GuS")) for c in seeds),
        )
        for index in ("SRS", "TTA", "RSI")
    ]
    return [*comparisons, Comparison("PE declines", tuple(-rise(c, "PE") for c in seeds))]


def sweep_points(root: Path, name: str, setting: str) -> dict[int, dict[float, dict[str, float]]]:
    """The indices by seed and value of the swept setting."""
    found: dict[int, dict[float, dict[str, float]]] = {}
    for folder in (root / name).glob(f"{setting}=*/seed_*"):
        value, seed = float(folder.parent.name.partition("=")[2]), int(folder.name[5:])
        summary = Run(Path(name), seed, folder).summary
        if summary is not None:
            metrics = summary["metrics"]
            found.setdefault(seed, {})[value] = {
                i: metrics[f"index/{i}"] for i in INDICES if metrics.get(f"index/{i}") is not None
            }
    return found


def against_range(found: Mapping[int, Mapping[float, Mapping[str, float]]]) -> list[Comparison]:
    """Claim 5, in comparisons. The best value within the range is chosen on the mean of the seeds."""
    if not found:
        return []
    values = sorted(set.intersection(*(set(points) for points in found.values())))
    seeds = list(found.values())
    indices = set.intersection(*(set(p[v]) for p in seeds for v in values)) if values else set()
    if len(values) < 3 or not indices >= set(INDICES):
        return []
    low, high = values[0], values[-1]
    best = max(values[1:-1], key=lambda v: statistics.fmean(p[v]["SRS"] for p in seeds))

    def over(index: str, a: float, b: float) -> tuple[float, ...]:
        return tuple(points[a][index] - points[b][index] for points in seeds)

    middle = values[len(values) // 2]
    moves = [
        tuple(abs(p[b]["GuS"] - p[a]["GuS"]) for p in seeds) for a, b in itertools.pairwise(values)
    ]
    upper = [statistics.fmean(m) for m in zip(*moves[values.index(middle) :], strict=True)]
    lower = [statistics.fmean(m) for m in zip(*moves[: values.index(middle)], strict=True)]
    return [
        Comparison(f"SRS at {best} above SRS at {low}", over("SRS", best, low)),
        Comparison(f"SRS at {best} above SRS at {high}", over("SRS", best, high)),
        Comparison(f"TTA at {high} above TTA at {low}", over("TTA", high, low)),
        Comparison(f"RSI at {high} above RSI at {low}", over("RSI", high, low)),
        Comparison(
            f"GuS moves more from value to value above {middle} than below",
            tuple(u - d for u, d in zip(upper, lower, strict=True)),
        ),
        Comparison(f"PE at {high} below PE at {low}", over("PE", low, high)),
    ]


def claims(root: Path) -> dict[str, list[Comparison]]:
    """The paper's claims 1 to 5, each in its comparisons.

    Args:
        root: Folder of the studies table2, figure4 and figure5.
    """
    found = scores(root)
    chain = [(BOTH, DDG), (BOTH, MSI), (DDG, BASELINE), (MSI, BASELINE)]
    first = [compare(found, i, a, b) for i in INDICES for a, b in chain]
    second = [compare(found, i, DDG, MSI) for i in ("SRS", "TTA")]
    second += [compare(found, i, MSI, DDG) for i in ("RSI", "GuS", "PE")]
    third = [synergy(found, i) for i in ("GuS", "PE")]
    fourth = against_rounds(curves(root, BOTH))
    fifth = against_range(sweep_points(root, BOTH, "scale"))
    return {
        "1. Both together are better than each alone, and each than the baseline, on all five": first,
        "2. DDG is better than MSI on SRS and TTA, MSI than DDG on RSI, GuS and PE": second,
        "3. Together they gain more than the sum of what each gains, on GuS and PE": third,
        "4. With the rounds SRS and TTA rise fast, RSI late, GuS is flattest, PE declines": fourth,
        "5. With the perturbation's range SRS is an inverted U, TTA and RSI rise, GuS wavers at the "
        "high end, PE declines": fifth,
    }


def verdict(comparisons: Sequence[Comparison]) -> str:
    """``reproduced``, ``not reproduced`` or ``not tested``, with the count of comparisons that hold.

    A claim of which all hold that were tested, but not all were, is not reproduced yet: ``not tested as a
    whole``.

    Example:
        >>> verdict([Comparison("a > b", (1.0, 1.5)), Comparison("b > c", (-1.0, 3.0))])
        'not reproduced (1 of 2 comparisons hold)'
        >>> verdict([Comparison("a > b", (1.0, 1.5)), Comparison("b > c", ())])
        'not tested as a whole (1 of 1 comparisons hold, 1 not tested)'
    """
    tested = [one for one in comparisons if one.differences]
    if not tested:
        return "not tested"
    holding = sum(one.holds for one in tested)
    missing = len(comparisons) - len(tested)
    whole = "not tested as a whole" if missing else "reproduced"
    word = whole if holding == len(tested) else "not reproduced"
    count = f"{holding} of {len(tested)} comparisons hold"
    return f"{word} ({count}, {missing} not tested)" if missing else f"{word} ({count})"


def page(root: Path) -> str:
    """The claims of one study as Markdown: the table of all configurations, then claim by claim."""
    names = [n for n in dict.fromkeys([*TABLE_1, DDG, MSI]) if (root / n).is_dir()]
    runs = [
        Run(Path(name), int(folder.name.removeprefix("seed_")), folder)
        for name in names
        for folder in sorted((root / name).glob("seed_*"))
    ]
    lines = [results_table(runs, [f"index/{i}" for i in INDICES], 2), ""]
    for text, comparisons in claims(root).items():
        lines += [f"**{text}:** {verdict(comparisons)}", ""]
        if any(one.differences for one in comparisons):
            lines += ["| comparison | difference | seeds | holds |", "| --- | ---: | ---: | --- |"]
            lines += [*(one.row() for one in comparisons), ""]
    return "\n".join(lines)


def write(roots: dict[str, Path], output: Path) -> None:
    """Write the page of several studies.

    Args:
        roots: The studies' folders by their titles.
        output: The Markdown file.

    Raises:
        FileNotFoundError: If a folder is missing.
    """
    for root in roots.values():
        if not root.is_dir():
            raise FileNotFoundError(f"`roots` are expected to be folders, but there is no {root}")
    parts = [__doc__.split("\n\n", 1)[1].strip()]
    parts += [f"## {title}\n\n{page(root)}" for title, root in roots.items()]
    write_file(
        output, "# Claims of Zou (2024) about DDG and MSI\n\n" + "\n\n".join(parts).rstrip() + "\n"
    )


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(write, as_positional=False)
