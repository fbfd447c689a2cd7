"""What the leak filter takes back, and what it leaves alone."""

from __future__ import annotations

import pytest

from lit_fed.data import answer_is_right
from lit_fed.methods.rewriting import LeakFilter, NoFilter
from lit_fed.methods.rewriting.checkable_answer import keeps_answer
from lit_fed.methods.rewriting.filters import Candidate
from lit_fed.methods.rewriting.rewriting import HINT

REQUEST = HINT.format(reference="")
LEAKS = [
    "The reference answer says that it rains.",
    "My own response: it rains.",
    "Based on the reference, it rains.",
    "Here is it in my own words: it rains.",
    "Here is a rewritten answer: it rains.",
    "Reference: it rains.",
    "请看参考答案：下雨。",
    "这是我自己的回答：下雨。",
]
REPEATS = [
    "Take the reference answer as a guide and it rains.",
    "I write your own response to that: it rains.",
    "It rains. GIVE the response alone!",
]
CLEAN = [
    "It rains.",
    "The answer is that it rains, as the text says.",
    "According to the provided text it rains; the guide to the town says so as well.",
    "He gave the book back, with a guide to the town.",
    "下雨。",
]


def candidate(
    text: str, reference: str = "It rains.", prompt: str = "How is the weather?"
) -> Candidate:
    return Candidate(text, reference, {}, prompt, REQUEST)


@pytest.mark.parametrize("text", LEAKS)
def test_what_speaks_of_the_rewriting_is_a_leak(text: str) -> None:
    assert LeakFilter().reason(candidate(text)) == "leak"
    assert NoFilter().reason(candidate(text)) is None


@pytest.mark.parametrize("text", REPEATS)
def test_what_repeats_the_request_is_taken_back(text: str) -> None:
    assert LeakFilter().reason(candidate(text)) in ("repeats", "leak")


def test_words_of_the_request_that_the_row_itself_has_are_no_repetition() -> None:
    text = "Give the response alone, and at once."
    assert LeakFilter().reason(candidate(text)) == "repeats"
    assert LeakFilter().reason(candidate(text, prompt="Say: give the response alone!")) is None
    assert LeakFilter().reason(candidate(text, reference="Give the response alone.")) is None


@pytest.mark.parametrize("text", CLEAN)
def test_what_answers_is_left_alone(text: str) -> None:
    assert LeakFilter().reason(candidate(text)) is None


def test_words_that_the_row_has_itself_are_no_leak() -> None:
    leak = LeakFilter()
    text = "Here is the rewritten text: it is wet."
    assert leak.reason(candidate(text)) == "leak"
    assert leak.reason(candidate(text, prompt="Rewrite this: it rains.")) is None
    assert leak.reason(candidate(text, prompt="Say this in other words.")) is None
    assert leak.reason(candidate(text, reference="The rewritten text: it rains.")) is None
    repeated = "Take the reference as a guide."
    asked = candidate(repeated, prompt="Say: take the reference as a guide.")
    assert leak.reason(asked) is None


@pytest.mark.parametrize(
    ("reference", "kept", "lost"),
    [
        ("42", "It is 42.", "It is 24."),
        ("#### 1,250", "In all 1250 of them.", "In all 125 of them."),
        ("So the answer is 3.50.", "3.5 it is.", "35 it is."),
        (r"Hence \boxed{7}", "7", "17"),
        ("B", "I choose B.", "I choose A."),
        ("(C) the moon", "(C), the moon", "The moon."),
        ("D. The moon", "D, the moon", "The moon."),
        ("A. X-rays", "It is A.", "X-rays."),
        ("yes", "Yes, it is.", "It is."),
        ("False", "That is false.", "That is true."),
        ("是", "是，没错", "没错"),
        ("Use this:\n```\nx = 1\n```", "```\ny = 1\n```", "Set x to 1."),
    ],
)
def test_an_answer_that_can_be_checked_is_to_be_kept(reference: str, kept: str, lost: str) -> None:
    assert keeps_answer(reference, kept)
    assert not keeps_answer(reference, lost)
    assert LeakFilter().reason(candidate(lost, reference)) == "answer"
    assert LeakFilter().reason(candidate(kept, reference)) is None


@pytest.mark.parametrize(
    "reference",
    [
        "A day in 1999 at sea.",
        "It costs 3 or 4.",
        "Yes, we went there.",
        "Anna",
        "",
        "D. H. Lawrence",
        "F. Hoffmann-La Roche",
        "E. M. Forster wrote it.",
    ],
)
def test_other_answers_are_kept_by_every_text(reference: str) -> None:
    assert keeps_answer(reference, "Something else.")


def test_a_judge_decides_where_the_reference_is_right() -> None:
    row = {"task": "sums", "instruction": "What is 23 + 45?", "answer": "68"}
    leak = LeakFilter(answer_is_right)

    def reason(text: str, reference: str) -> str | None:
        return leak.reason(Candidate(text, reference, row, row["instruction"], REQUEST))

    assert reason("It is 86.", "Yes! It is 68!") == "answer"
    assert reason("23 + 45 = 68.", "Yes! It is 68!") is None
    assert reason("It is 86.", "It is 80!") is None  # there was no right answer to lose


def test_a_judge_has_to_be_a_function() -> None:
    with pytest.raises(TypeError, match=r"filter\.judge` is expected to be a function"):
        LeakFilter("lit_fed.data.answer_is_right")  # type: ignore[arg-type]
