"""The examples of the pages print what they say."""

import doctest
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```\{code-block\} pycon\n(>>>.*?)^```$", re.DOTALL | re.MULTILINE)
PAGES = [page for page in sorted(DOCS.rglob("*.md")) if BLOCK.search(page.read_text("utf-8"))]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def test_there_are_examples() -> None:
    assert {"metrics/indices.md", "metrics/texts.md", "aggregation/robust.md"} <= {
        page.relative_to(DOCS).as_posix() for page in PAGES
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_examples_print_what_they_say(page: Path) -> None:
    text = page.read_text("utf-8")
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start()) + 1
        # each block alone, as a reader copies it
        example = doctest.DocTestParser().get_doctest(block[1], {}, page.name, str(page), line)
        told: list[str] = []
        runner = doctest.DocTestRunner(optionflags=FLAGS)
        runner.run(example, out=told.append)
        assert not runner.failures, "".join(told)
