"""The pages of methods, rules, metrics, attacks and papers name all that there is, and what they name is there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
import yaml

from lit_fed import metrics
from lit_fed.cli.inventory import KINDS, classes
from lit_fed.configurations import configurations

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAPERS = DOCS / "papers.md"
ATTACKS = DOCS / "attacks_and_defences.md"
FOLDERS = ("methods", "aggregation", "metrics")
PAGES = [page for folder in FOLDERS for page in sorted((DOCS / folder).glob("*.md"))]
WITH_PAPERS = [page for page in PAGES if page.stem != "index"]
NAMES = {page: str(page.relative_to(DOCS)) for page in [*PAGES, ATTACKS, PAPERS]}

KINDS_OF = {
    "methods": (
        "Methods",
        "Rewritings",
        "Filters of rewritings",
        "Selectors of a consensus",
        "Vote weights",
        "Answers to public prompts",
        "Choices of prompts",
        "Encoders of answers",
        "Teachers",
        "Perturbations",
    ),
    "aggregation": ("Aggregations", "Compressions"),
    "attacks_and_defences.md": (
        "Attacks",
        "Triggers of attacks",
        "Defences",
        "Defences of inputs",
    ),
}
MEASURED = "What was claimed, and what was measured"
YAML = re.compile(r"configs/[\w/]+\.yaml")
URL = re.compile(
    r"https://(?:arxiv\.org/abs|doi\.org|aclanthology\.org|jmlr\.org/papers)/[^\s,;)`}]*[^\s,;:.)`}]"
)
WITHOUT_URL = (
    '"Federated Distillation with Structural Perturbation for Robust Fine-Tuning of LLMs"',
    '"Robust Knowledge Distillation in Distributed LLMs Using Prototype-Constrained Semantic Defense Mechanisms"',
)


def text_of(where: str) -> str:
    """A page, or all pages of a folder but its index together, with line breaks as blanks."""
    found = DOCS / where
    pages = [found] if found.is_file() else [p for p in found.glob("*.md") if p.stem != "index"]
    return " ".join(" ".join(page.read_text("utf-8").split()) for page in pages)


def missing(names: set[str], where: str) -> set[str]:
    """Names that are not on a page."""
    return names - set(re.findall(r"\w+", text_of(where)))


@pytest.mark.parametrize("where", KINDS_OF)
def test_every_public_class_is_on_a_page(where: str) -> None:
    kinds = {kind.title: kind for kind in KINDS}
    names = {name.rpartition(".")[2] for title in KINDS_OF[where] for name in classes(kinds[title])}
    assert len(names) >= 10
    assert not missing(names, where)


def test_every_method_has_a_page_of_its_own() -> None:
    own = {
        name
        for page in (DOCS / "methods").glob("*.md")
        for line in page.read_text("utf-8").splitlines()
        if line.startswith("| class |")
        for name in re.findall(r"`(lit_fed[\w.]+)`", line)
    }
    (methods,) = (kind for kind in KINDS if kind.title == "Methods")
    assert classes(methods).keys() <= own


def test_every_metric_is_on_a_page() -> None:
    assert not missing(set(metrics.__all__), "metrics")


@pytest.mark.parametrize("page", [*WITH_PAPERS, ATTACKS], ids=NAMES.get)
def test_a_page_names_a_paper_and_configurations_that_are_there(page: Path) -> None:
    text = " ".join(page.read_text("utf-8").split())
    assert URL.search(text) or any(title in text for title in WITHOUT_URL)
    named = set(YAML.findall(text))
    assert named
    assert {name for name in named if not (ROOT / name).is_file()} == set()


@pytest.mark.parametrize("page", [*PAGES, ATTACKS, PAPERS], ids=NAMES.get)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text("utf-8"))
    assert not [link for link in links if not (page.parent / link).exists()]


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_index_of_a_folder_has_all_of_its_pages(folder: str) -> None:
    index = (DOCS / folder / "index.md").read_text("utf-8")
    (tree,) = re.findall(r"```\{toctree\}\n(?::\w+:[^\n]*\n)*(.*?)```", index, re.DOTALL)
    own = {page.stem for page in (DOCS / folder).glob("*.md")} - {"index"}
    assert set(tree.split()) == own
    assert {name for name in own if f"({name}.md)" not in index} == set()


@cache
def definitions() -> list[tuple[str, str, str]]:
    """File, name and docstring of every module, class and function; a module has no name."""
    return [
        (str(path.relative_to(ROOT)), getattr(node, "name", ""), ast.get_docstring(node) or "")
        for folder in ("lit_fed", "metrics", "callbacks")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
    ]


def test_the_index_of_papers_has_every_paper_that_the_code_names() -> None:
    code = {url: where for where, _, told in definitions() for url in URL.findall(told)}
    page = text_of("papers.md")
    assert len(code) > 50
    assert {url: where for url, where in code.items() if f"({url})" not in page} == {}
    assert all(title.strip('"') in page for title in WITHOUT_URL)


def test_the_index_of_papers_names_what_is_there() -> None:
    text, known = PAPERS.read_text("utf-8"), configurations().keys()
    last = re.findall(r"^\| [^|]+ \| [^|]+ \| (`[^|]+) \|$", text, re.MULTILINE)
    configured = [name for cell in last for name in re.findall(r"`([\w/]+)`", cell)]
    assert len(configured) > 50
    settings = {"consensus", "server_steps", "perturbation", "selector", "epsilon", "use_rslora"}
    settings |= {"noise_multiplier", "metrics", "FairnessEvaluation"}
    assert {name for name in configured if name not in known | settings} == set()
    defined = {name for _, name, _ in definitions()}
    rows = re.findall(r"^\| [^|]*https?://[^|]* \| ([^|]+) \|", text, re.MULTILINE)
    assert len(rows) > 50
    named = {name.rpartition(".")[2] for row in rows for name in re.findall(r"`([\w.]+)`", row)} - {
        "PromptTuningConfig",
        "server_steps",
        "secure_mode",
    }
    assert named - defined == set()


@pytest.mark.parametrize("page", sorted((DOCS / "methods").glob("*.md")), ids=NAMES.get)
def test_measured_figures_are_those_of_the_results(page: Path) -> None:
    known = " ".join(
        (DOCS / name).read_text("utf-8")
        for name in (
            "results.md",
            "claims_ddg_msi.md",
            "claims_aggregation.md",
            "claims_fedsd.md",
            "claims_fedsd_dolly.md",
            "claims_attacks.md",
            "claims_consensus.md",
            "claims_weak_client.md",
            "claims_different_models.md",
            "claims_short_answers.md",
            "claims_prototypes.md",
            "claims_robust.md",
            "attacks_and_defences.md",
        )
    )
    _, _, section = page.read_text("utf-8").partition(f"## {MEASURED}")
    section = section.partition("\n## ")[0]
    if page.stem != "index":
        assert section
    # rows of the papers' own tables begin with a method's name, those of ours with a configuration's
    rows = re.findall(r"^\| `\w+` \|(.+)\|$", section, re.MULTILINE)
    figures = {cell.strip() for row in rows for cell in row.split("|")} - {"–"}
    assert {figure for figure in figures if figure not in known} == set()


def test_single_runs_in_the_results_are_those_of_the_headers() -> None:
    """What a configuration ends with is told in its header and in the results: by the same run."""
    _, _, section = (DOCS / "results.md").read_text("utf-8").partition("## The embedded default")
    rows = re.findall(
        r"^\| `(\w+)` \| ([\d.]+) \|", section.partition("\n### The shipped")[0], re.MULTILINE
    )
    assert len(rows) > 12
    headers = {name: path.read_text("utf-8") for name, path in configurations().items()}
    for name, figure in rows:
        (measured,) = re.findall(r"# Measured: .* ends with \S+ ([\d.]+)", headers[name])
        assert f"{float(figure):.3f}" == measured, name


def test_what_a_configuration_takes_for_its_method_is_listed() -> None:
    (methods,) = [kind for kind in KINDS if kind.setting == "model"]
    named = {
        config["model"]["class_path"]
        for path in configurations().values()
        if "class_path" in (config := yaml.safe_load(path.read_text("utf-8"))).get("model", {})
    }
    assert named
    assert named <= set(classes(methods))
