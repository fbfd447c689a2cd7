"""A paper's claims held against runs, as a page.

``lit-fed-study claims --config studies/zou2024/claims --roots '{"Tatoeba": runs/studies/tatoeba}'``
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from lit_fed.atomic_files import write_file
from lit_fed.study.claims.claim import Claim, Direction
from lit_fed.study.claims.evidence import (
    arm_differences,
    arms_without_runs,
    curve_differences,
    runs_of,
    unmet,
)
from lit_fed.study.claims.judgement import Judgement, claim_verdict, judge
from lit_fed.study.claims.null_rate import ALIKE, arms_null_rate, curves_null_rate
from lit_fed.study.records import restore_records
from lit_fed.study.run import Run
from lit_fed.study.table import results_table

_HOW = """\
A comparison is one difference for each seed, with its sign so that above 0 it supports the claim. It *holds* if the
mean over the seeds is above 0, and *fails* if it is below, by a two-sided paired t-test at 0.05 after Holm's
correction over all comparisons of this page; otherwise it is *undecided*. Differences of arms that are all the same
have no spread for that test: of them the signs alone count (2 · 2⁻ⁿ of n seeds). The interval is that of the mean at
95 %, without the correction. "Without effect" is the share of simulated studies of the same seeds and points, in
which nothing has an effect, that the test alone, uncorrected, would call *holds*; it should be 0.025, and a
comparison above 0.05 decides nothing. Curves are told by their rank correlation with the rounds or values. A claim
holds if all of its comparisons do, and fails if one fails. What one seed alone has is *not tested*, since it has no
spread, and does not count for the correction."""

_HEAD = (
    "| comparison | mean | 95 % interval | seeds for it | p | p, Holm | without effect | verdict |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |"
)
_TOLD_WHOLE = 4
"""As many values of one word as this, such as versions of a package, a page tells whole."""


@dataclass(frozen=True)
class _Section:
    """What one study says: each claim's judgements, in the claims' order, or why there are none."""

    title: str
    root: Path
    judgements: list[list[Judgement]]
    missing: list[str | None]

    def verdict(self, number: int) -> str:
        """What is said of a claim; of one without any figures, which arms have not been run."""
        own = self.judgements[number]
        verdict = self.missing[number] or claim_verdict(own)
        absent = dict.fromkeys(arm for one in own for arm in one.without_runs)
        if verdict != "not tested" or not absent or any(one.differences for one in own):
            return verdict
        return f"not tested (no run of {', '.join(absent)})"

    def has_no_runs(self, number: int) -> bool:
        """Whether a claim is about runs that this study does not have."""
        told = any(one.differences for one in self.judgements[number])
        return not told and self.verdict(number).startswith("not tested")


def claims(
    title: str,
    source: str,
    metrics: dict[str, Direction],
    claims: list[Claim],
    tables: list[list[str]],
    roots: dict[str, Path],
    output: Path | None = None,
    otherwise: dict[str, str] | None = None,
) -> None:
    """Hold a paper's claims against the runs of studies, and print the page or write it.

    Args:
        title: The page's title.
        source: The paper.
        metrics: The metrics that are compared, and whether higher or lower is better.
        claims: The claims, each in its comparisons.
        tables: Arms of each table of results, as folders below a study's root.
        roots: The studies by their titles: folders, the ``root`` of `lit-fed-study`, or files, its ``records``.
        output: The Markdown file. None: the page is printed.
        otherwise: By a metric's name the one that stands for it in runs that have none of it, such as
            ``{clients/test/accuracy/mean: test/accuracy}``: all clients have the global model, where there is one.

    Raises:
        FileNotFoundError: If a folder is missing.
        ValueError: If a comparison names a metric that is not in ``metrics``.
    """
    page = claims_page(title, source, metrics, claims, tables, roots, otherwise)
    if output is None:
        print(page)
    else:
        write_file(output, page)


def claims_page(
    title: str,
    source: str,
    metrics: Mapping[str, Direction],
    claims: Sequence[Claim],
    tables: Sequence[Sequence[str]],
    roots: Mapping[str, Path],
    otherwise: Mapping[str, str] | None = None,
) -> str:
    """The page as Markdown; see :func:`claims` for the arguments.

    Raises:
        FileNotFoundError: If a folder is missing.
        ValueError: If a comparison names a metric that is not in ``metrics``.
    """
    for root in roots.values():
        if not root.exists():
            raise FileNotFoundError(
                f"`roots` are expected to be folders or files of records, but there is no {root}"
            )
    with TemporaryDirectory() as temporary:
        folders = dict(roots)
        for number, (name, root) in enumerate(roots.items()):
            if root.is_file():
                folders[name] = Path(temporary) / str(number)
                restore_records(root, folders[name])
        return _page(title, source, metrics, claims, tables, folders, otherwise or {})


def _page(
    title: str,
    source: str,
    metrics: Mapping[str, Direction],
    claims: Sequence[Claim],
    tables: Sequence[Sequence[str]],
    roots: Mapping[str, Path],
    otherwise: Mapping[str, str],
) -> str:
    named = {m for claim in claims for one in claim.arms for m in one.metrics}
    named |= {m for claim in claims for one in claim.provided for m in one.metrics}
    if unknown := sorted(named - metrics.keys()):
        raise ValueError(
            f"metrics of comparisons are expected to be among `metrics`, {', '.join(metrics)}, but {unknown[0]} is not"
        )
    sections = _judged(metrics, claims, roots, otherwise)
    parts = [f"# {title}", source, _HOW, _overview(claims, sections)]
    for section in sections:
        # tables have bytes and seconds as they are
        columns = [name for name in metrics if not name.startswith(("bytes/", "seconds/"))]
        parts += [f"## {section.title}", *_results(section.root, tables, columns)]
        for number, (claim, judgements) in enumerate(zip(claims, section.judgements, strict=True)):
            if len(sections) > 1 and section.has_no_runs(number):
                continue  # the overview has a dash
            parts.append(f"**{claim.text}:** {section.verdict(number)}")
            if any(one.differences for one in judgements):
                parts.append("\n".join([_HEAD, *(_row(one) for one in judgements)]))
    return "\n\n".join(parts) + "\n"


def _judged(
    metrics: Mapping[str, Direction],
    claims: Sequence[Claim],
    roots: Mapping[str, Path],
    otherwise: Mapping[str, str],
) -> list[_Section]:
    """All comparisons of all studies, judged together."""
    found: list[tuple[str, tuple[float, ...], float]] = []
    alike: list[float | None] = []
    places: dict[object, int] = {}
    without_runs: dict[int, tuple[str, ...]] = {}
    wanted: list[list[list[int]]] = []
    missing: list[list[str | None]] = []
    for root in roots.values():
        wanted.append([])
        missing.append([])
        for claim in claims:
            own: list[int] = []
            lacks = (why for one in claim.provided if (why := unmet(root, one)) is not None)
            missing[-1].append(next(lacks, None))
            if missing[-1][-1] is not None:
                wanted[-1].append(own)
                continue
            for arms in claim.arms:
                for metric in arms.metrics:
                    # what two claims ask is one comparison, and is corrected for once
                    same = (
                        root,
                        metric,
                        tuple(sorted(arms.weights.items())),
                        arms.margin,
                        arms.times,
                    )
                    own.append(places.setdefault(same, len(found)))
                    if own[-1] < len(found):
                        continue
                    differences = arm_differences(
                        root, arms, metric, metrics[metric], otherwise.get(metric)
                    )
                    rate = arms_null_rate(arms, len(differences)) if differences else math.nan
                    without_runs[own[-1]] = tuple(arms_without_runs(root, arms))
                    found.append((f"{metric}: {arms.text}", differences, rate))
                    alike.append(None)
            for curves in claim.curves:
                own.append(len(found))
                differences, points = curve_differences(root, curves)
                rate = (
                    curves_null_rate(curves, len(differences), points) if differences else math.nan
                )
                found.append((curves.text, differences, rate))
                alike.append(ALIKE)
            wanted[-1].append(own)
    judged = [
        replace(one, without_runs=without_runs.get(place, ()))
        for place, one in enumerate(judge(found, alike))
    ]
    return [
        _Section(title, root, [[judged[place] for place in claim] for claim in own], lacking)
        for (title, root), own, lacking in zip(roots.items(), wanted, missing, strict=True)
    ]


def _overview(claims: Sequence[Claim], sections: Sequence[_Section]) -> str:
    lines = [
        "| claim | " + " | ".join(section.title for section in sections) + " |",
        "| --- |" + " --- |" * len(sections),
    ]
    for number, claim in enumerate(claims):
        verdicts = [
            "–" if len(sections) > 1 and section.has_no_runs(number) else section.verdict(number)
            for section in sections
        ]
        lines.append(f"| {claim.text} | " + " | ".join(verdicts) + " |")
    if any("| – |" in line for line in lines):
        lines += ["", "–: the study has no runs of it."]
    return "\n".join(lines)


def _results(root: Path, tables: Sequence[Sequence[str]], metrics: Sequence[str]) -> list[str]:
    runs = [[run for arm in arms for run in runs_of(root, arm)] for arms in tables]
    parts = [results_table(own, metrics, _digits(own, metrics)) for own in runs if own]
    return [*parts, _machines([run for own in runs for run in own])]


def _digits(runs: Sequence[Run], metrics: Sequence[str]) -> int:
    """Decimals of a table: two of percentages, four of shares and losses."""
    values = [abs(value) for run in runs for m in metrics if (value := run.figure(m)) is not None]
    return 2 if any(value >= 10 for value in values) else 4


def _machines(runs: Sequence[Run]) -> str:
    """Where and with what the runs ran, each word once."""
    told: dict[str, dict[str, None]] = {}
    for run in runs:
        summary = run.summary or {}
        for part in ("machine", "versions", "digests"):
            for name, value in summary.get(part, {}).items():
                told.setdefault(name, {})[str(value)] = None
    if not told:
        return "The runs do not say on what machine they ran."
    return "; ".join(f"{name}: {_alternatives([*values])}" for name, values in told.items()) + "."


def _alternatives(values: Sequence[str]) -> str:
    """All values, or of many, such as the rows of each seed, the first and how many others there are."""
    if len(values) <= _TOLD_WHOLE:
        return " or ".join(values)
    return f"{values[0]}, or one of {len(values) - 1} others"


def _row(one: Judgement) -> str:
    """The comparison as a row of a Markdown table."""
    if not one.tested:
        if len(one.differences) == 1 and math.isfinite(one.mean):
            seed = f"{_signed(one.mean, one.mean)} | | {int(one.mean > 0)} of 1"
            return f"| {one.text} | {seed} | | | | not tested: one seed |"
        why = ": no finite value in some runs" if one.differences else ""
        if one.without_runs:
            why = f": no run of {', '.join(one.without_runs)}"
        return f"| {one.text} | | | | | | | not tested{why} |"
    low, high = one.interval
    seeds = f"{sum(d > 0 for d in one.differences)} of {len(one.differences)}"
    most = max(abs(value) for value in (one.mean, low, high))
    mean, low_, high_ = (_signed(value, most) for value in (one.mean, low, high))
    return (
        f"| {one.text} | {mean} | {low_} to {high_} | {seeds} | {one.p:.3f} | {one.adjusted:.3f} | "
        f"{one.null_rate:.3f} | {one.verdict} |"
    )


def _signed(value: float, most: float) -> str:
    """A difference with three decimals, or as many as leave two digits where the largest is small."""
    digits = 3 if abs(most) >= 0.01 or not most else 1 - math.floor(math.log10(abs(most)))
    return f"{value:+.{digits}f}"
