"""The page of all configurations: what each shows, what it takes and ends with, from its header."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from lit_fed.configurations import configurations
from tools.documentation.measure_configurations import MEASURED

PAGE = "docs/configurations.md"
SECTIONS = {
    "": "Methods and rules, whole",
    "data": "Other data, over a method",
    "clients": "Other clients, over data",
    "backbones": "Other models, over data",
    "attacks": "Attacks, over a method or a rule",
    "defenses": "Defences, over a method and an attack",
    "backdoors": "Backdoors, over a method and data",
    "prototypes": "Variants of the prototype defence",
    "teachers": "Teachers of real data, over distillation",
    "ranks": "Ranks of adapters",
    "optimizers": "Optimizers of clients",
    "compression": "Smaller uploads, over a method",
    "privacy": "Differential privacy, over a method",
    "rewriting": "Rewriting, over a method of language models",
    "consensus": "Variants of semantic consensus",
    "selectors": "Other selectors of a consensus on texts",
    "weak": "A weak client, over clients with few rows",
    "black_boxes": "Clients that are services",
    "evaluations": "Evaluations, over a method",
    "gpu": "Large models, whole",
    "studies/zou2024": "Study: Zou (2024)",
    "studies/wang2026": "Study: Wang et al. (2026)",
    "studies/abourayya2026": "Study: Abourayya et al. (2026)",
    "studies/short_answers": "Study: semantic consensus on short answers",
    "studies/different_models": "Study: semantic consensus among different models",
    "studies/selectors": "Study: selectors of a consensus",
    "studies/weak_client": "Study: a weak client in a consensus",
    "studies/bergman": "Study: Bergman et al.",
    "studies/attacks": "Study: kinds of attacks",
    "studies/aggregation": "Study: aggregation rules",
    "studies/robust": "Study: robust aggregation rules",
}
"""The folders of configurations in the order of the page, and their titles."""
_HEAD = """\
# All configurations

A name goes after `--config`, as in `lit-fed fit --config lora_fedavg`; several follow one another, and the later
lies over the earlier. `lit-fed init FOLDER --config NAME` copies one to change. The names link to the files.

*Measured* is a run of the command in the file's first line, which names the configurations that it came *after*, by
`python -m tools.documentation.measure_configurations NAME`: seconds of the processor with one thread, and the run's
main metric, with the success rate of its backdoor where there is one. It is one seed each and says that the
configuration works; it is no comparison. A dash means: not measured by that command, or not without data or machines
that do not come with the package; figures of several more are in [the results](results.md).
"""


@dataclass(frozen=True)
class Header:
    """What the comments at the top of a configuration say.

    Attributes:
        command: The command that runs it.
        text: What it shows.
        measured: What a run of it took and ended with; empty where it has not been measured.
    """

    command: str
    text: str
    measured: str

    @classmethod
    def of(cls, source: str) -> Header:
        r"""The header of a configuration.

        Args:
            source: The YAML's text.

        Example:
            >>> Header.of("# lit-fed fit --config a\n# An example\n# of two lines.\n# Measured: 3 s.\nmodel: null")
            Header(command='lit-fed fit --config a', text='An example of two lines.', measured='3 s.')
        """
        lines = source.splitlines()
        lines = lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))]
        measured = [line.removeprefix(MEASURED) for line in lines if line.startswith(MEASURED)]
        text = [line for line in lines[1:] if not line.startswith(MEASURED)]
        return cls(
            lines[0].removeprefix("# "),
            " ".join(line.removeprefix("#").strip() for line in text),
            " ".join(measured),
        )


def configurations_page() -> str:
    """The page, in Markdown.

    Raises:
        ValueError: If a folder of configurations has no title here.
    """
    rows: dict[str, list[str]] = {folder: [] for folder in SECTIONS}
    for name, path in configurations().items():
        header, folder = Header.of(path.read_text("utf-8")), name.rpartition("/")[0]
        if folder not in rows:
            raise ValueError(
                f"SECTIONS is expected to have a title for each folder of configurations, but lacks {folder!r}"
            )
        said = f"{_after(name, header.command)}{header.measured}" if header.measured else "–"
        cells = f"[`{name}`](../configs/{name}.yaml)", _plain(header.text), _plain(said)
        rows[folder].append("| " + " | ".join(cells) + " |")
    head = ["| configuration | what it shows | measured |", "| --- | --- | --- |"]
    parts = [
        "\n".join([f"## {title}", "", *head, *rows[folder], ""])
        for folder, title in SECTIONS.items()
    ]
    return "\n".join([_HEAD, *parts])


def _after(name: str, command: str) -> str:
    """What a configuration came after in the command that was measured.

    Example:
        >>> _after("attacks/trigger", "lit-fed fit --config configs/ddg.yaml --config configs/attacks/trigger.yaml")
        'After `ddg`: '
        >>> _after("ddg", "lit-fed fit --config configs/ddg.yaml")
        ''
    """
    before = [one for one in re.findall(r"--config configs/([\w/]+)\.yaml", command) if one != name]
    return f"After {', '.join(f'`{one}`' for one in before)}: " if before else ""


def _plain(text: str) -> str:
    text = escape(text, quote=False)
    for sign in "|$*":
        text = text.replace(sign, f"\\{sign}")
    return text


def _write(app: Sphinx) -> None:
    path, text = Path(app.srcdir) / PAGE, configurations_page()
    if not path.exists() or path.read_text("utf-8") != text:
        path.write_text(text, "utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Write the page before Sphinx reads any, as it asks of an extension.

    Args:
        app: The application.
    """
    app.connect("builder-inited", _write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
