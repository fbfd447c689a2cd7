import pytest

from lit_fed.data import answer_is_right

READING = {
    "task": "reading",
    "instruction": "Who has the red cup?",
    "context": "The red cup belongs to Anna. Ben has a blue hat. Rosa is in the park.",
    "answer": "Anna",
}
COUNT = {
    "task": "reading",
    "instruction": "How many coins does Ivan own?",
    "context": "Ivan owns 12 coins. Ben owns 7 pens. Rosa is in the park.",
    "answer": "12",
}
CHINESE = {
    "task": "reading",
    "instruction": "谁在公园里？",
    "context": "公园里有安娜。大卫在车站里。朱莉喜欢吃米饭。",
    "answer": "安娜",
}
SUM = {"task": "sums", "instruction": "What is 23 + 45?", "context": "", "answer": "68"}
SORTING = {
    "task": "sorting",
    "instruction": "Sort these numbers.",
    "context": "81, 34, 70",
    "answer": "34, 70, 81",
}
REWRITING = {
    "task": "rewriting",
    "instruction": "Rewrite this text.",
    "context": "Anna gave a cup to Ivan. Rosa owns 12 pens.",
    "answer": "Ivan got a cup from Anna. The 12 pens are those of Rosa.",
    "facts": [
        ["Anna gave a cup to Ivan", "Ivan got a cup from Anna", "A cup went from Anna to Ivan"],
        [
            "Rosa owns 12 pens",
            "The 12 pens are those of Rosa",
            "There are 12 pens with Rosa",
        ],
    ],
}


@pytest.mark.parametrize(
    ("row", "response"),
    [
        (READING, "Anna"),
        (READING, "ANNA!"),
        (READING, "You ask: Who has the red cup? It is Anna."),
        (READING, "Anna, because Anna has a red cup."),
        (COUNT, "* 12"),
        (COUNT, "Ivan owns 12 coins."),
        (CHINESE, "您好，我的回答是安娜。"),
        (SUM, "68"),
        (SUM, "The sum of 23 and 45 is 68."),
        (SORTING, "34, 70, 81"),
        (SORTING, "* 34\n* 70\n* 81"),
        (SORTING, "从小到大是34、70、81。"),
        (REWRITING, "Ivan got a cup from Anna. The 12 pens are those of Rosa."),
        (REWRITING, "Yes! There are 12 pens with Rosa! A cup went from Anna to Ivan!"),
    ],
)
def test_right(row: dict[str, object], response: str) -> None:
    assert answer_is_right(row, response)


@pytest.mark.parametrize(
    ("row", "response"),
    [
        (READING, ""),
        (READING, "Who has the red cup?"),
        (READING, "Ben"),
        (READING, "Anna or Ben"),
        (READING, "Annabel"),
        (READING, "It is Anna, not David."),
        (COUNT, "It is 1 2."),
        (COUNT, "It is 120."),
        (COUNT, "12 or 7"),
        (CHINESE, "大卫"),
        (CHINESE, "安娜和大卫"),
        (SUM, "23 + 45"),
        (SUM, "168"),
        (SUM, "68, or 69"),
        (SORTING, "81, 34, 70"),
        (SORTING, "34, 70"),
        (SORTING, "34, 70, 81, 90"),
        (SORTING, "34 7 0 81"),
        (REWRITING, "Anna gave a cup to Ivan. Rosa owns 12 pens."),
        (REWRITING, "Ivan got a cup from Anna. Rosa owns 12 pens."),
        (REWRITING, "Ivan got a cup from Anna."),
        (REWRITING, "Anna got a cup from Ivan. The 12 pens are those of Rosa."),
        (REWRITING, "Ivan got a cup from Anna. The 112 pens are those of Rosa."),
        (REWRITING, "Ivan got a cup from Anna. The 12 pens are those of Rosa. Rosa likes soup."),
    ],
)
def test_wrong(row: dict[str, object], response: str) -> None:
    assert not answer_is_right(row, response)


def test_an_unknown_task() -> None:
    with pytest.raises(ValueError, match=r"task is expected to be one of .*'poetry'"):
        answer_is_right({"task": "poetry"}, "")
