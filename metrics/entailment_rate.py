"""How many texts say what a model of natural language inference finds in them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, Literal

import torch

from lit_fed.metrics.arguments import one_of, positive_integer
from lit_fed.metrics.likeliest import likeliest
from lit_fed.metrics.running_ratio import RunningRatio
from lit_fed.metrics.text_arguments import require_pairs

Text = Literal["preds", "source", "target"]

# Models in memory at a time. Metrics of several models in one evaluation take turns at every batch.
_KEPT: Final = 4


class EntailmentRate(RunningRatio):
    """Share of pairs of texts whose premise entails its hypothesis by an NLI model, from 0 to 100; higher is better.

    By default the premise is the text, and the hypothesis its target: whether a rewriting still says what the
    reference answer says. Any sequence classifier that reads pairs will do; entailment is its likeliest label.
    The model is loaded at the first ``update``, once for all metrics of a process, and is no part of the state; the
    four last used stay in memory.

    An empty text is judged by the model like any other. A pair whose logits have NaN is not entailed. NaN (nothing to
    tell): no pair yet.

    Args:
        model: A folder in Hugging Face format, or a name on the hub.
        premise: Which text is the premise: ``preds``, ``source`` or ``target``.
        hypothesis: Which text is the hypothesis.
        label: The name of the label that means entailment. None: the one of the model's configuration whose name
            begins with ``entail``, whatever the case.
        max_length: Tokens of a pair; the longer text is cut.
        batch_size: Pairs at once.
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Raises:
        FileNotFoundError: If there is no such model.
        ValueError: If a setting is out of range, premise and hypothesis are the same, or the model has no label
            that means entailment.
    """

    higher_is_better = True
    plot_lower_bound = 0.0
    plot_upper_bound = 100.0

    def __init__(
        self,
        model: str,
        premise: Text = "preds",
        hypothesis: Text = "target",
        label: str | None = None,
        max_length: int = 512,
        batch_size: int = 16,
        **kwargs: Any,
    ) -> None:
        for name, value in (("premise", premise), ("hypothesis", hypothesis)):
            one_of(name, value, ("preds", "source", "target"))
        if premise == hypothesis:
            raise ValueError(
                f"`premise` and `hypothesis` are expected to be two texts, but both are {premise!r}"
            )
        self.model_name = str(model)
        self.premise: Text = premise
        self.hypothesis: Text = hypothesis
        self.max_length = positive_integer("max_length", max_length)
        self.batch_size = positive_integer("batch_size", batch_size)
        self.label = _entailment(self.model_name, label)
        settings = (self.model_name, premise, hypothesis, self.label, self.max_length)
        super().__init__(settings, **kwargs)

    def update(
        self,
        preds: Sequence[str],
        source: Sequence[str] | None = None,
        target: Sequence[str] | None = None,
    ) -> None:
        """Adds texts and those beside them.

        Args:
            preds: The texts.
            source: A text for each, if it is premise or hypothesis.
            target: A text for each, if it is premise or hypothesis.

        Raises:
            TypeError: If one is no sequence of texts.
            ValueError: If one is missing, or they differ in number.
        """
        given = {"preds": preds, "source": source, "target": target}
        premises, hypotheses = (
            require_pairs(preds, given[text], text, f'{name}="{text}"')[1]
            for name, text in (("premise", self.premise), ("hypothesis", self.hypothesis))
        )
        found = 0
        for start in range(0, len(premises), self.batch_size):
            part = slice(start, start + self.batch_size)
            found += self._entailed(premises[part], hypotheses[part])
        self.add(found, len(premises))

    @torch.no_grad()
    def _entailed(self, premises: list[str], hypotheses: list[str]) -> int:
        """How many of the premises entail their hypothesis."""
        model, tokenizer = _loaded(self.model_name, self.device)
        batch = tokenizer(
            premises,
            hypotheses,
            truncation=True,
            max_length=self.max_length,
            padding=True,
            return_tensors="pt",
        ).to(self.device)
        return int((likeliest(model(**batch).logits) == self.label).sum())


def _entailment(model: str, label: str | None) -> int:
    """The number of the label that means entailment."""
    from transformers import AutoConfig

    try:
        names: dict[int, str] = AutoConfig.from_pretrained(model).id2label
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise FileNotFoundError(
            f"`model` is expected to be a folder in Hugging Face format or a name on the hub, but {model!r} cannot "
            f"be read: {reason:.200}"
        ) from None
    wanted = "entail" if label is None else label.lower()
    found = [
        number
        for number, name in names.items()
        if (name.lower() == wanted if label is not None else name.lower().startswith(wanted))
    ]
    if len(found) != 1:
        asked = (
            "one label whose name begins with entail" if label is None else f"the label {label!r}"
        )
        raise ValueError(
            f"`model` is expected to have {asked}, but {model!r} has {list(names.values())}; name it by `label`"
        )
    return int(found[0])


@lru_cache(maxsize=_KEPT)
def _loaded(model: str, device: torch.device) -> tuple[Any, Any]:
    """The model, ready to predict, and its tokenizer."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    network = AutoModelForSequenceClassification.from_pretrained(model).to(device).eval()
    return network, AutoTokenizer.from_pretrained(model)
