"""The sections of a model card, in Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lit_fed.attacks import Attack
from lit_fed.backbones import embedded
from lit_fed.callbacks.byte_size import byte_size
from lit_fed.callbacks.citations import papers
from lit_fed.callbacks.harmless_text import table_cell
from lit_fed.callbacks.run_facts import attached, installed, privacy_spent

if TYPE_CHECKING:
    from lit_fed.backbones import Backbone
    from lit_fed.federation.federation_view import FederationView
    from lit_fed.module import FederatedModule

_PACKAGES: Final = ("torch", "transformers", "peft")
# peft does not have these methods: a loader imports what registers them.
_OWN_METHODS: Final = ("BITFIT", "BOTTLENECK")


def sections(
    trainer: FederationView, module: FederatedModule, personal: bool, whole: bool
) -> list[str]:
    """The sections of a card, from how the model is loaded to how it is cited.

    Args:
        trainer: The run's.
        module: The server or a client, which has the model.
        personal: Whether it is a client's own model.
        whole: Whether the folder holds a whole model, and no adapter.
    """
    return [
        "## How to load it",
        loading(module.backbone, whole),
        "## Training",
        _training(trainer, module, personal),
        "## Evaluation",
        _evaluation(trainer, personal),
        "## Privacy",
        _privacy(trainer),
        "## Attacks, defences and compression",
        _attachments(trainer),
        "## Licence",
        "To be filled in, here and as `license` at the top: it depends on the licences of the base model and of the "
        "data.",
        "## Citation",
        _citation(module),
    ]


def base_on_hub(checkpoint: str) -> str | None:
    """The name on the hub of a model's checkpoint; None where that is a folder.

    Example:
        >>> base_on_hub("google-bert/bert-base-uncased")
        'google-bert/bert-base-uncased'
        >>> base_on_hub("/models/bert")
    """
    return None if Path(checkpoint).is_absolute() or Path(checkpoint).is_dir() else checkpoint


def base_name(checkpoint: str) -> str:
    """What a base model is called in a card, without the folders in which it lies.

    Args:
        checkpoint: The folder, or the name on the hub.

    Example:
        >>> base_name("/models/bert")
        'bert'
    """
    if Path(checkpoint).parent == Path(embedded.__path__[0]):
        return f"the {Path(checkpoint).name} that comes with lit_fed"
    return base_on_hub(checkpoint) or Path(checkpoint).name


def loading(backbone: Backbone, whole: bool) -> str:
    """Code that loads the folder.

    Args:
        backbone: The model.
        whole: Whether the folder holds a whole model, and no adapter.
    """
    auto = backbone.auto_class
    lines = [
        'folder = "."  # this folder; of the hub: huggingface_hub.snapshot_download("owner/name")'
    ]
    if whole:
        lines = [f"from transformers import AutoTokenizer, {auto}", "", *lines]
        lines += [f"model = {auto}.from_pretrained(folder)"]
    else:
        own = backbone.peft_type in _OWN_METHODS
        imports = ["import lit_fed.backbones.bitfit, lit_fed.backbones.bottleneck"] if own else []
        imports += ["from peft import PeftConfig, PeftModel"]
        lines = [
            *imports,
            f"from transformers import AutoConfig, AutoTokenizer, {auto}",
            "",
            *lines,
        ]
        lines += [
            "base = PeftConfig.from_pretrained(folder).base_model_name_or_path  # or the folder of the base model",
            'config = AutoConfig.from_pretrained(f"{folder}/model_config.json")  # knows the labels\' names',
            f"model = {auto}.from_pretrained(base, config=config)",
            "model = PeftModel.from_pretrained(model, folder)",
        ]
    lines += ["tokenizer = AutoTokenizer.from_pretrained(folder)"]
    return "\n".join(["```python", *lines, "```"])


def _training(trainer: FederationView, module: FederatedModule, personal: bool) -> str:
    state, data = trainer.federation, trainer.datamodule
    rows = sum(len(client.rows) for client in data.clients)
    took_part = sum(1 for one in state.clients.values() if one.rounds)
    rule = getattr(module, "aggregation", None)
    names = {use: one.name for use, one in data.table_names.items()}
    facts: dict[str, Any] = {
        "method": type(module).__name__,
        "aggregation": "none" if rule is None else type(rule).__name__,
        "base model": table_cell(base_name(module.backbone.checkpoint)),
        "adapter": module.backbone.peft_type or "none: all weights are trained",
        "data": ", ".join(f"{table_cell(name)} ({table_cell(use)})" for use, name in names.items()),
        "rounds": state.round,
        "clients": f"{len(data.clients)}, of which {took_part} have trained, on {rows:,} rows in all",
        "bytes up": f"{state.ledger.up:,} ({byte_size(state.ledger.up)})",
        "bytes down": f"{state.ledger.down:,} ({byte_size(state.ledger.down)})",
        "seed": trainer.seed,
        "versions": f"lit_fed {installed('lit_fed') or 'of a folder'}, "
        + ", ".join(f"{name} {installed(name)}" for name in _PACKAGES),
    }
    what = (
        "The own model of one of the clients, which are not named here."
        if personal
        else "The global model."
    )
    return f"{what}\n\n{_table(('', ''), facts.items())}"


def _evaluation(trainer: FederationView, personal: bool) -> str:
    shown = {
        table_cell(name): f"{value:.4f}"
        for name, value in trainer.final_metrics.items()
        if math.isfinite(value) and name.partition("/")[0] in ("test", "clients")
    }
    if not shown:
        return "Not tested at the end of the run."
    whose = "Of the whole federation, not of this client's model alone.\n\n" if personal else ""
    return whose + _table(("metric of the test", "value"), shown.items())


def _privacy(trainer: FederationView) -> str:
    if (spent := privacy_spent(trainer)) is None:
        return "Clients trained without DP-SGD: no (ε, δ) is claimed."
    return (
        f"Clients trained by DP-SGD. ε is {spent['most']:.4g} at most, at δ {spent['delta']:g}, for single rows of a "
        f"client, over {trainer.federation.round} rounds."
    )


def _attachments(trainer: FederationView) -> str:
    found = attached(trainer.identity, trainer.attachments)
    if not found:
        return "None."
    total = len(trainer.datamodule.clients)
    rows = []
    for told, one in zip(found, trainer.attachments, strict=True):
        count = total if one.clients is None else len(one.clients)
        rows.append((told["class"], "attack" if isinstance(one, Attack) else "no attack", count))
    warning = "**Some clients were attackers in this run.**\n\n"
    attacks = any(isinstance(one, Attack) for one in trainer.attachments)
    return warning * attacks + _table(("what", "kind", f"clients of {total}"), rows)


def _citation(module: FederatedModule) -> str:
    rule = getattr(module, "aggregation", None)
    entries = [paper.bibtex for paper in papers(type(module), type(rule))]
    number = installed("lit_fed")
    own = [
        "@software{lit_fed,",
        "  title = {{lit_fed: federated distillation and fine-tuning of language models}},",
        "  author = {{The lit_fed authors}},",
        *([f"  version = {{{number}}},"] if number else []),
        "}",
    ]
    return "\n".join(["```bibtex", *entries, *own, "```"])


def _table(head: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> str:
    lines = [head, ("---",) * len(head)]
    lines += [tuple(map(str, row)) for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
