"""Whether the numbers and the names of a text are those of its source."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar, Literal

from torch import Tensor

from lit_fed.metrics.arguments import one_of
from lit_fed.metrics.entities_in_text import entities_in
from lit_fed.metrics.numbers_in_text import numbers_in
from lit_fed.metrics.running_ratio import RunningRatio, identity
from lit_fed.metrics.text_arguments import require_pairs, require_texts
from lit_fed.metrics.words import has_phrase

Against = Literal["source", "target", "both"]


def matching_numbers(pred: str, source: str, number_words: bool = True) -> tuple[int, int, int]:
    """Counts the different numbers of two texts.

    Args:
        pred: A text.
        source: What it is compared with.
        number_words: Whether English words count, see :func:`~lit_fed.metrics.numbers_in`.

    Returns:
        Those of both, those of ``pred``, those of ``source``.

    Example:
        >>> matching_numbers("It is 68 or 70.", "Add 23 and 45: sixty-eight.")
        (1, 2, 3)
    """
    told, known = (numbers_in(text, number_words) for text in (pred, source))
    return len(told & known), len(told), len(known)


def matching_entities(
    pred: str, source: str, entities: Callable[[str], Collection[str]] = entities_in
) -> tuple[int, int, int, int]:
    """Counts the names of two texts; a name is found where the other text has it as whole words, in any case.

    Args:
        pred: A text.
        source: What it is compared with.
        entities: Gives a text's names.

    Returns:
        Names of ``pred`` that ``source`` has, names of ``pred``; names of ``source`` that ``pred`` has, names of
        ``source``. Each name counts once a text.

    Example:
        >>> matching_entities("Here Ann met Bob.", "Ann wrote. In Paris, Ann and Carl met.")
        (1, 2, 1, 3)
    """
    told, known = (
        list(dict.fromkeys(filter(str.strip, entities(text)))) for text in (pred, source)
    )
    return (
        sum(has_phrase(source, name) for name in told),
        len(told),
        sum(has_phrase(pred, name) for name in known),
        len(known),
    )


class SourceFidelity(RunningRatio):
    """Precision and recall of something that texts and their sources have, such as numbers; the shares' common part.

    Args:
        against: What texts are compared with: ``source``, the context; ``target``, the reference answer; or ``both``:
            what either has is not made up, and what the target has is to be there.
        target_column: A column of the rows whose texts are the targets, where what is learnt says more than its facts,
            such as phrases of politeness. None: the targets that are given.
        settings: What else ``update`` depends on, see :class:`~lit_fed.metrics.running_ratio.RunningRatio`.
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Raises:
        ValueError: If ``against`` is something else, or is ``source`` and there is a column of targets.
    """

    plot_lower_bound = 0.0
    plot_upper_bound = 100.0
    what: ClassVar[str]
    """What is compared, as ``compute`` names it."""

    def __init__(
        self,
        against: Against,
        target_column: str | None,
        settings: Sequence[object],
        **kwargs: Any,
    ) -> None:
        one_of("against", against, ("source", "target", "both"))
        if target_column is not None and against == "source":
            raise ValueError(
                f"`target_column` is expected to be null where `against` is source, but got {target_column!r}"
            )
        super().__init__([against, target_column, *settings], size=2, **kwargs)
        self.against: Against = against
        self.target_column = target_column

    @abstractmethod
    def matching(self, pred: str, known: str) -> tuple[int, int, int, int]:
        """Those of a text that the other has, those of it; those of the other that the text has, those of the other."""

    def update(
        self,
        preds: Sequence[str],
        source: Sequence[str] | None = None,
        target: Sequence[str] | None = None,
        rows: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Adds texts and what they are compared with.

        Args:
            preds: The texts.
            source: A text for each, unless ``against="target"``.
            target: A text for each, unless ``against="source"`` or with ``target_column``.
            rows: A row for each, with ``target_column``.

        Raises:
            TypeError: If one is no sequence of texts.
            ValueError: If what they are compared with is missing, or they differ in number.
        """
        asked = f'against="{self.against}"'
        texts = require_texts("preds", preds)
        sources, targets = [""] * len(texts), [""] * len(texts)
        if self.against != "target":
            sources = require_pairs(preds, source, "source", asked)[1]
        if self.against != "source":
            targets = require_pairs(preds, self._targets(target, rows), "target", asked)[1]
        for text, about, wanted in zip(texts, sources, targets, strict=True):
            true, told = self.matching(text, f"{about}\n{wanted}".strip("\n"))[:2]
            kept, there = self.matching(text, about if self.against == "source" else wanted)[2:]
            self.add([true, kept], [told, there])

    def _targets(
        self, target: Sequence[str] | None, rows: Sequence[Mapping[str, Any]] | None
    ) -> Sequence[str] | None:
        if self.target_column is None:
            return target
        if rows is None or any(self.target_column not in row for row in rows):
            raise ValueError(
                f"`target_column` is expected to be a column of `rows`, but {self.target_column!r} is none"
            )
        return ["" if (text := row[self.target_column]) is None else str(text) for row in rows]

    def compute(self) -> dict[str, Tensor]:
        """The two shares by name, scalars."""
        precision, recall = self.ratio()
        return {f"{self.what}_precision": precision, f"{self.what}_recall": recall}


