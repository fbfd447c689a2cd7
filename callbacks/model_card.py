"""The model card of an exported folder: what the model is, what it was trained on, by whom, and what it is worth."""

from __future__ import annotations

import inspect
import math
from typing import TYPE_CHECKING, Any, Final

from huggingface_hub import EvalResult, ModelCardData

from lit_fed.callbacks.card_sections import base_name, base_on_hub, sections

if TYPE_CHECKING:
    from lit_fed.federation.federation_view import FederationView
    from lit_fed.module import FederatedModule

TASKS: Final = {
    "AutoModelForSequenceClassification": "text-classification",
    "AutoModelForCausalLM": "text-generation",
}
"""What the hub calls the task of a model, by the class of transformers that loads it."""

_LICENCE: Final = "to be filled in: https://huggingface.co/docs/hub/repositories-licenses"


def model_card(
    trainer: FederationView, module: FederatedModule, personal: bool = False, merged: bool = False
) -> str:
    """The card of the model that the module is at the moment, as ``huggingface_hub.ModelCard`` loads it.

    Its metadata are the hub's: base model, library, data sets, task, results, and a licence that is left to be filled
    in. No client is named, and no folder of this machine: names of clients may be those of patients' hospitals.

    Args:
        trainer: The run's, after the round that the model is of.
        module: The server or a client, which has the model.
        personal: Whether it is a client's own model.
        merged: Whether the folder holds a whole model, into which an adapter is merged.

    Example:
        >>> TASKS["AutoModelForCausalLM"]
        'text-generation'
    """
    backbone, method = module.backbone, type(module).__name__
    whole = merged or backbone.peft_type is None
    base = base_on_hub(backbone.checkpoint)
    tables = trainer.datamodule.table_names
    named = f"{method}, {'a client' if personal else 'global model'}"
    data = ModelCardData(
        license="unknown",
        library_name="transformers" if whole else "peft",
        base_model=base,
        base_model_relation=None if base is None else "finetune" if whole else "adapter",
        pipeline_tag=TASKS.get(backbone.auto_class),
        datasets=sorted({one.name for one in tables.values() if one.on_hub}) or None,
        tags=["federated-learning", "lit_fed", method.lower(), *_peft_tag(backbone.peft_type)],
        model_name=named,
        # of a client's own model there is no result alone
        eval_results=None if personal else _results(trainer, TASKS.get(backbone.auto_class, "")),
    )
    owner, base_ = "a client's own " if personal else "", base_name(backbone.checkpoint)
    title = f"{method}: {owner}{f'model, {base_} fine-tuned' if whole else f'adapter for {base_}'}"
    doc = (inspect.getdoc(type(module)) or "").partition("\n")[0]
    head = [f"# {title}", doc] if doc else [f"# {title}"]
    body = "\n\n".join([*head, *sections(trainer, module, personal, whole)])
    metadata = data.to_yaml().replace("license: unknown", f"license: unknown # {_LICENCE}")
    return f"---\n{metadata}\n---\n\n{body}\n"


def _peft_tag(peft_type: str | None) -> list[str]:
    return [] if peft_type is None else [peft_type.lower()]


def _results(trainer: FederationView, task: str) -> list[EvalResult] | None:
    """Those of the test, as the hub's pages list them."""
    tables, tests = trainer.datamodule.table_names, trainer.datamodule.tests
    found: list[Any] = []
    for name, value in trainer.final_metrics.items():
        split, _, rest = name.partition("/")
        metric, _, rows = rest.partition("/")
        if split != "test" or not math.isfinite(value) or metric == "error":
            continue
        rows = rows or next(iter(tests), "test")  # metrics of the first set have no name of it
        table = tables.get(rows) or next(iter(tables.values()))
        kind = table.name if table.on_hub else "own"
        found.append(
            EvalResult(task, kind, f"{table.name}, {rows}", metric, value, dataset_split=rows)
        )
    return found or None
