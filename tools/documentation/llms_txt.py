"""llms.txt: the site's pages with a line each, as programs that read documentation look for it (llmstxt.org)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment


def llms_txt(env: BuildEnvironment, root: str) -> str:
    """The file's text: the first page's title and first paragraph, then its lists of pages as sections.

    Args:
        env: What Sphinx has read.
        root: The first page.
    """
    tree = env.get_doctree(root)
    lines = [f"# {env.titles[root].astext()}", "", f"> {_first_paragraph(env, root)}"]
    for toctree in tree.findall(addnodes.toctree):
        if not toctree["entries"]:
            continue
        lines += ["", f"## {toctree['caption'] or 'Pages'}", ""]
        for page in _pages(env, [name for _, name in toctree["entries"] if name in env.titles]):
            title, said = env.titles[page].astext(), _first_paragraph(env, page)
            lines.append(f"- [{title}]({page}.html): {said}")
    return "\n".join(lines) + "\n"


def _pages(env: BuildEnvironment, names: list[str]) -> list[str]:
    found = []
    for name in names:
        found += [name, *_pages(env, env.toctree_includes.get(name, []))]
    return found


def _first_paragraph(env: BuildEnvironment, page: str) -> str:
    for paragraph in env.get_doctree(page).findall(nodes.paragraph):
        # what a table, a list or a class says is not what the page says
        if isinstance(paragraph.parent, nodes.section | nodes.document) and (
            said := whole_sentences(paragraph)
        ):
            return said
    return "a list"


def whole_sentences(paragraph: nodes.paragraph) -> str:
    """A paragraph in one line, with the list that ends its last sentence; a sentence that a block ends is left out.

    Args:
        paragraph: The paragraph, with what comes after it as its sibling.

    Example:
        >>> one = nodes.paragraph(text="It trains. So it is called:")
        >>> _ = nodes.section("", one, nodes.literal_block(text="lit-fed fit"))
        >>> whole_sentences(one)
        'It trains.'
        >>> two = nodes.paragraph(text="There are")
        >>> _ = nodes.section("", two, nodes.bullet_list("", nodes.list_item("", nodes.paragraph(text="one,"))))
        >>> whole_sentences(two)
        'There are one,'
    """
    said = " ".join(paragraph.astext().split())
    if said.endswith((".", "?", "!", ")")):
        return said
    after = paragraph.next_node(descend=False, siblings=True)
    if isinstance(after, nodes.bullet_list | nodes.enumerated_list):
        return " ".join([said, *after.astext().split()])
    return said[: max(said.rfind(end) for end in (". ", "? ", "! ")) + 1]


def _write(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        path = Path(app.outdir) / "llms.txt"
        path.write_text(llms_txt(app.env, app.config.root_doc), "utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Write the file when the site is built, as Sphinx asks of an extension.

    Args:
        app: The application.
    """
    app.connect("build-finished", _write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
