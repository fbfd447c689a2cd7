"""A study's results as Markdown and CSV."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Sequence

from lit_fed.study.run import Run


def mean_and_spread(values: Sequence[float], digits: int = 4) -> str:
    """Mean ± sample standard deviation; a dash where there is no value.

    Example:
        >>> mean_and_spread([1.0, 3.0], 2)
        '2.00 ± 1.41'
    """
    if not values:
        return "–"
    mean = f"{statistics.fmean(values):,.{digits}f}"
    # the sample's standard deviation: seeds are a sample of the runs there could be
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{mean} ± {spread:,.{digits}f}" if spread else mean


def groups(runs: Sequence[Run]) -> dict[tuple[str, float | str | None], list[Run]]:
    """The runs by configuration and swept value, in their order."""
    grouped: dict[tuple[str, float | str | None], list[Run]] = {}
    for run in runs:
        grouped.setdefault((run.name, run.value), []).append(run)
    return grouped


def results_table(runs: Sequence[Run], metrics: Sequence[str], digits: int = 4) -> str:
    """The study's Markdown table: a row for each configuration and value, mean ± spread over its seeds.

    Args:
        runs: The runs; those without a summary are left out, and the count of seeds says so.
        metrics: Names as :meth:`Run.figure` takes them; a run without one is left out of that column, and one whose
            value is not finite is counted beside the mean of the others.
        digits: Decimals of the metrics.
    """
    swept = any(run.value is not None for run in runs)
    header = ["configuration", *["value"] * swept, "seeds", *metrics]
    header += ["bytes up", "bytes down", "seconds"]
    lines = ["| " + " | ".join(header) + " |", "| --- |" + " ---: |" * (len(header) - 1)]
    for (name, value), group in groups(runs).items():
        done = [s for run in group if (s := run.summary) is not None]
        columns = [[run.figure(metric) for run in group] for metric in metrics]
        cells = [_cell([v for v in c if v is not None], digits) for c in columns]
        cells += [mean_and_spread([s["bytes"][way] for s in done], 0) for way in ("up", "down")]
        cells += [mean_and_spread([s["seconds"]["rounds"] for s in done], 1)]
        row = [name, *["–" if value is None else str(value)] * swept, str(len(done)), *cells]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def _cell(values: Sequence[float], digits: int) -> str:
    """Mean and spread of the finite values, and how many they are where others are not."""
    finite = [value for value in values if math.isfinite(value)]
    told = mean_and_spread(finite, digits)
    return told if len(finite) == len(values) else f"{told} ({len(finite)} of {len(values)})"


def results_csv(runs: Sequence[Run]) -> str:
    """All metrics of all runs that have ended, one row each."""
    done = [(run, s) for run in runs if (s := run.summary) is not None]
    names = list(dict.fromkeys(name for _, s in done for name in s["metrics"]))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    header = ["configuration", "value", "seed", *names]
    writer.writerow([*header, "bytes/up", "bytes/down", "seconds"])
    for run, s in done:
        values = [s["metrics"].get(name) for name in names]
        traffic = [s["bytes"]["up"], s["bytes"]["down"], s["seconds"]["rounds"]]
        writer.writerow([run.name, run.value, run.seed, *values, *traffic])
    return text.getvalue()