class NumberFidelity(SourceFidelity):
    """Precision and recall of the numbers of texts against their sources, from 0 to 100; higher is more faithful.

    Precision: the share of a text's numbers that its source has; what is missing was made up. Recall: the share
    of the source's numbers that the text has. A right sum is no number of its question: where answers say more than
    their source does, compare with ``both``. A number counts once a text, however often it is there, and the
    shares are of all texts' numbers together. What a number is tells :func:`~lit_fed.metrics.numbers_in`.

    A text without numbers made none up, and adds to recall alone; so does an empty one. NaN (nothing to tell): the
    precision where no text has a number, the recall where no source has one.

    Args:
        against: What the numbers are compared with: ``source``, the context; ``target``, the reference answer; or
            ``both``: what either has is not made up, and the recall is of the target's.
        number_words: Whether English words for numbers count.
        target_column: A column of the rows whose texts are the targets, where what is learnt says more than its facts.
            None: the targets that are given.
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Returns of ``compute``:
        A dict of scalars: ``number_precision`` and ``number_recall``.

    Raises:
        ValueError: If ``against`` is something else, or is ``source`` and there is a ``target_column``.

    Example:
        >>> metric = NumberFidelity()
        >>> metric.update(preds=["It took 3 days and 1,000 men."], source=["a thousand men, 3 days, 2 ships, 1 king"])
        >>> {name: value.item() for name, value in metric.compute().items()}
        {'number_precision': 100.0, 'number_recall': 50.0}
    """

    higher_is_better = True
    what = "number"

    def __init__(
        self,
        against: Against = "source",
        number_words: bool = True,
        target_column: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(against, target_column, [number_words], **kwargs)
        self.number_words = number_words

    def matching(self, pred: str, known: str) -> tuple[int, int, int, int]:
        """The counts of different numbers."""
        both, told, there = matching_numbers(pred, known, self.number_words)
        return both, told, both, there


class EntityFidelity(SourceFidelity):
    """Precision and recall of the names in texts against their sources, from 0 to 100; higher is more faithful.

    Precision: the share of a text's names that its source has as whole words, in any case; what is missing was
    made up. Recall: the share of the source's names that the text has. A name counts once a text, and the shares
    are of all texts' names together. What a name is tells :func:`~lit_fed.metrics.entities_in`, a rule by capitals, or
    a recogniser that is given instead.

    A text without names made none up, and adds to recall alone; so does an empty one. NaN (nothing to tell): the
    precision where no text has a name, the recall where no source has one.

    Args:
        against: What the names are compared with: ``source``, the context; ``target``, the reference answer; or
            ``both``: what either has is not made up, and the recall is of the target's.
        entities: Gives a text's names, for instance by a model that recognises them; in YAML, the path of a
            function. None: :func:`~lit_fed.metrics.entities_in`.
        target_column: As for :class:`NumberFidelity`.
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Returns of ``compute``:
        A dict of scalars: ``entity_precision`` and ``entity_recall``.

    Raises:
        TypeError: If ``entities`` is no function.
        ValueError: If ``against`` is something else, or is ``source`` and there is a ``target_column``.

    Example:
        >>> metric = EntityFidelity()
        >>> metric.update(preds=["There Ann met Bob."], source=["In Paris, Ann and Carl met."])
        >>> {name: round(value.item(), 1) for name, value in metric.compute().items()}
        {'entity_precision': 50.0, 'entity_recall': 33.3}
    """

    higher_is_better = True
    what = "entity"

    def __init__(
        self,
        against: Against = "source",
        entities: Callable[[str], Collection[str]] | None = None,
        target_column: str | None = None,
        **kwargs: Any,
    ) -> None:
        given = entities_in if entities is None else entities
        if not callable(given):
            raise TypeError(
                f"`entities` is expected to be a function of a text, but got {type(given).__name__}"
            )
        super().__init__(against, target_column, [identity(given)], **kwargs)
        self.entities = given

    def matching(self, pred: str, known: str) -> tuple[int, int, int, int]:
        """The counts of different names."""
        return matching_entities(pred, known, self.entities)
