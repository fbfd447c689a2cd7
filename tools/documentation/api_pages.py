"""The reference of the API: a page for each package, with the names that it exports."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

from sphinx.application import Sphinx

FOLDER = "docs/api"


def packages() -> list[str]:
    """The packages of the library that export names, the library itself first.

    Example:
        >>> packages()[:3]
        ['lit_fed', 'lit_fed.aggregation', 'lit_fed.aggregation.robust']
    """
    library = import_module("lit_fed")
    below = walk_packages(library.__path__, "lit_fed.")
    found = ["lit_fed", *sorted(module.name for module in below if module.ispkg)]
    return [name for name in found if getattr(import_module(name), "__all__", None)]


def homes() -> dict[str, list[str]]:
    """The names that are described in each package's page.

    What several packages export is described where its path is shortest, as configurations name it.

    Example:
        >>> "FedAvg" in homes()["lit_fed"], "FedAvg" in homes()["lit_fed.methods"]
        (True, False)
    """
    seen: dict[int, str] = {}
    described = packages()
    for package in sorted(described, key=lambda name: (name.count("."), name)):
        for _, value in _exported(package):
            seen.setdefault(id(value), package)
    return {
        package: [name for name, value in _exported(package) if seen[id(value)] == package]
        for package in sorted(described)
    }


def _exported(package: str) -> Iterator[tuple[str, Any]]:
    module = import_module(package)
    # a constant is described nowhere: autodoc would show its value's class
    for name in sorted(module.__all__):
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            yield name, value


def page(package: str, names: list[str]) -> str:
    """The page of a package, in reStructuredText: what there is by first lines, then a section for each.

    Sections, and not Sphinx's entries for objects, make the table of contents: it is copied into every page of
    the site, where entries for all methods took most of the time.

    Args:
        package: The package.
        names: What is described in it.
    """
    module = import_module(package)
    text = [*_title(package, "="), f".. module:: {package}", "", inspect.getdoc(module) or "", ""]
    for name in names:
        first = (inspect.getdoc(getattr(module, name)) or "").partition("\n")[0]
        text += [f"- :obj:`{name} <{package}.{name}>`: {first}"]
    text += [""]
    for name in names:
        kind = "class" if inspect.isclass(getattr(module, name)) else "function"
        text += [*_title(name, "-"), f".. auto{kind}:: {package}.{name}", ""]
    return "\n".join(text)


def _title(text: str, line: str) -> list[str]:
    return [text, line * len(text), ""]


def write_pages(folder: Path) -> None:
    """Write all pages and the list of them; a page that has not changed keeps its time.

    Args:
        folder: The folder of the pages.
    """
    described = {package: names for package, names in homes().items() if names}
    pages = {package: page(package, names) for package, names in described.items()}
    pages["index"] = "\n".join(
        [
            *_title("API reference", "="),
            "A name is imported, and written in a YAML as ``class_path``, from the package under which it stands here.",
            *("", ".. toctree::", "   :maxdepth: 1", ""),
            *(f"   {package}" for package in described),
            "",
        ]
    )
    folder.mkdir(exist_ok=True)
    for old in set(folder.glob("*.rst")) - {folder / f"{name}.rst" for name in pages}:
        old.unlink()
    for name, text in pages.items():
        path = folder / f"{name}.rst"
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")


def _write(app: Sphinx) -> None:
    write_pages(Path(app.srcdir) / FOLDER)


def setup(app: Sphinx) -> dict[str, Any]:
    """Write the pages before Sphinx reads any, as it asks of an extension.

    Args:
        app: The application.
    """
    app.connect("builder-inited", _write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
