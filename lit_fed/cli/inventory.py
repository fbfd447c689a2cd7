"""What ``lit-fed list`` shows: classes by the first lines of their docstrings, configurations by their headers.

Sources are read, not imported: an import would take torch and Lightning along.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from lit_fed.configurations import configurations, description


@dataclass(frozen=True)
class Kind:
    """A kind of classes that configurations name.

    Attributes:
        title: What they are.
        setting: The setting that takes one.
        package: The package from which they are named.
        folder: The package in whose files they are.
        base: The class that they extend or are.
    """

    title: str
    setting: str
    package: str
    folder: str
    base: str


KINDS = (
    Kind("Methods", "model", "lit_fed", "lit_fed.methods", "FederatedModule"),
    Kind(
        "Aggregations", "model.aggregation", "lit_fed.aggregation", "lit_fed.aggregation", "Aggregation"
    ),
    Kind(
        "What robust aggregations take for a client's change",
        "model.aggregation.geometry",
        "lit_fed.aggregation.robust",
        "lit_fed.aggregation.robust",
        "Geometry",
    ),
    Kind("Backbones", "model.backbone", "lit_fed.backbones", "lit_fed.backbones", "Backbone"),
    Kind(
        "Adapters beside those of peft",
        "model.backbone.peft",
        "lit_fed.backbones",
        "lit_fed.backbones",
        "PeftConfig",
    ),
    Kind("Sources", "data.train", "lit_fed.data", "lit_fed.data.sources", "Source"),
    Kind("A file a client", "data.train", "lit_fed.data", "lit_fed.data.sources", "ClientFiles"),
    Kind("Encodings", "data.encoding", "lit_fed.data", "lit_fed.data.encodings", "Encoding"),
    Kind("Records", "data.encoding.records", "lit_fed.data", "lit_fed.data.records", "Records"),
    Kind(
        "Chat templates",
        "data.encoding.template",
        "lit_fed.data",
        "lit_fed.data.chat_templates",
        "ChatTemplate",
    ),
    Kind("Clients that answer prompts", "model.backbone", "lit_fed.backbones", "lit_fed.backbones", "TextGenerator"),
    Kind("Samplers of clients", "trainer.sampler", "lit_fed.federation", "lit_fed.federation", "ClientSampler"),
    Kind("Partitioners", "data.partitioner", "lit_fed.data", "lit_fed.data.partitioners", "Partitioner"),
    Kind(
        "Executions",
        "trainer.execution",
        "lit_fed.federation",
        "lit_fed.federation.execution",
        "ClientExecution",
    ),
    Kind("Attacks", "trainer.attachments", "lit_fed.attacks", "lit_fed.attacks", "Attack"),
    Kind(
        "Triggers of attacks",
        "trainer.attachments.trigger",
        "lit_fed.attacks.triggers",
        "lit_fed.attacks.triggers",
        "Trigger",
    ),
    Kind("Defences", "trainer.attachments", "lit_fed.defenses", "lit_fed.defenses", "Attachment"),
    Kind(
        "Defences of inputs",
        "callbacks' defenses",
        "lit_fed.defenses",
        "lit_fed.defenses",
        "InputDefense",
    ),
    Kind("Privacy", "trainer.privacy", "lit_fed.privacy", "lit_fed.privacy", "DPSGD"),
    Kind("Compressions", "trainer.attachments", "lit_fed.compression", "lit_fed.compression", "Attachment"),
    Kind(
        "Rewritings",
        "model.rewriting",
        "lit_fed.methods.rewriting",
        "lit_fed.methods.rewriting",
        "SelfDistillation",
    ),
    Kind(
        "Filters of rewritings",
        "model.rewriting.filter",
        "lit_fed.methods.rewriting",
        "lit_fed.methods.rewriting",
        "RewritingFilter",
    ),
    Kind(
        "Selectors of a consensus",
        "model.selector",
        "lit_fed.methods.semantic_consensus",
        "lit_fed.methods.semantic_consensus.selectors",
        "Selector",
    ),
    Kind(
        "Vote weights",
        "model.vote_weight",
        "lit_fed.methods.semantic_consensus",
        "lit_fed.methods.semantic_consensus",
        "VoteWeight",
    ),
    Kind(
        "Answers to public prompts",
        "model.answers",
        "lit_fed.methods.semantic_consensus",
        "lit_fed.methods.semantic_consensus.answers",
        "PublicAnswers",
    ),
    Kind(
        "Choices of prompts",
        "model.prompt_choice",
        "lit_fed.methods.semantic_consensus",
        "lit_fed.methods.semantic_consensus",
        "PromptChoice",
    ),
    Kind(
        "Encoders of answers",
        "model.selector.encoder",
        "lit_fed.methods.semantic_consensus",
        "lit_fed.methods.semantic_consensus.encoders",
        "AnswerEncoder",
    ),
    Kind("Consensus of DDG", "model.consensus", "lit_fed.methods.ddg", "lit_fed.methods.ddg", "Consensus"),
    Kind(
        "Encoders of gates",
        "model.encoder",
        "lit_fed.methods.prototype_defense",
        "lit_fed.methods.prototype_defense",
        "GateEncoder",
    ),
    Kind("Gates", "model.gate", "lit_fed.prototypes", "lit_fed.prototypes.gates", "Gate"),
    Kind("Margins", "model.margin_schedule", "lit_fed.prototypes", "lit_fed.prototypes.margins", "MarginSchedule"),
    Kind("Teachers", "model.teacher", "lit_fed.methods.teachers", "lit_fed.methods.teachers", "Teacher"),
    Kind("Perturbations", "model.perturbation", "lit_fed.perturbations", "lit_fed.perturbations", "Perturbation"),
    Kind("Callbacks", "trainer.callbacks", "lit_fed.callbacks", "lit_fed.callbacks", "Callback"),
)  # fmt: skip

_WHOLE = ("gpu", "studies")
"""Folders of configurations that come over no other."""


def classes(kind: Kind) -> dict[str, str]:
    """The public classes of a kind, and the first line of each one's docstring.

    Args:
        kind: The kind.

    Example:
        >>> (encodings,) = [kind for kind in KINDS if kind.title == "Encodings"]
        >>> sorted(classes(encodings))
        ['lit_fed.data.CausalLMEncoding', 'lit_fed.data.ClassificationEncoding', 'lit_fed.data.InstructionEncoding']
    """
    (folder,) = import_module(kind.folder).__path__
    found = {
        node.name: node
        for path in sorted(Path(folder).rglob("*.py"))
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.ClassDef)
    }

    def extends(node: ast.ClassDef) -> bool:
        bases = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
        return kind.base in {node.name, *bases} or any(
            extends(found[base]) for base in bases & found.keys()
        )

    public = import_module(kind.package).__all__
    return {
        f"{kind.package}.{name}": (ast.get_docstring(node) or "").partition("\n")[0]
        for name, node in sorted(found.items())
        if name in public and extends(node) and not _is_abstract(node)
    }


def _is_abstract(node: ast.ClassDef) -> bool:
    """Whether a class leaves a method of its own to others, or says itself that it is for others to extend."""
    if any(ast.unparse(base) == "ABC" for base in node.bases):
        return True
    methods = (member for member in node.body if isinstance(member, ast.FunctionDef))
    return any(ast.unparse(d) == "abstractmethod" for m in methods for d in m.decorator_list)


def inventory() -> str:
    """All of them as text, a line each."""
    sections = {f"{kind.title} (`{kind.setting}`)": classes(kind) for kind in KINDS}
    lines = {name: description(path) for name, path in configurations().items()}
    studies = {name: line for name, line in lines.items() if name.startswith("studies/")}
    over = {
        name: line
        for name, line in lines.items()
        if "/" in name and name.partition("/")[0] not in _WHOLE
    }
    sections["Configurations (lit-fed fit --config NAME)"] = {
        name: line for name, line in lines.items() if name not in studies | over
    }
    sections["Over a configuration (--config NAME --config THIS)"] = over
    sections["Studies (lit-fed-study --config NAME)"] = studies
    width = max(len(name) for section in sections.values() for name in section)
    return "\n\n".join(
        "\n".join([title, *(f"  {name:<{width}}  {line}" for name, line in section.items())])
        for title, section in sections.items()
    )
