"""Filters of rewritings: where the reference takes its rewriting's place."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from lit_fed.methods.rewriting.checkable_answer import keeps_answer

Judge = Callable[[Mapping[str, Any], str], bool]

_ABOUT_REWRITING: Final = tuple(
    (re.compile(told, re.IGNORECASE), re.compile(excused or told, re.IGNORECASE))
    for told, excused in (
        (
            r"\b(?:reference|example|provided|given|original|sample) (?:answer|response|reply)s?\b",
            "",
        ),
        (r"\b(?:my|your) own (?:answer|response|reply|version|words)\b", ""),
        (r"\bin (?:my|your) words\b", ""),
        (r"\b(?:according to|based on|as in|following|using) the reference\b", ""),
        (r"\breference ?:", ""),
        (
            r"\b(?:(?:re-?(?:written|worded|phrased)|paraphrased|revised) (?:answer|response|version|text)"
            r"|(?:re-?(?:writing|wording|phrasing)|paraphras(?:e|ing)) of)\b",
            r"\b(?:re-?(?:writ|wrote|word|phras)|paraphras|revis|other words|another way)",
        ),
        (r"参考(?:答案|回答|答复)|参考：", ""),
        (r"(?:我|你|您)?自己的(?:回答|答案|话)", ""),
        (r"(?:改写|重写)后的", r"改写|重写|换一种说法|另一种方式"),
    )
)
"""What speaks of the rewriting, and what in the row itself excuses it; where nothing is said, the same."""

_WORDS: Final = re.compile(r"[a-z0-9]+(?:'[a-z]+)?|[\u4e00-\u9fff]", re.IGNORECASE)
_PHRASE: Final = 4


@dataclass(frozen=True)
class Candidate:
    """A rewriting before it takes its reference's place.

    Attributes:
        text: The rewriting ỹ, not blank.
        reference: The reference y.
        row: The row, all its columns by name.
        prompt: What the row asks for, as the encoding words it.
        request: What the model was asked beside that, without the reference.
        ended: Whether the model has come to an end; else the rewriting is broken off at ``max_new_tokens``.
    """

    text: str
    reference: str
    row: Mapping[str, Any]
    prompt: str
    request: str
    ended: bool = True


class RewritingFilter(ABC):
    """Decides where the reference y takes its rewriting's place.

    Attributes:
        reasons: Every reason that it may give, one word each.
    """

    reasons: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def reason(self, candidate: Candidate) -> str | None:
        """Why a rewriting is not to be trained on, one of :attr:`reasons`; None where it is.

        Args:
            candidate: The rewriting and all that belongs to it.
        """


class NoFilter(RewritingFilter):
    """Every rewriting is trained on, whatever it says and also where it is broken off: the Rewrite Paradox's arm.

    Example:
        >>> NoFilter().reason(Candidate("Reference answer: 4", "4", {}, "2 + 2?", "")) is None
        True
    """

    def reason(self, candidate: Candidate) -> str | None:
        """None, always."""
        return None


class LeakFilter(RewritingFilter):
    """Back to the reference where a rewriting is broken off, shows that it is one, or has lost the answer.

    The filter of Yang et al., "Self-Distillation Bridges Distribution Gap in Language Model Fine-Tuning", 2024,
    https://arxiv.org/abs/2402.13669, whose code looks for a few phrases and for lost numbers and code. Reasons:

    - ``cut``: the model was broken off at ``max_new_tokens``: who learns that would end in mid-sentence.
    - ``leak``: the rewriting speaks of the rewriting (“reference answer”, “my own words”, …), where neither the
      reference nor the row's prompt does.
    - ``repeats``: it repeats four words or more, or Chinese characters, of what the model was asked beside the row's
      prompt.
    - ``answer``: it has lost the answer, where that can be checked: the judge says so or, without a judge,
      :func:`~lit_fed.methods.rewriting.checkable_answer.keeps_answer`.

    Args:
        judge: Tells of a row and a text whether it is a right answer; by its import path in YAML, such as
            ``lit_fed.data.answer_is_right``. Asked only where it finds the reference right. None: numbers, choices
            and code are looked for.

    Raises:
        TypeError: If ``judge`` cannot be called.

    Example:
        >>> def candidate(text, reference="The sum is 42."):
        ...     return Candidate(text, reference, {}, "What is 40 + 2?", "Take the reference as a guide.")
        >>> leak = LeakFilter()
        >>> leak.reason(candidate("As the reference answer says, it is 42."))
        'leak'
        >>> leak.reason(candidate("I take the reference as well: 42."))
        'repeats'
        >>> leak.reason(candidate("It is 41.", reference="42")), leak.reason(candidate("40 and 2 make 42."))
        ('answer', None)
    """

    reasons: ClassVar[tuple[str, ...]] = ("cut", "leak", "repeats", "answer")

    def __init__(self, judge: Judge | None = None) -> None:
        if judge is not None and not callable(judge):
            raise TypeError(
                f"`model.rewriting.filter.judge` is expected to be a function of a row and a text, such as "
                f"lit_fed.data.answer_is_right, but got {judge!r:.80}"
            )
        self.judge = judge

    def reason(self, candidate: Candidate) -> str | None:
        """Why a rewriting is not to be trained on; see the class."""
        if not candidate.ended:
            return "cut"
        known = f"{candidate.prompt}\n{candidate.reference}"
        if any(
            told.search(candidate.text) and not excused.search(known)
            for told, excused in _ABOUT_REWRITING
        ):
            return "leak"
        asked = _phrases(candidate.request) - _phrases(known)
        if asked & _phrases(candidate.text):
            return "repeats"
        return None if self._keeps_answer(candidate) else "answer"

    def _keeps_answer(self, candidate: Candidate) -> bool:
        if self.judge is None:
            return keeps_answer(candidate.reference, candidate.text)
        row = candidate.row
        return self.judge(row, candidate.text) or not self.judge(row, candidate.reference)


def _phrases(text: str) -> set[tuple[str, ...]]:
    words = [word.lower() for word in _WORDS.findall(text)]
    return {tuple(words[i : i + _PHRASE]) for i in range(len(words) - _PHRASE + 1)}
