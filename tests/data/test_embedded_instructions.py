from collections import Counter
from typing import get_args

import pytest
from datasets import Dataset

from lit_fed.data import EmbeddedInstructions, answer_is_right
from lit_fed.data.embedded.instructions import (
    INSTRUCTION_TASKS,
    InstructionSplit,
    instruction_world,
)

SPLITS: tuple[InstructionSplit, ...] = get_args(InstructionSplit)


@pytest.fixture(scope="module")
def rows() -> dict[str, Dataset]:
    return {split: EmbeddedInstructions(split, size=800).load() for split in SPLITS}


@pytest.mark.parametrize("split", SPLITS)
def test_columns_and_equally_many_rows_of_each_task(rows: dict[str, Dataset], split: str) -> None:
    assert rows[split].column_names == [
        "instruction",
        "context",
        "response",
        "task",
        "author",
        "style",
        "language",
        "answer",
        "facts",
    ]
    assert Counter(rows[split]["task"]) == dict.fromkeys(INSTRUCTION_TASKS, 200)


def test_rows_depend_on_the_seed_alone(rows: dict[str, Dataset]) -> None:
    again = EmbeddedInstructions("test", size=800).load()
    assert again.to_list() == rows["test"].to_list()
    assert EmbeddedInstructions("test", size=800, seed=1).load().to_list() != again.to_list()


def instance(row: dict[str, str], to_english: dict[str, str]) -> str:
    """What a row is about, found by other means than the generator's: its words and figures in English."""
    if row["task"] in ("sums", "sorting"):
        text = row["context"] or row["instruction"]
        for mark in "、,.?？。":
            text = text.replace(mark, " ")
        numbers = [c if c.isdigit() else " " for c in text]
        return f"{row['task']} {sorted(''.join(numbers).split())}"
    text = row["context"]
    for chinese, english in to_english.items():
        text = text.replace(chinese, f" {english} ")
    english = set(to_english.values())
    sentences = text.replace("。", ".").split(".")
    known = [sorted(w for w in s.split() if w in english or w.isdigit()) for s in sentences]
    return f"{row['task']} {sorted(known)}"


def test_no_instance_is_in_two_splits_under_other_sizes_and_seeds() -> None:
    words = (word for group in instruction_world().words.values() for word in group)
    to_english = {word["zh"]: word["en"] for word in words}
    seen = {
        split: {
            instance(row, to_english)
            for row in EmbeddedInstructions(split, size=size, seed=seed).load()
        }
        for seed, (split, size) in enumerate(
            {"train": 1500, "validation": 600, "test": 1000, "public": 1500}.items()
        )
    }
    for split in SPLITS:
        for other in SPLITS:
            if split != other:
                assert not seen[split] & seen[other]


@pytest.mark.parametrize("split", SPLITS)
def test_no_prompt_is_twice_in_a_split(rows: dict[str, Dataset], split: str) -> None:
    prompts = list(zip(rows[split]["instruction"], rows[split]["context"], strict=True))
    assert len(prompts) == len(set(prompts))


def test_each_client_has_one_style_and_does_each_task(rows: dict[str, Dataset]) -> None:
    world = instruction_world()
    train = EmbeddedInstructions("train").load()
    styles = set(zip(train["author"], train["style"], strict=True))
    assert styles == {(author.name, author.style.name) for author in world.authors}
    assert len(styles) == len({style for _, style in styles}) == 10
    assert len(set(zip(train["author"], train["task"], strict=True))) == 40
    chinese = {row["author"] for row in train if row["language"] == "zh"}
    assert chinese == {"Jing"}


def test_public_rows_are_mostly_neutral_which_no_client_is(rows: dict[str, Dataset]) -> None:
    public = Counter(rows["public"]["style"])
    assert 0.7 < (public["neutral"] + public["neutral_chinese"]) / 800 < 0.9
    assert set(public) == set(instruction_world().styles)
    assert set(rows["public"]["author"]) == {"public"}
    assert not {"neutral", "neutral_chinese"} & set(rows["train"]["style"])


def test_languages_are_not_mixed(rows: dict[str, Dataset]) -> None:
    for data in rows.values():
        for row in data:
            text = row["instruction"] + row["context"] + row["response"]
            chinese = any("\u4e00" <= c <= "\u9fff" for c in text)
            assert chinese == (row["language"] == "zh")
            assert chinese != any(c.isascii() and c.isalpha() for c in text)


def test_the_response_of_every_style_is_right(rows: dict[str, Dataset]) -> None:
    for split, data in rows.items():
        met = {(row["style"], row["task"]) for row in data}
        expected = 48 if split == "public" else 40
        assert len(met) > 0.9 * expected
        for row in data:
            assert answer_is_right(row, row["response"]), row
            assert answer_is_right(row, row["answer"]), row
            assert answer_is_right(row, row["response"].upper()), row


def test_the_response_to_another_row_is_wrong(rows: dict[str, Dataset]) -> None:
    for task in INSTRUCTION_TASKS:
        data = rows["test"].filter(lambda row, task=task: row["task"] == task)
        answers = data["answer"][1:] + data["answer"][:1]
        wrong = [
            not answer_is_right(row, answer)
            for row, answer in zip(data, answers, strict=True)
            if row["answer"] != answer
        ]
        assert all(wrong)


def test_no_word_is_twice_nor_part_of_another() -> None:
    words = [word for group in instruction_world().words.values() for word in group]
    assert len({word["en"].lower() for word in words}) == len(words)
    chinese = [word["zh"] for word in words]
    assert all(sum(one in other for other in chinese) == 1 for one in chinese)


def test_a_task_can_be_drawn_alone() -> None:
    assert set(EmbeddedInstructions("public", 50, tasks=["sums"]).load()["task"]) == {"sums"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "dev"}, r"split is expected to be one of \('train', .*, but got 'dev'"),
        ({"size": 3}, "size is expected to be at least 4, one row a task, but got 3"),
        ({"tasks": ["idioms"]}, r"tasks is expected to name one or more of .*got \['idioms'\]"),
        ({"tasks": []}, r"tasks is expected to name one or more of .*got \[\]"),
        ({"tasks": ["sums", "sums"]}, "each once"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EmbeddedInstructions(**arguments)  # type: ignore[arg-type]


def test_more_rows_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lit_fed.data.embedded_instructions._PATIENCE", 5)
    source = EmbeddedInstructions("validation", size=5000, tasks=["sums"])
    with pytest.raises(
        ValueError, match=r"size is expected to be at most about \d+ .*'validation'.*but got 5000"
    ):
        source.load()
