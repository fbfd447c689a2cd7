"""The page of claims on runs whose results are written by hand."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from jsonargparse import auto_parser

from lit_fed.configurations import find_configuration
from lit_fed.study import Run
from lit_fed.study.claims import ArmComparison, Claim, Condition, claims, claims_page
from lit_fed.study.claims.claim import Direction
from lit_fed.study.records import save_records

INDICES = ("SRS", "TTA", "RSI", "GuS", "PE")
PARSER = auto_parser(claims, as_positional=False)
SETTINGS = PARSER.instantiate(
    PARSER.parse_args([f"--config={find_configuration('studies/zou2024/claims')}"])
)

# what the paper's Tables 1 and 2 say, for each seed shifted by a little
ARMS = {
    "fed_pet": (81.6, 79.2, 77.5, 73.4, 12.3),
    "fed_prompt": (85.3, 82.1, 82.8, 76.8, 9.40),
    "fed_adapters": (86.0, 83.5, 84.1, 78.2, 8.10),
    "lora_fedavg": (81.4, 78.6, 75.3, 71.2, 14.8),
    "ddg": (85.7, 82.3, 81.1, 75.5, 12.2),
    "msi": (84.6, 80.9, 83.2, 76.4, 11.8),
    "ddg_msi": (89.7, 86.4, 87.9, 82.5, 7.60),
}
ROUNDS = {
    "SRS": (50, 80, 88, 89, 89.5, 89.7),
    "TTA": (50, 78, 85, 86, 86.2, 86.4),
    "RSI": (60, 62, 60, 62, 70, 87.9),
    "GuS": (80, 82, 80, 82, 80.5, 82.0),
    "PE": (12, 10, 9, 8, 7.8, 7.6),
}
RANGE = {
    0.0: (80, 80, 80, 80.0, 9),
    0.1: (90, 82, 85, 80.1, 8),
    0.3: (88, 84, 88, 81.2, 7),
    0.9: (82, 85, 90, 80.3, 6),
}


def write_run(folder: Path, values: tuple[float, ...], shift: float) -> None:
    folder.mkdir(parents=True)
    noise = [shift * (1 + 0.1 * i) * (1 if i % 2 else -1) for i in range(5)]
    metrics = {f"index/{i}": v + n for i, v, n in zip(INDICES, values, noise, strict=True)}
    summary = {
        "interrupted": False,
        "metrics": metrics,
        "bytes": {"up": 10, "down": 20},
        "seconds": {"rounds": 1.5},
        "machine": {"processor": "abacus", "threads": 1},
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    lines = [",".join(["round", *(f"index/{i}" for i in INDICES)])]
    for n in range(6):
        lines.append(",".join([str(n + 1), *(str(ROUNDS[i][n]) for i in INDICES)]))
    (folder / "metrics.csv").write_text("\n".join(lines))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shifts = (0.0, 0.01, 0.03, 0.02, 0.05, 0.04)
    for seed, shift in enumerate(shifts):
        for place, (name, values) in enumerate(ARMS.items()):
            write_run(
                tmp_path / "study" / name / f"seed_{seed}", values, shift * (1 + 0.1 * place**2)
            )
        for place, (value, values) in enumerate(RANGE.items()):
            folder = tmp_path / "study" / "ddg_msi" / f"scale={value}" / f"seed_{seed}"
            write_run(folder, values, shift * (1 + place % 3))
    return tmp_path / "study"


def page(roots: dict[str, Path]) -> str:
    return claims_page(
        SETTINGS.title, SETTINGS.source, SETTINGS.metrics, SETTINGS.claims, SETTINGS.tables, roots
    )


def verdicts(text: str) -> list[str]:
    """What each claim's own line says."""
    return re.findall(r"^\*\*.*:\*\* (.*)$", text, re.MULTILINE)


