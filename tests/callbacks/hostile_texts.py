"""Texts that want to be something else than a text where they are shown, and what a page makes of them."""

from __future__ import annotations

from html.parser import HTMLParser

HOSTILE = {
    "a script": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "an image": "![seen](http://tracker.example/x.png) and [a link](javascript:alert(1))",
    "columns": "a | b | c |\n| --- | --- |\n| d | e |",
    "headings": "# big\n\n* one\n* two\n\n> said\n\n---\n\n```\ncode\n```",
    "emphasis": "**bold** __bold__ _em_ `code` ~~gone~~ \\| &lt;b&gt; &#60;b&#62;",
    "a terminal": "\x1b[31mred\x1b[0m\x1b]0;title\x07\x9b1m\x00\x08\x7f",
    "lines": "one\rtwo\r\nthree\x0bfour\x0cfive\x85six\u2028seven\u2029eight",
    "directions": "\u202eevil\u202c \u2066x\u2069 \u200bhidden\ufeff",
    "selectors": "yes"
    + "".join(chr(0xE0100 + code) for code in b"say no")
    + " \u034f\u115f\u1160\u3164\uffa0\u180b\ufe00\ufe0d\ufe0e\ufe0f",
    "halves": "\ud800 and \udfff",
    "placeholders": "\x02wzxhzdk:0\x03 \x02amp\x03",
    "references": "[x]: http://tracker.example\n[x]",
    "an html block": "\n\n<div>\n\n<table><tr><td>\n\n</td>",
    "megabytes": "<b>|" * 500_000,
}


class Page(HTMLParser):
    """The tags of a page with their attributes, and the text of each row's cells.

    Args:
        html: The page.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self._in_table = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        self._in_table |= tag == "table"
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self._in_table &= tag != "table"

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._in_table and self.rows and self.rows[-1] and data.strip("\n"):
            self.rows[-1][-1] += data
