"""The pages of claims are what their published records say, by the rules of judgement that there are now."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from jsonargparse import auto_parser

from lit_fed.configurations import find_configuration
from lit_fed.study.claims import claims, claims_page

DOCS = Path(__file__).parents[2] / "docs"
RECORDS = DOCS / "studies"


@dataclass(frozen=True)
class Page:
    """A page, the configuration of its claims, and the records of its studies by their titles."""

    name: str
    config: str
    records: dict[str, str]
    title: str | None = None


PAGES = [
    Page(
        "claims_attacks",
        "studies/attacks/claims",
        {"Embedded translations": "attacks", "SST-2": "attacks_sst2"},
    ),
    Page(
        "claims_consensus",
        "studies/abourayya2026/claims",
        {
            "Embedded translations": "abourayya2026",
            "SST-2": "abourayya2026_sst2",
            "TREC": "abourayya2026_trec",
        },
    ),
    Page(
        "claims_different_models",
        "studies/different_models/claims",
        {"SST-2": "different_models"},
    ),
    Page(
        "claims_short_answers",
        "studies/short_answers/claims",
        {"Questions with choices": "short_answers"},
    ),
    Page(
        "claims_prototypes",
        "studies/bergman/claims",
        {"SST-2": "bergman_sst2", "TREC": "bergman_trec"},
    ),
    Page(
        "claims_weak_client",
        "studies/weak_client/claims",
        {"Embedded translations": "weak_client"},
    ),
    Page("claims_aggregation", "studies/aggregation/claims", {"SST-2": "aggregation"}),
    Page(
        "claims_robust",
        "studies/robust/claims",
        {"three attackers of ten": "robust_three", "one attacker of ten": "robust_one"},
    ),
    Page("claims_fedsd", "studies/wang2026/claims", {"Embedded instructions": "wang2026"}),
    Page(
        "claims_fedsd_dolly",
        "studies/wang2026/claims",
        {"Dolly": "wang2026_dolly"},
        "Claims of Wang et al. (2026) about FedSD and FedSDR, on Dolly",
    ),
]
WITHOUT_RECORDS = {"claims_ddg_msi"}  # of runs that are gone


def test_every_page_of_claims_is_here() -> None:
    pages = {path.stem for path in DOCS.glob("claims_*.md")}
    assert pages == {page.name for page in PAGES} | WITHOUT_RECORDS
    records = {path.stem for path in RECORDS.glob("*.jsonl")}
    assert records == {name for page in PAGES for name in page.records.values()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_what_its_records_say(page: Page) -> None:
    parser = auto_parser(claims, as_positional=False)
    parsed = parser.parse_args([f"--config={find_configuration(page.config)}"])
    given = parser.instantiate(parsed)
    roots = {title: RECORDS / f"{name}.jsonl" for title, name in page.records.items()}
    made = claims_page(
        page.title or given.title,
        given.source,
        given.metrics,
        given.claims,
        given.tables,
        roots,
        given.otherwise,
    )
    # line by line, since a difference of a whole page tells nobody anything
    written = (DOCS / f"{page.name}.md").read_text("utf-8").splitlines()
    assert made.splitlines() == written