def row(text: str, comparison: str) -> list[str]:
    (line,) = [one for one in text.splitlines() if one.startswith(f"| {comparison} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_an_arm_without_runs_is_named(root: Path) -> None:
    """Also where its name is misspelt."""
    arms = ArmComparison(["index/SRS"], {"dgd": 1, "msi": -1})
    claim = Claim("Better.", [arms])
    text = claims_page("A title", "a source", {"index/SRS": "higher"}, [claim], [], {"Here": root})
    assert verdicts(text) == ["not tested (no run of dgd)"]


def test_the_papers_own_figures_fulfil_its_claims(root: Path) -> None:
    text = page({"By hand": root})
    assert verdicts(text)[:4] == [f"holds ({n} holds)" for n in (20, 20, 5, 2)]
    # GuS: 11.3 for both, 4.3 and 5.2 alone; PE: 7.2, 2.6 and 3.0
    gus, pe = (
        row(text, f"index/{i}: gain of both above the sum of the gains") for i in ("GuS", "PE")
    )
    assert float(gus[1]) == pytest.approx(11.3 - 4.3 - 5.2, abs=0.2)
    assert float(pe[1]) == pytest.approx(7.2 - 2.6 - 3.0, abs=0.2)
    for comparison in ("SRS rises", "GuS is flatter than SRS", "PE declines"):
        assert row(text, comparison)[-1] == "holds"
    for comparison in ("index/SRS: ranges 0.1 and 0.3 above none", "RSI rises with the range"):
        assert row(text, comparison)[-1] == "holds"
    assert "processor: abacus; threads: 1." in text


def test_arms_of_variants_have_a_row_each(root: Path) -> None:
    tables = [["ddg", "ddg_msi/scale=0.1", "ddg_msi/scale=0.3"]]
    text = claims_page("t", "s", {"index/SRS": "higher"}, [], tables, {"By hand": root})
    found = re.findall(r"^\| (\w+) \| (\S+) \| 6 \| ([\d.]+) ", text, re.MULTILINE)
    assert [row[:2] for row in found] == [("ddg", "–"), ("ddg_msi", "0.1"), ("ddg_msi", "0.3")]
    assert [float(row[2]) for row in found] == pytest.approx([85.7, 90, 88], abs=0.1)


def test_what_a_study_has_no_runs_of_is_a_dash_beside_one_that_has(root: Path) -> None:
    better = Claim("a", [ArmComparison(["index/SRS"], {"ddg": 1, "msi": -1})])
    other = Claim("b", [ArmComparison(["index/SRS"], {"ddg": 1, "absent": -1})])
    settings = ("t", "s", {"index/SRS": "higher"}, [better, other], [["ddg"]])
    alone = claims_page(*settings, {"One": root})
    assert "| b | not tested (no run of absent) |" in alone
    assert "**b:** not tested (no run of absent)" in alone
    assert "–: the study" not in alone
    beside = claims_page(*settings, {"One": root, "Two": root})
    assert "| b | – | – |\n\n–: the study has no runs of it." in beside
    assert "**b:**" not in beside
    assert beside.count("**a:**") == 2


def test_the_difference_of_one_seed_is_shown_and_not_tested(root: Path) -> None:
    for seed in range(1, 6):
        shutil.rmtree(root / "ddg" / f"seed_{seed}")
    better = Claim("a", [ArmComparison(["index/SRS"], {"ddg": 1, "msi": -1})])
    text = claims_page("t", "s", {"index/SRS": "higher"}, [better], [["ddg"]], {"By hand": root})
    found = row(text, "index/SRS: ddg better than msi")
    assert found[1].startswith("+")
    assert found[2:] == ["", "1 of 1", "", "", "", "not tested: one seed"]


def test_small_differences_have_digits_enough(root: Path) -> None:
    for place, path in enumerate(sorted(root.rglob("summary.json"))):
        summary = json.loads(path.read_text())
        of_ddg = path.parent.parent.name == "ddg"
        loss = 0.65 - 0.0004 * of_ddg + 0.00002 * (place % 3)
        path.write_text(json.dumps(summary | {"metrics": {"test/loss": loss}}))
    better = Claim("less", [ArmComparison(["test/loss"], {"ddg": 1, "msi": -1})])
    text = claims_page("t", "s", {"test/loss": "lower"}, [better], [["ddg", "msi"]], {"By": root})
    found = row(text, "test/loss: ddg better than msi")
    assert found[1].startswith("+0.00039") or found[1].startswith("+0.00040")
    assert len(found[1]) == len("+0.00040")
    assert re.search(r"\| ddg \| 6 \| 0\.6496 ", text)


def test_a_reversed_result_fails_and_one_within_the_noise_is_undecided(root: Path) -> None:
    for seed, shift in enumerate((-6, 5, -4, 6, -5, 4)):
        for index, by in (("SRS", shift - 1.1), ("TTA", -20)):
            path = root / "ddg" / f"seed_{seed}" / "summary.json"
            summary = json.loads(path.read_text())
            summary["metrics"][f"index/{index}"] += by
            path.write_text(json.dumps(summary))
    text = page({"By hand": root})
    assert row(text, "index/SRS: ddg better than msi")[-1] == "undecided"
    assert row(text, "index/TTA: ddg better than msi")[-1] == "fails"
    assert verdicts(text)[2] == "fails (3 holds, 1 fails, 1 undecided)"


def test_what_was_not_run_was_not_tested(root: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said = verdicts(page({"Nothing": tmp_path / "empty"}))
    assert {one.partition(" (no run of ")[0] for one in said} == {"not tested"}
    for run in (root / "msi").iterdir():
        (run / "summary.json").unlink()
    text = page({"By hand": root})
    assert verdicts(text)[1:4] == [
        "undecided (10 holds, 10 not tested)",
        "not tested (no run of msi)",
        "not tested (no run of msi)",
    ]
    assert row(text, "index/SRS: ddg_msi better than msi")[1:] == [
        "",
        "",
        "",
        "",
        "",
        "",
        "not tested: no run of msi",
    ]


def test_what_two_claims_ask_is_corrected_for_once(root: Path) -> None:
    def adjusted(*claims: Claim) -> float:
        metrics: dict[str, Direction] = {"index/SRS": "higher", "index/TTA": "higher"}
        text = claims_page("t", "s", metrics, claims, [], {"One": root})
        first = text.split("**b:**")[0]
        return float(row(first, "index/SRS: ddg_msi better than msi")[5])

    one = ArmComparison(["index/SRS"], {"ddg_msi": 1, "msi": -1})
    other = ArmComparison(["index/TTA"], {"ddg_msi": 1, "msi": -1})
    alone = adjusted(Claim("a", [one, other]))
    assert adjusted(Claim("a", [one, other]), Claim("b", [one])) == alone


@pytest.mark.slow
def test_more_studies_make_each_verdict_harder(root: Path) -> None:
    alone, both = page({"One": root}), page({"One": root, "Same": root})
    p = [float(row(text.split("## Same")[0], "SRS rises")[4]) for text in (alone, both)]
    assert p[0] == p[1]
    name = "index/RSI: ddg better than lora_fedavg"
    adjusted = [float(row(text.split("## Same")[0], name)[5]) for text in (alone, both)]
    assert adjusted[0] <= adjusted[1]


def test_a_file_of_records_says_what_its_runs_say(root: Path, tmp_path: Path) -> None:
    runs = []
    for folder in sorted(path.parent for path in root.rglob("summary.json")):
        (folder / "study.json").write_text('{"configurations": [], "settings": []}')
        runs.append(Run(Path("any.yaml"), 0, folder))
    save_records(tmp_path / "records.jsonl", runs, root)
    assert page({"By hand": tmp_path / "records.jsonl"}) == page({"By hand": root})


@pytest.mark.slow
def test_the_command_writes_the_page_and_names_what_is_missing(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lit_fed.study", "claims", "--config=studies/zou2024/claims"]
    roots = json.dumps({"By hand": str(root)})
    subprocess.run([*command, f"--roots={roots}", f"--output={tmp_path / 'page.md'}"], check=True)
    text = (tmp_path / "page.md").read_text("utf-8")
    assert text.startswith("# Claims of Zou (2024) about DDG and MSI\n")
    assert "\n## By hand\n" in text
    roots = json.dumps({"Nothing": str(tmp_path / "nothing")})
    failed = subprocess.run([*command, f"--roots={roots}"], capture_output=True, text=True)
    assert failed.returncode == 1
    assert (
        "error: `roots` are expected to be folders or files of records, but there is no"
        in failed.stderr
    )


def test_a_metric_without_a_direction_is_refused(root: Path) -> None:
    with pytest.raises(
        ValueError, match="are expected to be among `metrics`, test/loss, but index/GuS"
    ):
        claims_page("t", "s", {"test/loss": "lower"}, SETTINGS.claims, [], {"By hand": root})


def test_a_claim_is_judged_where_what_it_needs_is_there(root: Path) -> None:
    better = ArmComparison(["index/SRS"], {"ddg": 1, "lora_fedavg": -1})

    def judged(**bound: float) -> str:
        needed = Condition("attack", ["index/SRS"], {"ddg": 1, "lora_fedavg": -1}, **bound)
        every = [Claim("needs it", [better], provided=[needed]), Claim("does not", [better])]
        return claims_page("t", "s", {"index/SRS": "higher"}, every, [], {"pairs": root})

    # the mean difference is 4.3 and a little
    assert verdicts(judged(at_least=4.0, at_most=5.0)) == ["holds (1 holds)", "holds (1 holds)"]
    for bound in ({"at_least": 5.0}, {"at_most": 4.0}):
        text = judged(**bound)
        (missing, held) = verdicts(text)
        assert re.fullmatch(r"no attack \(index/SRS of ddg and lora_fedavg: 4\.2\d\)", missing)
        assert held == "holds (1 holds)"
        assert f"| needs it | {missing} |" in text
    with pytest.raises(ValueError, match="`at_least` or `at_most`, but has none"):
        judged()
    with pytest.raises(ValueError, match=r"'a' is expected to have `metrics` and `weights`, but"):
        Condition("a", [], {"ddg": 1}, at_least=1.0)


def test_a_claim_whose_runs_are_not_there_is_not_tested(root: Path) -> None:
    better = ArmComparison(["index/SRS"], {"ddg": 1, "lora_fedavg": -1})
    needed = Condition("attack", ["index/SRS"], {"nobody": 1}, at_least=90.0)
    every = [Claim("needs it", [better], provided=[needed])]
    text = claims_page("t", "s", {"index/SRS": "higher"}, every, [], {"pairs": root})
    assert verdicts(text) == ["not tested (index/SRS of nobody is missing)"]
