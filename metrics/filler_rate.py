"""How many of a text's words are filler: phrases that can go and nothing is lost."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from lit_fed.metrics.running_ratio import RunningRatio
from lit_fed.metrics.text_arguments import require_texts
from lit_fed.metrics.words import words

ENGLISH_FILLERS: Final[tuple[str, ...]] = (
    # single words that strengthen or soften
    "absolutely",
    "actually",
    "basically",
    "certainly",
    "clearly",
    "definitely",
    "essentially",
    "honestly",
    "indeed",
    "just",
    "literally",
    "obviously",
    "of course",
    "quite",
    "really",
    "simply",
    "truly",
    "very",
    # what stands for "and" or "so"
    "additionally",
    "all in all",
    "furthermore",
    "in addition",
    "in conclusion",
    "in other words",
    "in summary",
    "moreover",
    "overall",
    "to sum up",
    "to summarise",
    "to summarize",
    # what announces that something is about to be said
    "as a matter of fact",
    "as mentioned",
    "as we all know",
    "as we know",
    "as you can see",
    "generally speaking",
    "it is important to note that",
    "it is important to remember that",
    "it is worth mentioning that",
    "it is worth noting that",
    "it should be noted that",
    "it's important to note that",
    "it's important to remember that",
    "it's worth mentioning that",
    "it's worth noting that",
    "keep in mind that",
    "needless to say",
    "please note that",
    # long ways to say "to", "because", "if"
    "at the end of the day",
    "at this point in time",
    "due to the fact that",
    "for the purpose of",
    "in order to",
    "in terms of",
    "the fact that",
    "when it comes to",
    # speech, and an assistant's politeness
    "feel free to",
    "great question",
    "here is",
    "here's",
    "i hope this helps",
    "i mean",
    "kind of",
    "let me know if",
    "sort of",
    "sure",
    "you know",
)
"""English fillers: a list of this project's own, since none is standard."""

CHINESE_FILLERS: Final[tuple[str, ...]] = (
    "不言而喻",
    "与此同时",
    "事实上",
    "众所周知",
    "值得一提的是",
    "值得注意的是",
    "其实",
    "十分",
    "另外",
    "可以说",
    "基本上",
    "好的",
    "实际上",
    "希望对你有所帮助",
    "希望这对你有帮助",
    "当然",
    "总体来说",
    "总的来说",
    "总而言之",
    "换句话说",
    "显然",
    "此外",
    "毫无疑问",
    "综上所述",
    "需要注意的是",
    "非常",
    "一般来说",
    "也就是说",
)
"""Chinese fillers: a list of this project's own."""


def filler_words(
    text: str, fillers: Sequence[str] = ENGLISH_FILLERS + CHINESE_FILLERS
) -> tuple[int, int]:
    """Counts the words that belong to a filler, and all words.

    Fillers are found as runs of words, from left to right, the longest first, none within another.

    Args:
        text: The text.
        fillers: The phrases.

    Returns:
        The words of fillers, and all.

    Example:
        >>> filler_words("In order to win, you really have to run.")
        (4, 9)
    """
    by_first, items = _by_first_word(tuple(fillers)), words(text)
    found = at = 0
    while at < len(items):
        starting = by_first.get(items[at], ())
        length = next((len(f) for f in starting if items[at : at + len(f)] == list(f)), 0)
        found += length
        at += max(length, 1)
    return found, len(items)


class FillerRate(RunningRatio):
    """Share of the words of all texts that belong to a filler, from 0 to 100; lower is less redundant.

    The phrases are those of ``ENGLISH_FILLERS`` and ``CHINESE_FILLERS`` of ``lit_fed.metrics.filler_rate``, of which
    single Chinese characters are words (:func:`~lit_fed.metrics.words`). A list cannot tell a filler from the same
    word in earnest, so rates are to be compared, not read.

    NaN (nothing to tell): no text has a word.

    Args:
        fillers: Other phrases. None: both lists.
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Raises:
        TypeError: If ``fillers`` is no sequence of texts.
        ValueError: If a filler has no word.

    Example:
        >>> metric = FillerRate()
        >>> metric.update(["In order to win, you really have to run.", "Run"])
        >>> metric.compute()
        tensor(40.)
    """

    higher_is_better = False
    plot_lower_bound = 0.0
    plot_upper_bound = 100.0

    def __init__(self, fillers: Sequence[str] | None = None, **kwargs: Any) -> None:
        given = ENGLISH_FILLERS + CHINESE_FILLERS if fillers is None else fillers
        self.fillers = tuple(require_texts("fillers", given))
        for filler in self.fillers:
            if not words(filler):
                raise ValueError(
                    f"`fillers` is expected to have phrases of words, but got {filler!r}"
                )
        super().__init__(self.fillers, **kwargs)

    def update(self, preds: Sequence[str]) -> None:
        """Adds texts.

        Args:
            preds: The texts.

        Raises:
            TypeError: If it is no sequence of texts.
        """
        counts = [filler_words(text, self.fillers) for text in require_texts("preds", preds)]
        self.add(sum(found for found, _ in counts), sum(total for _, total in counts))


@lru_cache(maxsize=8)
def _by_first_word(fillers: tuple[str, ...]) -> dict[str, list[tuple[str, ...]]]:
    """The words of each filler by the first, the longest first."""
    found: dict[str, list[tuple[str, ...]]] = {}
    for filler in sorted((tuple(words(filler)) for filler in fillers), key=len, reverse=True):
        found.setdefault(filler[0], []).append(filler)
    return found
