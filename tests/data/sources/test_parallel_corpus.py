import re

import pytest
from datasets import Dataset

from lit_fed.data.sources.parallel_corpus import author_regex, distinct_pairs


def test_a_sentence_that_repeats_stays_the_first_time_only() -> None:
    rows = Dataset.from_dict(
        {
            "en": ["Hi.", "Hi. ", "Hello.", "Go!", "Run!"],
            "zh": ["嗨。", "你好。", "你好。", "走！", "走！"],
            "by": ["#1 (a)", "#2 (b)", "#3 (c)", "#4 (d e)", "#5 (f)"],
        }
    )
    pairs = distinct_pairs(rows, "en", "zh", "by", author_regex(r"\((.+)\)$"))
    # 你好 would translate Hi as well as Hello, so it is nowhere.
    assert pairs.texts == ["Hi.", "Go!"]
    assert pairs.translations == ["嗨。", "走！"]
    assert pairs.authors == ["a", "d e"]
    assert distinct_pairs(rows, "en", "zh", "by").authors == ["#1 (a)", "#4 (d e)"]
    assert distinct_pairs(rows, "en", "zh").authors == ["", ""]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"zh": ["x"]}, r"`text` is expected to name a column of `source`, but got 'en'"),
        ({"en": ["x"]}, r"`translation` is expected to name a column of `source`, but got 'zh'"),
        (
            {"en": ["x", " "], "zh": ["x", "y"]},
            r"`text` is expected to name a column of texts, but 'en' has ' ' in row 1",
        ),
        (
            {"en": ["x"], "zh": [[3]]},
            r"`translation` is expected .*, but 'zh' has list \[3\] in row 0",
        ),
        (
            {"en": ["x"], "zh": ["y"], "by": ["#1"]},
            r"`author_pattern` '\\\\\((.*)' is expected to find an author in every row, but finds "
            r"none in '#1'",
        ),
    ],
)
def test_bad_corpora(columns: dict[str, list[object]], message: str) -> None:
    author = "by" if "by" in columns else None
    with pytest.raises(ValueError, match=message):
        distinct_pairs(Dataset.from_dict(columns), "en", "zh", author, re.compile(r"\((.+)\)"))


def test_bad_patterns() -> None:
    with pytest.raises(ValueError, match=r"`author_pattern` is expected to be a regular expres"):
        author_regex("(")
    with pytest.raises(ValueError, match=r"`author_pattern` is expected to have a group .* '\.\*'"):
        author_regex(".*")
