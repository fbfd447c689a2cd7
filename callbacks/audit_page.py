"""Audit page: prototypes and dropped rows as one HTML page that needs nothing else."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from lit_fed.callbacks.audit import Audit, AuditedClient, AuditedPrototype, reasons
from lit_fed.callbacks.audit_style import STYLE
from lit_fed.callbacks.harmless_text import shortened, visible

if TYPE_CHECKING:
    from lit_fed.methods.prototype_defense import Dropped

_Safe = Callable[[object], str]


def audit_page(audit: Audit, max_characters: int = 300, max_rows: int = 50) -> str:
    """The page: it loads nothing, runs nothing, and shows every text as a text.

    Args:
        audit: What is shown.
        max_characters: Characters of a text that are shown.
        max_rows: Dropped rows of a client that are shown.

    Returns:
        HTML.
    """

    def safe(text: object) -> str:
        return html.escape(visible(shortened(str(text), max_characters), keep="\n"))

    body = [
        *_overview(audit, safe),
        *_classes(audit, safe),
        *_prototypes(audit, safe),
        *_dropped(audit, safe, max_rows),
    ]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            # whatever a text might smuggle in, a browser loads and runs nothing
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>Prototypes, round {audit.round}</title><style>{STYLE}</style></head><body><main>",
            *body,
            "</main></body></html>\n",
        ]
    )


def _overview(audit: Audit, safe: _Safe) -> Iterator[str]:
    prototypes = audit.prototypes
    judged = [
        (client.rows, client.dropped) for client in audit.clients if client.dropped is not None
    ]
    dropped, rows = sum(len(one) for _, one in judged), sum(count for count, _ in judged)
    drifts = [one.drift for one in prototypes if one.drift is not None]
    tiles = {
        "prototypes": str(len(prototypes)),
        "to look at": str(sum(bool(one.flags) for one in prototypes)),
        "unused": str(sum(one.usage == 0 for one in prototypes)),
        "moved farthest": f"{max(drifts):.3f}" if drifts else "–",
        "rows dropped": f"{dropped} of {rows}",
    }
    yield f"<h1>Prototypes after round {audit.round}</h1>"
    yield (
        f'<p class="soft">Version {audit.version}, digest <code>{safe(audit.digest)}</code>, encoder '
        f"<code>{safe(audit.encoder)}</code></p>"
    )
    yield '<div class="tiles">'
    for name, value in tiles.items():
        yield f'<div class="tile"><b>{value}</b><span>{name}</span></div>'
    yield "</div>"
    yield "<h2>How to judge</h2>"
    yield (
        "<p>A prototype stands for texts that the encoder takes to be alike. Read the texts that are nearest to it: "
        "they should fit its class, and have the meaning in common, not a word or a source that has nothing to do "
        f"with it. Usage says of how many of the {audit.validation_rows} validation rows it is the nearest prototype, "
        "and agreement how many of these have its class. Drift is 1 − cosine to the same prototype of the version "
        "before.</p>"
    )
    yield (
        "<p>Read what was dropped as well: rows that look right to you are lost for nothing, and a client that loses "
        "many more rows than others is either attacked or unlike them.</p>"
    )
    yield (
        '<p><span class="flag">other labels</span> fewer than half of its rows have its class. '
        '<span class="flag">unused</span> it is nearest to no validation row. '
        '<span class="flag">moved</span> its drift is at least 0.05.</p>'
    )
    if flagged := [one for one in prototypes if one.flags]:
        links = (f'<a href="#prototype-{one.index}">{one.index}</a>' for one in flagged)
        yield f"<nav>To look at: prototypes {' '.join(links)}</nav>"


def _by_class(audit: Audit) -> list[tuple[str, list[AuditedPrototype]]]:
    ordered = sorted(audit.prototypes, key=lambda one: (one.class_name, not one.flags, one.index))
    return [(name, list(group)) for name, group in groupby(ordered, lambda one: one.class_name)]


def _classes(audit: Audit, safe: _Safe) -> Iterator[str]:
    yield "<h2>Classes</h2>"
    rows = []
    for name, group in _by_class(audit):
        usage = sum(one.usage for one in group)
        agreeing = sum(one.usage * (one.agreement or 0.0) for one in group)
        known = any(one.agreement is not None for one in group)
        rows.append(
            [
                safe(name),
                str(len(group)),
                str(sum(one.count for one in group)),
                str(usage),
                f"{agreeing / usage:.0%}" if usage and known else "–",
                str(sum(bool(one.flags) for one in group)),
            ]
        )
    names = ("class", "prototypes", "references", "validation rows", "agreement", "to look at")
    yield from _table(names, rows, numbers=range(1, 6))


def _prototypes(audit: Audit, safe: _Safe) -> Iterator[str]:
    yield "<h2>Prototypes</h2>"
    for name, group in _by_class(audit):
        yield f"<h3>{safe(name)}</h3>"
        yield '<div class="cards">'
        for one in group:
            yield from _card(one, safe)
        yield "</div>"


def _card(one: AuditedPrototype, safe: _Safe) -> Iterator[str]:
    flags = "".join(f'<span class="flag">{flag}</span>' for flag in one.flags)
    agreement = "–" if one.agreement is None else f"{one.agreement:.0%}"
    values = {
        "references": str(one.count),
        "validation rows": str(one.usage),
        "of its class": agreement,
        "drift": "–" if one.drift is None else f"{one.drift:.3f}",
    }
    yield f'<div class="card{" look" * bool(one.flags)}" id="prototype-{one.index}">'
    yield f'<div class="head"><b>Prototype {one.index}</b>{flags}</div><dl>'
    for name, value in values.items():
        yield f"<dt>{name}</dt><dd>{value}</dd>"
    yield "</dl>"
    if one.agreement is not None:
        yield f'<div class="rail"><i style="width:{100 * one.agreement:.0f}%"></i></div>'
    if one.references:
        yield f"<ol>{''.join(f'<li>{safe(text)}</li>' for text in one.references)}</ol>"
    else:
        yield '<p class="soft">Its reference texts are not here.</p>'
    yield "</div>"


def _dropped(audit: Audit, safe: _Safe, max_rows: int) -> Iterator[str]:
    yield "<h2>Dropped rows</h2>"
    if not any(client.dropped or client.dropped is None for client in audit.clients):
        yield '<p class="soft">No row was dropped.</p>'
        return
    rows = [
        [
            safe(client.client),
            str(client.rows),
            *_dropped_cells(client, safe),
        ]
        for client in audit.clients
    ]
    names = ("client", "rows", "dropped", "share", "reasons")
    yield from _table(names, rows, numbers=(1, 2, 3))
    for client in audit.clients:
        if client.dropped:
            yield from _dropped_of(client.client, client.dropped, safe, max_rows)


def _dropped_cells(client: AuditedClient, safe: _Safe) -> tuple[str, str, str]:
    """How many rows of a client are dropped, which share they are, and why."""
    if client.dropped is None:
        return "–", "–", "not judged in the process that has written this page"
    count, why = len(client.dropped), list(reasons(client.dropped).items())[:5]
    share = f"{count / client.rows:.1%}" if client.rows else "–"
    return str(count), share, "; ".join(f"{safe(reason)}: {n}" for reason, n in why)


def _dropped_of(
    client: str, dropped: Sequence[Dropped], safe: _Safe, max_rows: int
) -> Iterator[str]:
    shown = dropped[:max_rows]
    more = f", the first {len(shown)} of them here" * (len(shown) < len(dropped))
    rows = [
        [
            safe(row.text),
            safe(row.label),
            safe(row.assigned_class),
            f"{float(row.similarity):.3f}",
            safe(row.reason),
        ]
        for row in shown
    ]
    yield f"<details><summary><b>{safe(client)}</b>: {len(dropped)} dropped{more}</summary>"
    yield from _table(("text", "label", "nearest class", "cosine", "reason"), rows, numbers=(3,))
    yield "</details>"


def _table(
    names: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int]
) -> Iterator[str]:
    """A table of cells that are HTML; a narrow window shows a row as a list."""
    kinds = [
        "number" if i in numbers else "text" if name == "text" else ""
        for i, name in enumerate(names)
    ]
    head = "".join(f'<th class="{k}">{n}</th>' for k, n in zip(kinds, names, strict=True))
    yield f'<table class="wide{" texts" * ("text" in names)}"><thead><tr>{head}</tr></thead><tbody>'
    for row in rows:
        cells = zip(kinds, names, row, strict=True)
        line = "".join(f'<td class="{k}" data-name="{n}">{cell}</td>' for k, n, cell in cells)
        yield f"<tr>{line}</tr>"
    yield "</tbody></table>"
