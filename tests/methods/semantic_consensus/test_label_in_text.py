"""Which label an answer in free words means."""

from __future__ import annotations

import time

import pytest

from lit_fed.methods.semantic_consensus.answers.label_in_text import label_in_text

NAMES = ["good", "bad", "very good", "déjà vu", "好", "坏", "1", "15"]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("good", "good"),
        ("  *Good*. ", "good"),
        ("ＧＯＯＤ", "good"),
        ("The answer is: good\nSince it is kind.", "good"),
        ("good, really good", "good"),
        ("very  good", "very good"),
        ("It is very good.", "very good"),
        ("very good, and good", None),
        ("good or bad", None),
        ("goodness", None),
        ("forgood", None),
        ("", None),
        ("...", None),
        ("I cannot tell", None),
        ("Déjà Vu!", "déjà vu"),
        ("这部电影很好。", "好"),
        ("不好也不坏", None),
        ("label 1", "1"),
        ("15", "15"),
        ("It is 1.5 or 2,15 or 115", None),
        ("not good", "good"),
        ("good" * 100_000, None),
        ("(.*)+" * 10_000, None),
    ],
)
def test_by_the_rule(text: str, label: str | None) -> None:
    assert label_in_text(text, NAMES) == label


@pytest.mark.parametrize(
    "text",
    ["a" + "\u0301\u0323" * 250_000, "." * 10**6, "a\u0301 " * 300_000],
    ids=["marks", "points", "accents"],
)
def test_a_megabyte_costs_no_megabyte_of_work(text: str) -> None:
    started = time.process_time()
    assert label_in_text(text, NAMES) is None
    assert label_in_text(f"good{text}", ["good", "bad"]) in (None, "good")
    assert time.process_time() - started < 0.1, "for both"


def test_names_are_given_back_as_they_are_written() -> None:
    assert label_in_text("i mean YES", ["Yes!", "No."]) == "Yes!"
    assert label_in_text("c", ["C++", "C"]) == "C"
    assert label_in_text("I would take C++ here", ["C++", "Java"]) == "C++"


@pytest.mark.parametrize(
    ("text", "names", "label"),
    [
        ("интернет", ["да", "нет"], None),
        ("Я думаю, что нет.", ["да", "нет"], "нет"),
        ("всегда", ["да", "нет"], None),
        ("είναι", ["ναι", "όχι"], None),
        ("Λέω ναι!", ["ναι", "όχι"], "ναι"),
        ("سلام", ["لا", "نعم"], None),
        ("הכול אמיתי", ["אמת", "אמיתי"], "אמיתי"),
        ("नाना", ["न", "हाँ"], None),
        ("मैं कहता हूँ, हाँ।", ["न", "हाँ"], "हाँ"),
        ("բայց", ["այ", "ոչ"], None),
        ("label_нет", ["да", "нет"], "нет"),
        ("ฉันคิดว่าดีมาก", ["ดี", "แย่"], "ดี"),
        ("とても良いです", ["良い", "悪い"], "良い"),
        ("긍정입니다.", ["긍정", "부정"], "긍정"),
    ],
)
def test_words_of_other_alphabets_end_where_their_letters_do(
    text: str, names: list[str], label: str | None
) -> None:
    assert label_in_text(text, names) == label
