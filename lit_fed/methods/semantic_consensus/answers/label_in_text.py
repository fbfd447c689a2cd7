"""Label in a text: which of a few labels an answer in free words means."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from lit_fed.methods.semantic_consensus.bounding import with_few_marks
from lit_fed.methods.semantic_consensus.same_answer import normalised

# Thai, Lao, Burmese, Khmer, Japanese and Chinese have no end of a word to be seen, and Korean words go on with endings.
_WITHOUT_ENDS: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3130-\u318f\u3400-\u4dbf"
    "\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
# Marks are no word characters of the module re: accents, Hebrew and Arabic vowels, and those of Indian scripts.
_MARKS: Final = "\u0300-\u036f\u0591-\u05bd\u05bf-\u05c7\u064b-\u065f\u0900-\u0963\u0971-\u0dff"
# As many characters as an endpoint's reply has bytes at most; a function's answer may have millions.
_READ: Final = 65_536
_LETTER: Final = f"(?:[^\\W_{_WITHOUT_ENDS}]|[{_MARKS}])"


def label_in_text(text: str, names: Sequence[str]) -> str | None:
    """The label that an answer means.

    1. If the answer is a label's name, apart from case, width, blanks and punctuation around it, it is that label.
    2. Else, if the names of labels that stand in it as words of their own are one and the same, it is that label. A
       name within a longer one, such as "good" in "very good", does not count where the longer one stands.
    3. Else it is no label, as where it weighs two of them.

    What is said about the name is not understood: "not good" means good. Of an answer the first 65,536 characters are
    read, with at most 30 marks on each.

    Args:
        text: The answer.
        names: The labels' names, which differ in more than case, blanks and punctuation.

    Returns:
        One of ``names``; None where the answer means none.

    Example:
        >>> names = ["good", "bad", "very good"]
        >>> label_in_text(" GOOD! ", names), label_in_text("I'd say it is very good.", names)
        ('good', 'very good')
        >>> label_in_text("Is it good or bad?", names), label_in_text("It is goodish.", names)
        (None, None)
    """
    known = {normalised(name): name for name in names}
    said = normalised(with_few_marks(text[:_READ]))
    if said in known:
        return known[said]
    longest_first = sorted(known, key=len, reverse=True)
    one_of = "|".join(map(re.escape, longest_first))
    # nor a digit of a number with a decimal point
    words = f"(?<!{_LETTER})(?<![0-9][.,])(?:{one_of})(?!{_LETTER})(?![.,][0-9])"
    found = {match.group() for match in re.finditer(words, said)}
    return known[found.pop()] if len(found) == 1 else None
