"""Every block of README and site runs as it is printed; what is not run says why."""

import re
import sys
from pathlib import Path

import pytest
import yaml

from lit_fed.configurations import find_configuration
from tests.documentation.blocks import (
    PAGES,
    ROOT,
    blocks,
    in_page_order,
    make_folder,
    of,
    run,
    run_bash,
)

LANGUAGES = {"bash", "python", "yaml", "text", "console", "bibtex", "json"}
REASONS = {
    "hours",
    "wants four devices",
    "a summary",
    "they install",
    "a service that runs on",
    "wants files",
    "makes the shipped models",
    "it uploads",
    "it serves until it is stopped",
    "minutes, and wants a browser",
    "minutes, and wants the code of before",
}
README = "README.md"
SITE = sorted(set(PAGES) - {README})


def pages_with(language: str) -> list[str]:
    found = [page for page in SITE if of(page, language)]
    assert found
    return found


def over(page: str) -> str:
    """The configuration that a page's settings are laid over: the page's own, or a packaged one."""
    own = [b.said for b in blocks(page) if b.mark == "file" and b.said.endswith(".yaml")]
    return f"{own[0]} --data.partitioner null" if own == ["mine.yaml"] else "lora_fedavg"


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    make_folder(tmp_path, request.node.callspec.params.get("page", README))
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_what_is_not_run_says_why(page: str) -> None:
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{page}: a block in {block.language!r}"
        if block.mark == "not run":
            assert block.said in REASONS, f"{page}: not run, since {block.said!r}"


@pytest.mark.parametrize("page", PAGES)
def test_what_is_named_is_there(page: str) -> None:
    """Configurations and targets of make, also in blocks that are not run."""
    own = {block.said for block in blocks(page) if block.mark == "file"}
    targets = (ROOT / "Makefile").read_text()
    for block in blocks(page):
        if block.language != "bash":
            continue
        for target in re.findall(r"^make ([\w-]+)", block.text, re.MULTILINE):
            assert f"\n{target}:" in targets
        for name in re.findall(r"--config[ =]([\w/.-]+)", block.text):
            if name not in own and not name.startswith("runs/") and name != "mine.yaml":
                find_configuration(str(ROOT / name) if (ROOT / name).is_file() else name)


@pytest.mark.slow
def test_the_readmes_python_blocks_run_in_their_order(tmp_path: Path) -> None:
    make_folder(tmp_path, README)
    (tmp_path / "blocks.py").write_text("\n".join(one.text for one in of(README, "python")))
    run([sys.executable, "blocks.py"], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(of(README, "bash"))))
def test_the_readmes_shell_blocks_run(number: int, tmp_path: Path) -> None:
    make_folder(tmp_path, README)
    run_bash(of(README, "bash")[number].text, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("page", SITE)
def test_a_pages_blocks_run(page: str, folder: Path) -> None:
    if not of(page, "bash") and not of(page, "python"):
        pytest.skip("no blocks")
    (folder / "blocks.py").write_text(in_page_order(page))
    run([sys.executable, "blocks.py"], folder)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if of(page, "yaml")])
def test_settings_that_stand_alone_fit_a_configuration(page: str, folder: Path) -> None:
    for number, block in enumerate(of(page, "yaml")):
        (folder / f"{number}.yaml").write_text(block.text)
        assert set(yaml.safe_load(block.text)) <= {"model", "data", "trainer"}
        run_bash(f"lit-fed fit --config {over(page)} --config {number}.yaml", folder)
