"""A study's results as a figure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal

from lit_fed.study.run import Run
from lit_fed.study.table import groups

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Kind = Literal["bars", "rounds", "sweep"]

_INCHES_PER_BAR: Final = 0.16
_PANEL: Final = (3.4, 3.2)
"""Width and height of a panel in inches."""
_WIDEST: Final = 6.8
"""Panels that are wider than this stand below one another, so that a page holds the figure."""


def draw(runs: Sequence[Run], metrics: Sequence[str], kind: Kind, label: str = "value") -> Figure:
    """One panel for each metric; lines and bars are means over the seeds, bands and whiskers ± one spread.

    Panels stand side by side, and those of many bars below one another.

    Args:
        runs: The runs; those that have not ended are left out.
        metrics: Names as :meth:`Run.figure` takes them (``bars``, ``sweep``) or in the rounds' rows (``rounds``).
        kind: ``bars``: one for each configuration, beside each other for each variant. ``rounds``: against the
            rounds. ``sweep``: against the values of the swept setting.
        label: Name of that setting.
    """
    from matplotlib.figure import Figure

    ended = [run for run in runs if run.summary is not None]
    bars = len(groups(ended)) if kind == "bars" else 0
    width, height = max(_PANEL[0], _INCHES_PER_BAR * bars), _PANEL[1]
    rows, columns = (len(metrics), 1) if width > _WIDEST else (1, len(metrics))
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis, metric in zip(axes, metrics, strict=True):
        {"bars": _bars, "rounds": _rounds, "sweep": _sweep}[kind](axis, ended, metric)
        axis.set_title(metric)
        axis.set_xlabel({"bars": "", "rounds": "round", "sweep": label}[kind])
    if handles := axes[0].get_legend_handles_labels()[0]:
        figure.legend(handles=handles, loc="outside upper center", ncols=6, fontsize="small")
    return figure


def _bars(axis: Axes, runs: Sequence[Run], metric: str) -> None:
    """A bar for each configuration; of variants, over each one's name a bar of every configuration."""
    arms = {arm: _values(own, metric) for arm, own in groups(runs).items()}
    series: dict[str, dict[str, list[float]]] = {}
    for (name, variant), values in arms.items():
        label, place = ("", name) if variant is None else (name, str(variant))
        series.setdefault(label, {})[place] = values
    places = list(dict.fromkeys(place for own in series.values() for place in own if own[place]))
    width = 0.8 / max(1, len(series))
    for number, (label, own) in enumerate(series.items()):
        shift = (number - (len(series) - 1) / 2) * width
        found = {places.index(place) + shift: values for place, values in own.items() if values}
        means = [statistics.fmean(values) for values in found.values()]
        spreads = [_spread(values) for values in found.values()]
        axis.bar(list(found), means, width, yerr=spreads, capsize=2, label=label)
    axis.set_xticks(range(len(places)), places)
    axis.tick_params("x", labelrotation=45)


def _rounds(axis: Axes, runs: Sequence[Run], metric: str) -> None:
    for (name, value), group in groups(runs).items():
        histories = [run.history for run in group]
        found: dict[float, list[float]] = {}
        for history in histories:
            for row in history:
                if metric in row:
                    found.setdefault(int(row["round"]), []).append(row[metric])
        _line(axis, found, _told(name, value))


def _told(name: str, value: float | str | None) -> str:
    """An arm's label: its configuration and, where there is one, its variant or swept value."""
    return name if value is None else f"{name} {value}"


def _sweep(axis: Axes, runs: Sequence[Run], metric: str) -> None:
    """Lines over the values; where not all are numbers, over their order."""
    arms = groups(runs)
    swept = list(dict.fromkeys(value for _, value in arms))
    numbers = all(isinstance(value, int | float) for value in swept)
    places = {value: float(value or 0) if numbers else n for n, value in enumerate(swept)}
    lines: dict[str, dict[float, list[float]]] = {}
    for (name, value), group in arms.items():
        points = lines.setdefault(
            name, {}
        )  # of a metric that it lacks as well: colours are alike in all panels
        if values := _values(group, metric):
            points[places[value]] = values
    for name, points in lines.items():
        _line(axis, points, name)
    if not numbers:
        axis.set_xticks(list(places.values()), [str(value) for value in swept])


def _line(axis: Axes, points: dict[float, list[float]], name: str) -> None:
    places = sorted(points)
    means = [statistics.fmean(points[x]) for x in places]
    spreads = [_spread(points[x]) for x in places]
    axis.plot(places, means, marker="o", markersize=3, label=name)
    low = [mean - spread for mean, spread in zip(means, spreads, strict=True)]
    high = [mean + spread for mean, spread in zip(means, spreads, strict=True)]
    axis.fill_between(places, low, high, alpha=0.2)


def _values(runs: Sequence[Run], metric: str) -> list[float]:
    found = (run.figure(metric) for run in runs)
    return [value for value in found if value is not None and math.isfinite(value)]


def _spread(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0
