"""Figures of studies, by what is drawn in them."""

import json
from pathlib import Path

import pytest

from lit_fed.study.figure import draw
from lit_fed.study.run import Run


def runs(root: Path, arms: int, variants: int) -> list[Run]:
    made = []
    for arm in range(arms):
        for variant in range(variants):
            for seed in (0, 1):
                folder = root / f"arm{arm}" / f"variant={variant}" / f"seed_{seed}"
                folder.mkdir(parents=True)
                metrics = {"accuracy": arm + 0.1 * seed, "loss": 1.0}
                summary = {"interrupted": False, "metrics": metrics}
                (folder / "summary.json").write_text(json.dumps(summary))
                name = f"arm{arm}"
                made.append(Run(Path(name), seed, folder, value=f"v{variant}", arm=name))
    return made


@pytest.mark.parametrize(("variants", "below"), [(2, False), (30, True)])
def test_panels_of_many_bars_stand_below_one_another(
    tmp_path: Path, variants: int, below: bool
) -> None:
    figure = draw(runs(tmp_path, 3, variants), ["accuracy", "loss"], "bars")
    first, second = figure.axes
    figure.draw_without_rendering()
    places = first.get_position(), second.get_position()
    assert (places[1].y1 < places[0].y0) == below
    assert (places[1].x0 > places[0].x1) != below
    assert [len(axis.patches) for axis in figure.axes] == [3 * variants] * 2
    heights = sorted({bar.get_height() for bar in first.patches})
    assert heights == pytest.approx([0.05, 1.05, 2.05])
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["arm0", "arm1", "arm2"]


def test_an_arm_has_one_colour_in_all_panels(tmp_path: Path) -> None:
    made = []
    for arm, metrics in {"alone": {"loss": 1.0}, "joint": {"accuracy": 0.5, "loss": 0.5}}.items():
        for value in (1, 2):
            folder = tmp_path / arm / f"rate={value}" / "seed_0"
            folder.mkdir(parents=True)
            summary = {"interrupted": False, "metrics": metrics}
            (folder / "summary.json").write_text(json.dumps(summary))
            made.append(Run(Path(arm), 0, folder, value=value, arm=arm))
    figure = draw(made, ["accuracy", "loss"], "sweep")
    colours = [{line.get_label(): line.get_color() for line in axis.lines} for axis in figure.axes]
    assert colours[0] == colours[1]
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["alone", "joint"]
