"""The page of claims on runs whose results are written by hand."""

import json
from pathlib import Path

import pytest

from lit_fed.study.claims import INDICES, claims, half_rise, verdict, write

# what the paper's Table 2 says, for each seed shifted by a little
TABLE_2 = {
    "lora_fedavg": (81.4, 78.6, 75.3, 71.2, 14.8),
    "ddg": (85.7, 82.3, 81.1, 75.5, 12.2),
    "msi": (84.6, 80.9, 83.2, 76.4, 11.8),
    "ddg_msi": (89.7, 86.4, 87.9, 82.5, 7.60),
}
ROUNDS = {
    "SRS": (50, 80, 88, 89.7),
    "TTA": (50, 78, 85, 86.4),
    "RSI": (60, 62, 70, 87.9),
    "GuS": (80, 81, 82, 82.5),
    "PE": (12, 10, 9, 7.6),
}
RANGE = {
    0.0: (80, 80, 80, 80.0, 9),
    0.1: (90, 82, 85, 80.1, 8),
    0.2: (88, 84, 88, 80.2, 7),
    0.4: (82, 85, 90, 83.0, 6),
}


def write_run(folder: Path, values: tuple[float, ...], shift: float) -> None:
    folder.mkdir(parents=True)
    metrics = {f"index/{i}": v + shift for i, v in zip(INDICES, values, strict=True)}
    summary = {
        "interrupted": False,
        "metrics": metrics,
        "bytes": {"up": 10, "down": 20},
        "seconds": {"rounds": 1.5},
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    lines = [",".join(["round", *(f"index/{i}" for i in INDICES)])]
    for n in range(4):
        row = [str(ROUNDS[i][n] + shift) if (n or i != "RSI") else "" for i in INDICES]
        lines.append(",".join([str(n + 1), *row]))
    (folder / "metrics.csv").write_text("\n".join(lines))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for seed, shift in enumerate((0.0, 0.1, 0.3)):
        for name, values in TABLE_2.items():
            write_run(tmp_path / "study" / name / f"seed_{seed}", values, shift)
        for value, values in RANGE.items():
            folder = tmp_path / "study" / "ddg_msi" / f"scale={value}" / f"seed_{seed}"
            write_run(folder, values, shift)
    return tmp_path / "study"


def test_the_papers_own_figures_fulfil_its_claims(root: Path) -> None:
    found = list(claims(root).values())
    assert [len(group) for group in found] == [20, 5, 2, 9, 6]
    assert [verdict(group).partition(" (")[0] for group in found] == ["reproduced"] * 5
    # GuS: 11.3 for both, 4.3 and 5.2 alone
    assert found[2][0].mean == pytest.approx(11.3 - 4.3 - 5.2)
    # PE: 7.2 for both, 2.6 and 3.0 alone
    assert found[2][1].mean == pytest.approx(7.2 - 2.6 - 3.0)
    assert found[2][0].spread == pytest.approx(0, abs=1e-9)


def test_a_difference_within_the_spread_does_not_count(root: Path) -> None:
    path = root / "ddg" / "seed_1" / "summary.json"
    summary = json.loads(path.read_text())
    summary["metrics"]["index/SRS"] -= 6
    path.write_text(json.dumps(summary))
    second = list(claims(root).values())[1]
    # 1.1, -4.9, 1.1
    assert not second[0].holds
    assert verdict(second) == "not reproduced (4 of 5 comparisons hold)"
    assert second[0].row().endswith("| 2 of 3 | no |")


def test_what_was_not_run_was_not_tested(root: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert {verdict(group) for group in claims(tmp_path / "empty").values()} == {"not tested"}
    for run in (root / "msi").iterdir():
        (run / "summary.json").unlink()
    first, second, third, *_ = claims(root).values()
    assert sum(bool(one.differences) for one in first) == 10
    assert verdict(first) == "not tested as a whole (10 of 10 comparisons hold, 10 not tested)"
    assert first[1].row() == "| SRS: ddg_msi better than msi | | | not tested |"
    assert [verdict(second), verdict(third)] == ["not tested"] * 2


def test_the_page(root: Path, tmp_path: Path) -> None:
    write({"By hand": root}, tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    assert "## By hand" in text
    assert "| ddg_msi | 3 | 89.83 ± 0.15 |" in text
    assert text.count("reproduced (") == 5
    with pytest.raises(FileNotFoundError, match=r"`roots` are expected to be folders, but there"):
        write({"Nothing": tmp_path / "nothing"}, tmp_path / "page.md")


def test_half_of_a_fall() -> None:
    assert half_rise([(3, 10.0), (4, 6.0), (5, 4.0), (6, 0.0)]) == 5
    assert half_rise([(1, 2.0), (2, 2.0)]) == 1
