"""Formulas as MathML: browsers draw it themselves, so that the site needs no script from elsewhere."""

from __future__ import annotations

import re
from html import escape
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)

_KNOWN_AS = {
    r"\\dots(?![a-zA-Z])|…": r"\\ldots ",
    r"\\dfrac(?![a-zA-Z])": r"\\frac",
    r"\\(big|Big|bigg|Bigg)(?![a-zA-Z])": r"\\\1l",
}
"""What docutils does not know, and what it knows that looks the same."""


def mathml(formula: str, block: bool) -> str:
    r"""A formula of LaTeX as MathML.

    Args:
        formula: The formula, without dollar signs.
        block: Whether it stands in a line of its own.

    Raises:
        ValueError: If docutils does not know a command in it.

    Example:
        >>> "<mi>θ</mi>" in mathml(r"\theta", block=False)
        True
    """
    for unknown, known in _KNOWN_AS.items():
        formula = re.sub(unknown, known, formula)
    if block and r"\\" in formula and r"\begin" not in formula:
        formula = rf"\begin{{aligned}}{formula}\end{{aligned}}"
    try:
        return str(tex2mathml(formula, as_block=block))
    except MathError as error:
        raise ValueError(f"the formula {formula!r} is not understood: {error}") from error


def _write(translator: Any, node: nodes.math | nodes.math_block, block: bool) -> None:
    text = node.astext()
    try:
        drawn = mathml(text, block)
    except ValueError as error:
        logger.warning("%s", error, location=node, type="mathml")
        drawn = f"<code>{escape(text)}</code>"
    if block:
        label = node.get("ids", [])
        name = f' id="{label[0]}"' if label else ""
        drawn = f'<div class="math"{name}>{drawn}</div>\n'
    translator.body.append(drawn)
    raise nodes.SkipNode


def _inline(translator: Any, node: nodes.math) -> None:
    _write(translator, node, block=False)


def _block(translator: Any, node: nodes.math_block) -> None:
    _write(translator, node, block=True)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the renderer, as Sphinx asks of an extension.

    Args:
        app: The application.
    """
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
